"""The pass. It is imported by Olive alone, as it needs Olive; tried with olive-ai 0.13."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, Union

from olive.data.config import DataConfig
from olive.model import ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.passes import Pass
from olive.passes.pass_config import PassConfigParam
from olive.search.search_parameter import Categorical

from ..data import specs_of_model
from ..errors import UsageError
from ..frontends.files.load import load
from .work import arrays_of, prune_file

OWN = ("budget", "method", "repair", "keep", "prune", "allow_inexact", "multiple", "min_width", "samples", "holdout",
       "seed", "input_shapes", "steps")  # fmt: skip
"""Parameters that are arguments of ``prune`` as they are."""


class GraphPrune(Pass):
    """Structured pruning of an ONNX model to a budget, checked against the masked original before it is written.

    With a search, ``budget`` is searched over unless it is given as one value.
    """

    @classmethod
    def _default_config(cls, accelerator_spec: Any) -> dict[str, PassConfigParam]:
        # Olive reads these types at run time, and not all that it does with them knows X | Y.
        number_or_text, texts = Union[float, str], Optional[list[str]]  # noqa: UP007, UP045
        maybe_int, maybe_float = Optional[int], Optional[float]  # noqa: UP045
        return {
            "budget": PassConfigParam(
                type_=number_or_text, default_value=0.5, search_defaults=Categorical([0.8, 0.65, 0.5, 0.35]),
                description="fraction of the multiply-accumulates to keep, or limits such as 'params=0.5,size=10MB'"),
            "data_config": PassConfigParam(
                type_=Optional[Union[DataConfig, dict]], default_value=None,  # noqa: UP007, UP045
                description="samples for methods that learn from data, for repair, and to measure what pruning cost"),
            "method": PassConfigParam(type_=str, default_value="auto", description="how units are scored"),
            "repair": PassConfigParam(
                type_=str, default_value="auto", description="auto, none, bias or least-squares"),
            "keep": PassConfigParam(type_=texts, default_value=None, description="patterns of names to protect"),
            "prune": PassConfigParam(type_=texts, default_value=None, description="kinds of units that may go"),
            "allow_inexact": PassConfigParam(
                type_=bool, default_value=False, description="also prune across normalisations"),
            "multiple": PassConfigParam(
                type_=Union[int, str], default_value="auto", description="keep widths that are multiples of it"),  # noqa: UP007
            "min_width": PassConfigParam(type_=int, default_value=1, description="units a group keeps at least"),
            "samples": PassConfigParam(type_=maybe_int, default_value=None, description="samples to look at, at most"),
            "holdout": PassConfigParam(type_=maybe_float, default_value=None, description="part to measure on"),
            "steps": PassConfigParam(type_=int, default_value=1, description="steps towards the budget"),
            "seed": PassConfigParam(type_=int, default_value=0, description="seed of all that is random"),
            "input_shapes": PassConfigParam(
                type_=Optional[dict[str, list[int]]], default_value=None,  # noqa: UP045
                description="sizes of dynamic inputs to count costs with"),
            "options": PassConfigParam(
                type_=Optional[dict[str, Any]], default_value=None,  # noqa: UP045
                description="further options of the method"),
        }  # fmt: skip

    def _run_for_config(self, model: Any, config: Any, output_model_path: str) -> ONNXModelHandler:
        if not isinstance(model, ONNXModelHandler):
            hint = "put an OnnxConversion (or another conversion to ONNX) in front of it"
            raise UsageError("not-onnx", f"GraphPrune takes ONNX models, not {type(model).__name__}", hint=hint)
        source = Path(model.model_path)
        given = {name: value for name in OWN if (value := getattr(config, name)) is not None}
        data = None if config.data_config is None else _samples(config.data_config, source)
        target = Path(resolve_onnx_path(output_model_path, source.name))
        path, *others = prune_file(source, target, data, **given, **(config.options or {}))
        attributes = {**(model.model_attributes or {})}
        attributes["additional_files"] = sorted({*attributes.get("additional_files", ()), str(others[-1])})
        return ONNXModelHandler(
            model_path=str(path.parent), onnx_file_name=path.name, inference_settings=model.inference_settings,
            use_ort_extensions=model.use_ort_extensions, model_attributes=attributes,
        )  # fmt: skip


def _samples(data_config: Any, model: Path) -> dict[str, Any]:
    """Read what a data configuration gives, by the names of the model's inputs."""
    config = data_config if isinstance(data_config, DataConfig) else DataConfig(**data_config)
    names = tuple(spec.name for spec in specs_of_model(load(model, external=False).model))
    return arrays_of(config.to_data_container().create_dataloader(), names)
