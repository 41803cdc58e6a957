"""The models that are timed against each other: originals, and what each tool makes of them at half the MACs.

Every model is made once and kept in a folder. All score units by the L2 norm of their weights; how many units every
layer keeps is each tool's own way. A peer's ratio is the one that comes nearest to half of the MACs.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from math import log
from pathlib import Path
from typing import Any

import onnx
from peers import optional
from zoo import quiet, torchvision_models

import graphprune as gp

MODELS = (
    "resnet50", "mobilenet_v2", "efficientnet_b0", "densenet121", "convnext_tiny", "vit_base_patch16_224",
    "resnext50_32x4d",
)  # fmt: skip
SHARE = 0.5
FASTER = 0.97
"""What "ours, timed" asks for: this part of the time that the fastest of the peers' models takes."""
OURS = ("ours", "ours, profile", "ours, timed")
PEERS = ("Torch-Pruning", "Torch-Pruning, round_to 8", "Torch-Pruning, round_to 16", "onnxsim")
STEPS = 5
NEAR = 0.01
MOST = 0.6


@dataclass(frozen=True)
class Made:
    """A model file; ``macs`` is the share of the original's MACs that is left. ``reason`` says why there is none."""

    path: Path
    macs: float
    reason: str = ""


@cache
def module_of(name: str) -> Any:
    """Return an architecture with random weights, the same every time, no two vectors alike as after training.

    Exporters merge tensors that are equal, and onnxsim's pruning fails for those.
    """
    import torch

    torch.manual_seed(0)
    models = torchvision_models()
    if name.startswith("vit"):
        import timm

        module = timm.create_model(name, pretrained=False).eval()
    else:
        module = getattr(models, name)(weights=None).eval()
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.ndim == 1:
                tensor.add_(0.1 * torch.rand_like(tensor))
    return module


def original(name: str, folder: Path) -> Path:
    """Export an architecture, unless that is done."""
    path = folder / f"{name}.onnx"
    if not path.exists():
        export(module_of(name), path)
    return path


def export(module: Any, path: Path) -> None:
    """Write a module as ONNX with batch 1, by the exporter that traces."""
    import torch

    with quiet():
        torch.onnx.export(module, (torch.zeros(1, 3, 224, 224),), path, opset_version=17, dynamo=False)


def made(name: str, variant: str, folder: Path) -> Made:
    """Return what a tool makes of an architecture, made now or before."""
    stem = f"{name}.{variant.replace(', ', '.').replace(' ', '_')}"
    path, note = folder / f"{stem}.onnx", folder / f"{stem}.json"
    if not note.exists():
        start = time.perf_counter()
        share, reason = _make(name, variant, folder, path)
        body = {"macs": share, "reason": reason, "seconds": round(time.perf_counter() - start, 1)}
        note.write_text(json.dumps(body), encoding="utf-8")
        print(f"made {stem}: {body}", flush=True)
    known = json.loads(note.read_text(encoding="utf-8"))
    return Made(path, known["macs"], known["reason"])


def _make(name: str, variant: str, folder: Path, path: Path) -> tuple[float, str]:
    start = original(name, folder)
    if variant == "ours, timed":
        limit = FASTER * min(_ratios(name, folder))
        model, report = gp.prune(start, budget=f"macs={SHARE},latency={limit:.4f}", method="l2")
        print(f"{name}: {report.latency}"[:400], flush=True)
        onnx.save(model, path)
    elif variant in OURS:
        profile = profile_of(start) if variant != "ours" else None
        model, _ = gp.prune(start, budget=f"macs={SHARE}", method="l2", profile=profile)
        onnx.save(model, path)
    elif variant == "onnxsim":
        share, model = nearest(partial(_onnxsim, start))
        if share > MOST:
            return share, f"{name}: onnxsim leaves {share:.0%} of the MACs or more"
        onnx.save(model, path)
    else:
        round_to = int(variant.rpartition(" ")[2]) if "round_to" in variant else None
        share, module = nearest(partial(_torch_pruned, name, round_to))
        if share > MOST:
            return share, f"{name}: Torch-Pruning leaves {share:.0%} of the MACs or more"
        export(module, path)
    return macs(path) / macs(start), ""


