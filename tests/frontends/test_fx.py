"""Tracing torch modules: what they may be, how they are called, what their graph says, what is left untouched."""

from __future__ import annotations

import copy
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from against_onnx import exported
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F  # noqa: N812
from torch_models import made

from graphprune.count import count
from graphprune.coupling import couple
from graphprune.errors import GraphpruneError, ModelError, UsageError
from graphprune.frontends.fx.capture import capture
from graphprune.frontends.fx.dataless import UncapturableError
from graphprune.graph import Graph
from graphprune.worlds import trace


class Two(nn.Module):
    """Two inputs, one of them with a default."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.out = nn.Linear(4, 6), nn.Linear(3, 6), nn.Linear(6, 2)

    def forward(self, a: Tensor, b: Tensor, scale: float = 1.0, mask: Tensor | None = None) -> Tensor:
        y = torch.relu(self.left(a) + scale * self.right(b))
        return self.out(y if mask is None else y * mask)


def fingerprint(graph: Graph) -> str:
    return couple(graph).fingerprint


# What a model may be --------------------------------------------------------------------------------------------------


def test_a_tensor_a_tuple_and_a_dict_are_examples() -> None:
    module, (x,) = made("vgg")
    assert fingerprint(trace(module, x)) == fingerprint(trace(module, (x,))) == fingerprint(trace(module, {"x": x}))
    a, b, mask = torch.randn(5, 4), torch.randn(5, 3), torch.ones(6)
    graph = trace(Two(), {"b": b, "a": a, "mask": mask})
    assert sorted(graph.inputs) == ["a", "b", "mask"]
    assert trace(Two(), (a, b, 2.0)).inputs == ("a", "b")


def test_graph_modules_and_exported_programs_have_the_groups_of_the_module() -> None:
    module, inputs = made("resnet_bottleneck")
    program = torch.export.export(module, inputs)
    expected = trace(module, inputs)
    for model, example in [(torch.fx.symbolic_trace(module), inputs), (program, None)]:
        graph = trace(model, example)
        assert couple(graph).sizes.tolist() == couple(expected).sizes.tolist()
        assert count(graph) == count(expected)
        assert set(graph.source.parameters) == set(expected.source.parameters)
    assert trace(program).source.module is None


def test_a_compiled_module_is_the_module_inside() -> None:
    module, inputs = made("vgg")
    graph = trace(torch.compile(module, backend="eager"), inputs)
    assert graph.source.module is module
    assert fingerprint(graph) == fingerprint(trace(module, inputs))


def test_a_scripted_module_is_refused() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(nn.Linear(4, 2), torch.randn(3, 4))
    with pytest.raises(ModelError, match="TorchScript"):
        trace(scripted, torch.randn(3, 4))


@pytest.mark.parametrize("context", [torch.no_grad, lambda: torch.autocast("cpu", dtype=torch.bfloat16)])
def test_contexts_inside_the_forward_change_no_group(context: Any) -> None:
    class Inside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            with context():
                y = torch.relu(self.first(x))
            return self.second(y.float())

    for shapes in (None, ({0: Dim("n")},)):
        (group,) = couple(trace(Inside(), torch.randn(3, 4), dynamic_shapes=shapes)).groups
        assert group.size == 6


def test_a_program_exported_in_training_has_the_same_groups() -> None:
    module, inputs = made("resnet_basic")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        programs = [torch.export.export(module.train(), inputs)]
        programs.append(programs[0].run_decompositions())
    expected = couple(trace(module.eval(), inputs)).sizes
    for program in programs:
        assert sorted(couple(trace(program)).sizes) == sorted(expected)


def test_a_decomposed_program_has_the_same_groups() -> None:
    module, inputs = made("mobilenet_v2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decomposed = torch.export.export(module, inputs).run_decompositions()
    assert "aten.convolution.default" in {str(n.target) for n in decomposed.graph.nodes}
    graph, expected = trace(decomposed), trace(module, inputs)
    assert sorted(couple(graph).sizes) == sorted(couple(expected).sizes)
    assert count(graph)["macs"] == count(expected)["macs"]


def test_inputs_inside_containers_get_a_name_each() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(4, 2)

        def forward(self, pair: tuple[Tensor, Tensor], options: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"sum": self.out(pair[0] + pair[1]), "bias": options["bias"] * 2}

    x = torch.randn(3, 4)
    graph = trace(Nested(), ((x, x + 1), {"bias": x}))
    assert graph.inputs == ("pair_0", "pair_1", "options_bias")
    assert [graph.tensors[n].shape for n in graph.outputs] == [(3, 2), (3, 4)]


def test_axes_named_in_dynamic_shapes_follow_the_caller() -> None:
    module, (x,) = made("vit_fused")
    graph = trace(module, x, dynamic_shapes=({0: Dim("n")},))
    assert graph.tensors["x"].dynamic == (True, False, False, False)
    assert graph.source.program.exported is not None
    reasons = {f.reason for f in couple(graph).frozen}
    assert "its size follows the model's input" not in reasons  # no axis of a parameter does
    assert couple(graph).sizes.tolist() == couple(trace(module, x)).sizes.tolist()
    sizes = [n for n in graph.nodes if n.family == "value"]
    assert sizes
    for node in sizes:
        assert not graph.known[node.outputs[0]].static.any()


def test_a_dynamic_sequence_is_not_fixed() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.out = nn.Parameter(torch.randn(1, 32, 6)), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.out(x + self.table[:, : x.shape[1]])

    graph = trace(Positions(), torch.randn(2, 8, 6), dynamic_shapes=({0: Dim("n"), 1: Dim("t", max=32)},))
    assert graph.tensors["x"].dynamic == (True, True, False)
    assert any(f.tensor == "table" and f.count == 32 for f in couple(graph).frozen)


# What the graph says --------------------------------------------------------------------------------------------------


def test_inputs_have_the_names_of_the_forward() -> None:
    module, inputs = made("mlp")
    assert trace(module, inputs).inputs == ("input",)  # as nn.Sequential calls it, though Python has a word like that


def test_parameters_have_their_names_and_values() -> None:
    module, inputs = made("efficientnet")
    graph = trace(module, inputs)
    state = module.state_dict()
    names = {t.name for t in graph.parameters}
    assert names == {n for n in state if not n.endswith("num_batches_tracked")}
    for name in names:
        np.testing.assert_array_equal(graph.parameter(name), state[name].numpy())
    assert count(graph)["size"] == 4 * count(graph)["params"]


def test_nodes_have_the_names_of_their_modules() -> None:
    module, inputs = made("resnet_basic")
    names = [n.name for n in trace(module, inputs).nodes]
    assert {"stem.0", "layers.0.conv1", "layers.0.bn1", "layers.1.downsample.0", "fc"} <= set(names)
    assert len(set(names)) == len(names)
    assert couple(trace(module, inputs)).groups[1].id == "layers.0.conv1"


def test_tied_weights_are_one_tensor() -> None:
    module, inputs = made("tied_embeddings")
    graph = trace(module, inputs)
    assert graph.source.aliases == {"lm_head.weight": "embed.weight"}
    assert "lm_head.weight" not in graph.tensors
    users = [n.op for n in graph.nodes if "embed.weight" in n.inputs]
    assert users == ["embedding", "linear"]
    assert count(graph)["params"] == sum(p.numel() for p in module.parameters()) + 2 * 16 * 4  # with both tables


def test_a_vector_that_several_nodes_use_is_cut_once() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 2)
            self.scale = nn.Parameter(torch.ones(6))

        def forward(self, x: Tensor) -> Tensor:
            return self.out(self.scale * torch.relu(self.a(x))) + self.out(self.scale * torch.relu(self.b(x)))

    (group,) = couple(trace(Shared(), torch.randn(3, 4))).groups
    assert {m.tensor for m in group.members} >= {"a.weight", "b.weight", "scale", "out.weight"}


def test_what_works_in_place_is_a_new_tensor() -> None:
    module, inputs = made("resnet_basic")
    graph = trace(module, inputs)
    made_by = [name for node in graph.nodes for name in node.outputs]
    assert len(set(made_by)) == len(made_by)
    relu = next(n for n in graph.nodes if n.name == "layers.0.relu")
    batch_norm = next(n for n in graph.nodes if n.name == "layers.0.bn1")
    conv = next(n for n in graph.nodes if n.name == "layers.0.conv2")
    assert relu.inputs == batch_norm.outputs
    assert conv.inputs[0] == relu.outputs[0]


def test_half_precision_weights_are_readable() -> None:
    graph = trace(nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2)).bfloat16(), torch.randn(3, 4).bfloat16())
    weight = graph.parameter("0.weight")
    assert str(weight.dtype) == graph.tensors["0.weight"].dtype == "bfloat16"
    assert np.isfinite(weight.astype(np.float64)).all()
    assert graph.tensors["0.weight"].itemsize == 2


def test_an_unused_parameter_counts_but_an_unused_buffer_does_not() -> None:
    class Spare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(4, 2), nn.Linear(5, 5)
            self.register_buffer("steps", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    graph = trace(Spare(), torch.randn(3, 4))
    assert count(graph)["params"] == 10 + 30
    assert "steps" not in graph.tensors


def test_a_number_read_from_a_tensor_freezes_it() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> tuple[Tensor, float]:
            y = self.first(x)
            return self.second(torch.relu(y)), y[0, 0].item()

    groups = couple(trace(Reads(), torch.randn(3, 4)))
    assert [g.size for g in groups.groups] == [5]
    assert any("picks one index" in f.reason or "reads a number" in f.reason for f in groups.frozen)


# What is left untouched -----------------------------------------------------------------------------------------------


def test_the_module_keeps_its_modes_and_its_weights() -> None:
    module, inputs = made("mobilenet_v2")
    module.train()
    module.blocks[0].eval()
    before = {n: m.training for n, m in module.named_modules()}
    state = copy.deepcopy(module.state_dict())
    graph = trace(module, inputs)
    assert {n: m.training for n, m in module.named_modules()} == before
    assert all(torch.equal(state[n], t) for n, t in module.state_dict().items())
    norms = [n for n in graph.nodes if n.op == "batch_norm"]
    assert norms
    assert all(n.attrs["statistics"] == () for n in norms)


class Caches(nn.Module):
    """Stores what it computed on itself, in a list and in a dict, as detection heads do with their anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)
        self.anchors: Tensor | None = None
        self.seen: list[Any] = ["nothing"]
        self.table: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        if self.anchors is None:
            self.anchors = torch.arange(6.0)
        self.seen.append(x)
        self.table["x"] = x
        return self.second(self.first(x) + self.anchors)


