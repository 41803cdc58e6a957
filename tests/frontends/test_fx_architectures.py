"""Many architectures: the graph of a module and of its ONNX export give the same groups and the same costs."""

from __future__ import annotations

import pytest
import torch
from against_onnx import check_same_groups, exported, is_spare, spare
from torch.utils.flop_counter import FlopCounterMode
from torch_models import ARCHITECTURES, made

from graphprune.count import count
from graphprune.coupling import couple
from graphprune.frontends.fx import trace as fx
from graphprune.frontends.fx.capture import capture
from graphprune.frontends.fx.export import export
from graphprune.frontends.fx.program import Program, inference_mode
from graphprune.frontends.onnx import trace as onnx_frontend

ALIKE = [name for name in ARCHITECTURES if name != "lstm"]
"""Hidden units of recurrent layers are pruned in ONNX models only."""
CONVOLUTIONAL = [
    "resnet_basic",
    "resnext",
    "densenet",
    "mobilenet_v2",
    "inception",
    "unet",
    "vgg",
    "convnext",
    "regnet",
]


@pytest.mark.parametrize("name", ALIKE)
def test_a_module_and_its_export_give_the_same_groups(name: str) -> None:
    module, inputs = made(name)
    ours, theirs = check_same_groups(module, inputs)
    assert count(ours)["macs"] == count(theirs)["macs"]
    assert ours.source.program.exported is None  # captured without torch.export


@pytest.mark.slow
@pytest.mark.parametrize("name", ALIKE)
def test_an_optimised_export_gives_groups_of_the_same_sizes(name: str) -> None:
    module, inputs = made(name)
    ours = fx.trace(module, inputs)
    theirs = onnx_frontend.trace(exported(module, inputs, dynamo=True))
    for inexact in (False, True):
        sides = [couple(g, allow_inexact=inexact) for g in (ours, theirs)]
        rows = spare(sides[0])
        kinds = [sorted((g.size, g.kind, bool(g.exact)) for g in s.groups if not is_spare(g, rows)) for s in sides]
        assert kinds[0] == kinds[1]


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_macs_are_half_of_the_flops_that_torch_counts(name: str) -> None:
    module, inputs = made(name)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    assert 2 * count(fx.trace(module, inputs))["macs"] == counter.get_total_flops()


def operators(program: Program) -> list[tuple[str, object]]:
    """Every operator with its result's sizes and type, but for checks that only torch.export writes."""
    found = []
    for node in program.graph.nodes:
        if node.op == "call_function" and not str(node.target).startswith("aten._assert"):
            value = node.meta["val"]
            values = value if isinstance(value, (list, tuple)) else [value]
            found.append((str(node.target), [(tuple(v.shape), v.dtype) for v in values]))
    return found


def check_capture(name: str) -> None:
    module, inputs = made(name)
    with inference_mode(module):
        ours, theirs = capture(module, inputs, {}), export(module, inputs, {}, None)
    assert operators(ours) == operators(theirs)
    assert {o.target for o in ours.origins.values()} == {o.target for o in theirs.origins.values()}
    assert ours.in_spec == theirs.in_spec
    assert ours.out_spec == theirs.out_spec
    groups = couple(fx._assemble(module, ours, inputs, {}, None))
    assert groups.fingerprint == couple(fx._assemble(module, theirs, inputs, {}, None)).fingerprint


@pytest.mark.parametrize("name", ["resnet_basic", "shufflenet", "vit", "lstm"])
def test_a_capture_is_what_torch_export_writes(name: str) -> None:
    check_capture(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_capture_is_what_torch_export_writes(name: str) -> None:
    check_capture(name)


def test_what_stays_whole_says_why() -> None:
    module, inputs = made("lstm")
    groups = couple(fx.trace(module, inputs))
    frozen = {(f.tensor, f.axis): f.reason for f in groups.frozen}
    assert frozen["lstm.weight_hh_l0", 0] == "hidden units of LSTM are not pruned yet"
    assert frozen["embed.weight", 0] == "hidden units of LSTM are not pruned yet"
    assert [g.size for g in groups.groups] == [9]