def _ratios(name: str, folder: Path) -> list[float]:
    """Time the peers' models of an architecture, one thread; return their parts of the original's time."""
    from graphprune.latency.clock import Effort, interleaved
    from graphprune.latency.inputs import inputs_for
    from graphprune.latency.machine import Machine

    start = original(name, folder)
    theirs = [m.path for m in (made(name, v, folder) for v in PEERS) if not m.reason]
    feeds = inputs_for(onnx.load(start), {})
    timing = interleaved([Machine().lap(p, feeds) for p in (start, *theirs)], Effort(seconds=10.0))
    return [timing.ratio(k).median for k in range(1, len(theirs) + 1)]


def profile_of(path: Path) -> Path:
    """Return the file with the profile of a model on this machine, one thread, measured now or before."""
    from graphprune.latency.profile import measure_profile

    file = path.with_suffix(".profile.json")
    if not file.exists():
        graph = gp.trace(path)
        measure_profile(graph, gp.couple(graph)).save(file)
    return file


@cache
def macs(path: Path) -> int:
    """Count the MACs of a model."""
    return int(gp.count(gp.trace(path))["macs"])


def nearest(make: Callable[[float], tuple[float, Any]]) -> tuple[float, Any]:
    """Return the share of the MACs and the model of the ratio that comes nearest to half.

    A share is taken to be a power of what a ratio leaves of the widths; the power is read off the last model.
    """
    ratio, found = 0.3, []
    for _ in range(STEPS):
        found.append(make(ratio))
        share = min(found[-1][0], 0.99)
        if abs(share - SHARE) < NEAR:
            break
        ratio = min(1 - (1 - ratio) ** (log(SHARE) / log(share)), (1 + ratio) / 2)
    return min(found, key=lambda one: abs(one[0] - SHARE))


@cache
def _simplified(path: Path) -> Any:
    """Return what onnxsim makes of a model first: its pruning knows more of the patterns then."""
    return optional("onnxsim").simplify(onnx.load(path))[0]


def _onnxsim(path: Path, sparsity: float) -> tuple[float, Any]:
    model = optional("onnxsim").apply_structured_pruning(_simplified(path), sparsity=sparsity)
    return float(gp.count(gp.trace(model))["macs"]) / macs(path), model


def _torch_pruned(name: str, round_to: int | None, ratio: float) -> tuple[float, Any]:
    """Prune by the group's L2 norm, evenly in all layers; heads of attention are told by hand, as it wants them."""
    import torch

    peer, module = optional("torch_pruning"), copy.deepcopy(module_of(name))
    ends = [m for m in module.modules() if getattr(m, "out_features", None) == 1000]
    heads = {m.qkv: m.num_heads for m in module.modules() if hasattr(m, "qkv") and hasattr(m, "num_heads")}
    for m in module.modules():
        if hasattr(m, "fused_attn"):
            m.fused_attn = False
    with quiet():
        pruner = peer.pruner.MagnitudePruner(
            module, torch.zeros(1, 3, 224, 224), peer.importance.GroupMagnitudeImportance(p=2), pruning_ratio=ratio,
            ignored_layers=ends, round_to=round_to, num_heads=heads,
        )  # fmt: skip
        pruner.step()
    for m in module.modules():
        if m.__class__.__name__ == "Attention" and m.qkv in pruner.num_heads:
            m.num_heads = pruner.num_heads[m.qkv]
            m.head_dim = m.qkv.out_features // (3 * m.num_heads)
            m.attn_dim = m.num_heads * m.head_dim
            m.scale = m.head_dim**-0.5
    with quiet():
        counted = peer.utils.count_ops_and_params(module, torch.zeros(1, 3, 224, 224))[0]
    return float(counted / _torch_macs(name)), module


@cache
def _torch_macs(name: str) -> float:
    import torch

    with quiet():
        counted = optional("torch_pruning").utils.count_ops_and_params
        return float(counted(module_of(name), torch.zeros(1, 3, 224, 224))[0])