def test_what_a_forward_stores_is_taken_back() -> None:
    module = Caches()
    trace(module, torch.randn(3, 4))
    assert module.anchors is None
    assert module.seen == ["nothing"]
    assert module.table == {}
    assert module(torch.randn(3, 4)).shape == (3, 2)


def test_torch_is_left_as_it_was() -> None:
    module, inputs = made("vit")
    fast_path = torch.backends.mha.get_fastpath_enabled()
    trace(module, inputs)
    with pytest.raises(UsageError):
        trace(module, torch.randn(1, 2, 3))
    assert torch.backends.mha.get_fastpath_enabled() == fast_path
    assert not torch.compiler.is_exporting()
    assert type(torch.ones(2) + 1) is torch.Tensor
    assert not torch.nn.modules.module._global_forward_hooks
    assert torch.is_grad_enabled()


def test_numbers_the_module_holds_may_steer_its_forward() -> None:
    class Strides(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 2)
            self.strides = torch.tensor([2.0, 3.0])

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            for stride in self.strides * 2:
                y = y + torch.full((1, 6), stride)
            if float(self.strides.sum()) > 4:
                y = y.relu()
            return self.second(y)

    graph = trace(Strides(), torch.randn(3, 4))
    assert graph.source.program.exported is None
    assert [n.op for n in graph.nodes if n.op == "relu"] == ["relu"]
    fills = [n for n in graph.source.program.graph.nodes if "full" in str(n.target)]
    assert [float(n.args[1]) for n in fills] == [4.0, 6.0]


