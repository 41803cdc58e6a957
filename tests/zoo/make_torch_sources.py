"""Where the torch models of the zoo come from: timm, transformers and torchvision, small and with random weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

Made = tuple[Any, tuple[Tensor, ...]]

TIMM = """
efficientnet_lite0 mixnet_s hardcorenas_a resnest14d res2net50_26w_4s dla34 hrnet_w18_small cspresnet50 repvgg_a0
mobileone_s0 edgenext_xx_small fastvit_t8 efficientformer_l1 efficientvit_b0 xcit_nano_12_p8_224 gcvit_xxtiny davit_tiny
twins_svt_small cait_xxs24_224 crossvit_tiny_240 pit_ti_224 convit_tiny tnt_s_patch16_224 sequencer2d_s gmlp_ti16_224
visformer_tiny eca_nfnet_l0 hgnetv2_b0 rexnet_100 ese_vovnet19b_dw dpn48b skresnet18 mobilenetv4_conv_small starnet_s1
repvit_m0_9 mambaout_femto coat_tiny mvitv2_tiny swinv2_tiny_window8_256 hiera_tiny_224 bat_resnext26ts halonet26t
botnet26t_256 nf_regnet_b0 legacy_seresnet18 selecsls42b convmixer_768_32 resmlp_12_224 nest_tiny efficientvit_m0
""".split()  # noqa: SIM905


def of_timm(name: str) -> Made:
    import timm

    model = timm.create_model(name, pretrained=False, num_classes=100, exportable=True)
    return model, (torch.rand(1, *model.default_cfg["input_size"]),)


class Picked(nn.Module):
    """A transformer that gives some of its outputs as a tuple."""

    def __init__(self, model: nn.Module, takes: tuple[str, ...], gives: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.takes, self.gives = model, takes, gives

    def forward(self, *values: Tensor) -> Any:
        out = self.model(**dict(zip(self.takes, values, strict=True)), **FIXED.get(type(self.model).__name__, {}))
        found = tuple(out[name] for name in self.gives)
        return found if len(found) > 1 else found[0]


FIXED = {"MambaForCausalLM": {"use_cache": False}}
SMALL = {"vocab_size": 600, "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
         "attn_implementation": "eager"}  # fmt: skip
WIDE = {**SMALL, "intermediate_size": 256}
CAUSAL = {**WIDE, "max_position_embeddings": 128, "use_cache": False}
IMAGE = {k: v for k, v in WIDE.items() if k != "vocab_size"} | {"image_size": 64, "patch_size": 16}

TRANSFORMERS: dict[str, tuple[str, dict[str, Any]]] = {
    "roberta": ("RobertaForSequenceClassification", WIDE),
    "electra": ("ElectraForSequenceClassification", {**WIDE, "embedding_size": 64}),
    "albert": ("AlbertForSequenceClassification", {**WIDE, "embedding_size": 64}),
    "mobilebert": ("MobileBertForSequenceClassification", {**SMALL, "embedding_size": 48, "intra_bottleneck_size": 64,
                   "intermediate_size": 128}),
    "deberta_v2": ("DebertaV2ForSequenceClassification", {**WIDE, "relative_attention": True,
                   "pos_att_type": ["p2c", "c2p"], "max_relative_positions": 32}),
    "mpnet": ("MPNetForSequenceClassification", WIDE),
    "squeezebert": ("SqueezeBertForSequenceClassification", {**WIDE, "embedding_size": 96}),
    "opt": ("OPTForCausalLM", {**SMALL, "ffn_dim": 256, "word_embed_proj_dim": 96, "max_position_embeddings": 128}),
    "gpt_neox": ("GPTNeoXForCausalLM", CAUSAL),
    "gptj": ("GPTJForCausalLM", {"vocab_size": 600, "n_embd": 96, "n_layer": 2, "n_head": 4, "rotary_dim": 8,
             "n_positions": 128, "attn_implementation": "eager"}),
    "bloom": ("BloomForCausalLM", {"vocab_size": 600, "hidden_size": 96, "n_layer": 2, "n_head": 4}),
    "falcon": ("FalconForCausalLM", {**SMALL, "new_decoder_architecture": False, "multi_query": True}),
    "mistral": ("MistralForCausalLM", {**CAUSAL, "num_key_value_heads": 2}),
    "qwen2": ("Qwen2ForCausalLM", {**CAUSAL, "num_key_value_heads": 2}),
    "qwen3": ("Qwen3ForCausalLM", {**CAUSAL, "num_key_value_heads": 2, "head_dim": 24}),
    "gemma": ("GemmaForCausalLM", {**CAUSAL, "num_key_value_heads": 1, "head_dim": 24}),
    "phi": ("PhiForCausalLM", CAUSAL),
    "phi3": ("Phi3ForCausalLM", {**CAUSAL, "pad_token_id": 0}),
    "vit": ("ViTForImageClassification", IMAGE),
    "dinov2": ("Dinov2ForImageClassification", {**IMAGE, "mlp_ratio": 2}),
    "segformer": ("SegformerForSemanticSegmentation", {"hidden_sizes": [16, 32, 64, 96], "depths": [1, 1, 1, 1],
                  "decoder_hidden_size": 64, "num_labels": 5, "attn_implementation": "eager"}),
    "mobilevit": ("MobileViTForImageClassification", {"hidden_sizes": [32, 48, 64], "image_size": 64,
                  "neck_hidden_sizes": [8, 16, 24, 32, 48, 64, 96]}),
    "yolos": ("YolosForObjectDetection", {**IMAGE, "image_size": [64, 64], "num_detection_tokens": 10}),
    "resnet": ("ResNetForImageClassification", {"embedding_size": 16, "hidden_sizes": [32, 48, 64, 96],
               "depths": [1, 1, 1, 1]}),
    "sam_vision": ("SamVisionModel", {**IMAGE, "num_channels": 3, "output_channels": 32, "window_size": 2,
                   "global_attn_indexes": [1], "num_pos_feats": 16, "mlp_dim": 192}),
    "bart": ("BartForConditionalGeneration", {"vocab_size": 600, "d_model": 96, "encoder_layers": 2,
             "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 256,
             "decoder_ffn_dim": 256, "max_position_embeddings": 64, "use_cache": False,
             "attn_implementation": "eager"}),
}  # fmt: skip


def of_transformers(name: str) -> Made:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    kind, options = TRANSFORMERS[name]
    cls = getattr(transformers, kind)
    model = cls(cls.config_class(**options))
    if name == "bart":
        ids = torch.randint(3, 600, (2, 12))
        return Picked(model, ("input_ids", "decoder_input_ids"), ("logits",)), (ids, ids[:, :7])
    if model.main_input_name == "pixel_values":
        gives = {"yolos": ("logits", "pred_boxes"), "sam_vision": ("last_hidden_state",)}.get(name, ("logits",))
        return Picked(model, ("pixel_values",), gives), (torch.rand(1, 3, 64, 64),)
    ids = torch.randint(3, 600, (2, 16))
    return Picked(model, ("input_ids", "attention_mask"), ("logits",)), (ids, torch.ones_like(ids))


DETECTION = {
    "ssd300_vgg16": 300,
    "ssdlite320_mobilenet_v3_large": 320,
    "fasterrcnn_mobilenet_v3_large_320_fpn": 320,
    "maskrcnn_resnet50_fpn": 320,
    "fcos_resnet50_fpn": 320,
}


class Detector(nn.Module):
    """A detector of torchvision on one image: boxes, scores and labels after suppression."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model([x])[0].values())


def of_detection(name: str) -> Made:
    import torchvision

    size = DETECTION[name]
    options = {"min_size": size, "max_size": size} if "ssd" not in name else {}
    model = getattr(torchvision.models.detection, name)(weights=None, weights_backbone=None, num_classes=8, **options)
    return Detector(model), (torch.rand(3, size, size),)
