"""The two worlds behind one door: steps that an ONNX model and a torch module take in ways of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .graph import Graph
    from .groups import Groups
    from .plan import Plan
    from .verify import Verification


def rewrite(graph: Graph, plan: Plan, groups: Groups | None = None) -> Any:
    """Return a smaller model in which every group keeps only the plan's units: a ModelProto, or a torch module.

    Of a torch module the result has the user's own class wherever its forward gives the pruned function, else it is an
    fx GraphModule. ``groups`` are those the plan was made for; they are coupled again when absent. Raises PlanError
    when the plan does not belong to them.
    """
    if _is_onnx(graph):
        from .backends.onnx import rewrite as rewrite_onnx

        return rewrite_onnx(graph, plan, groups)
    from .backends.module import rewrite_module

    return rewrite_module(graph, plan, groups)


def verify(graph: Graph, groups: Groups, plan: Plan, small: Any, *, seed: int = 0) -> Verification:
    """Run the pruned model and the masked original on random inputs and compare every output.

    ONNX models run in onnxruntime, torch modules where they are. Raises VerificationError naming what differs, or what
    is said when the pruned model does not run; ModelError when the model itself does not run.
    """
    if _is_onnx(graph):
        from .verify import verify as verify_onnx

        return verify_onnx(graph, groups, plan, small, seed=seed)
    from .verify_torch import verify_module

    return verify_module(graph, groups, plan, small, seed=seed)


def _is_onnx(graph: Graph) -> bool:
    from .frontends.onnx import OnnxSource

    return isinstance(graph.source, OnnxSource)