def test_numbers_that_may_change_do_not_steer_a_capture() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.tensor(3))
            self.weight = nn.Parameter(torch.tensor(2.0))
            self.plain = torch.tensor(1.0)
            self.reads: Any = None

        def forward(self, x: Tensor) -> Tensor:
            return x * float(self.reads(self))

    module = Counts()
    for reads in (lambda m: m.steps, lambda m: m.weight, lambda m: m.plain.clone().add_(m.weight)):
        module.reads = reads
        with pytest.raises(UncapturableError, match="reads a number"):
            capture(module, (torch.ones(2),), {})
    module.reads = lambda m: m.plain * 4
    products = capture(module, (torch.ones(2),), {}).graph.find_nodes(
        op="call_function", target=torch.ops.aten.mul.Tensor
    )
    assert products[-1].args[1] == 4.0


def test_a_capture_that_went_another_way_is_not_used() -> None:
    class Catches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            try:
                return x * 2 if x.sum() > 0 else x
            except RuntimeError:
                return x + 1

    with pytest.raises(UncapturableError, match="goes on after"):
        capture(Catches(), (torch.ones(2),), {})


# Errors ---------------------------------------------------------------------------------------------------------------


class Forward(nn.Module):
    """Any forward around two layers."""

    def __init__(self, body: Any) -> None:
        super().__init__()
        self.first, self.second, self.body = nn.Linear(4, 6), nn.Linear(6, 2), body

    def forward(self, x: Tensor) -> Any:
        return self.body(self, x)


def branches(m: Forward, x: Tensor) -> Tensor:
    y = m.first(x)
    return m.second(y) if y.sum() > 0 else m.second(-y)


def counts(m: Forward, x: Tensor) -> Tensor:
    return m.second(m.first(x))[: int(x.argmax().item())]


def leaves_torch(m: Forward, x: Tensor) -> Tensor:
    return m.second(torch.from_numpy(m.first(x).detach().numpy()))


def selects(m: Forward, x: Tensor) -> Tensor:
    return m.second(m.first(x[x[:, 0] > 0]))


def returns_an_object(m: Forward, x: Tensor) -> Any:
    return m.second(m.first(x)), object()


@pytest.mark.parametrize("body", [branches, counts, leaves_torch])
def test_a_forward_steered_by_values_is_told_where_and_what_to_change(body: Any) -> None:
    with pytest.raises(ModelError) as caught:
        trace(Forward(body), torch.randn(3, 4))
    error = caught.value
    assert error.code == "data-dependent-forward"
    file, _, line = (error.where or "").rpartition(":")
    assert Path(file) == Path(__file__)
    assert body.__code__.co_firstlineno < int(line) <= body.__code__.co_firstlineno + 2
    assert "\n" not in error.message
    assert "torch.cond" in (error.hint or "")


def test_sizes_that_depend_on_values_are_refused_where_they_cost() -> None:
    with pytest.raises(ModelError, match="depend on the data") as caught:
        trace(Forward(selects), torch.randn(3, 4))
    assert (caught.value.where or "").startswith(__file__)


def test_a_result_torch_cannot_export_is_named() -> None:
    with pytest.raises(ModelError, match="returns") as caught:
        trace(Forward(returns_an_object), torch.randn(3, 4))
    assert caught.value.code == "forward-result"


@pytest.mark.parametrize(
    ("example", "says"),
    [
        (None, "missing"),
        (3, "a int"),
        ((torch.ones(3, 4), torch.ones(3)), "too many positional arguments"),
        ({"y": torch.ones(3, 4)}, "missing a required argument: 'x'"),
        (torch.ones(3, 5), "the forward fails on example_inputs"),
    ],
)
def test_wrong_examples(example: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        trace(nn.Sequential(nn.Linear(4, 2)) if says != "missing a required argument: 'x'" else Caches(), example)
    assert caught.value.code == "example-inputs"


@pytest.mark.parametrize("shapes", [({0: Dim("n")},), ({5: Dim("n")},)])
def test_dynamic_shapes_that_do_not_fit(shapes: Any) -> None:
    with pytest.raises(UsageError) as caught:
        trace(Forward(lambda m, x: m.second(m.first(x.reshape(3, 4)))), torch.randn(3, 4), dynamic_shapes=shapes)
    assert caught.value.code == "dynamic-shapes"


def test_arguments_of_the_other_world_are_refused() -> None:
    with pytest.raises(UsageError, match="ONNX"):
        trace(Caches(), torch.randn(3, 4), input_shapes={"x": (3, 4)})
    with pytest.raises(UsageError, match="torch"):
        trace("model.onnx", torch.randn(3, 4))
    with pytest.raises(GraphpruneError):
        trace("no such file.onnx")


def test_onnx_models_are_traced_without_torch(tmp_path: Path) -> None:
    module, inputs = made("mlp")
    path = tmp_path / "mlp.onnx"
    path.write_bytes(exported(module, inputs).SerializeToString())
    code = f"import sys; from graphprune.worlds import trace; trace({str(path)!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_forward_with_attention_of_five_axes_counts_its_macs() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(6, 18)

        def forward(self, x: Tensor) -> Tensor:
            q, k, v = self.qkv(x).chunk(3, -1)
            return F.scaled_dot_product_attention(q, k, v)

    graph = trace(Windows(), torch.randn(2, 3, 2, 5, 6))
    assert count(graph)["macs"] == 2 * 3 * 2 * 5 * 6 * 18 + 2 * (2 * 3 * 2 * 5 * 5 * 6)
    assert not couple(graph).groups


def test_results_nobody_takes_are_not_there() -> None:
    class Pools(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y, _ = F.max_pool2d(self.first(x), 2, return_indices=True)
            return self.last(y)

    (group,) = couple(trace(Pools(), torch.randn(1, 3, 4, 4))).groups
    assert group.size == 6
