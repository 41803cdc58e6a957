"""Case 20 and rewriting: inputs, outputs and everything that pruning does not demand come out byte for byte."""

from __future__ import annotations

import numpy as np
import onnx
from checks import Coupled, check_plan, coupled
from onnx import TensorProto, helper
from onnx_models import Net, initializer, node

from graphprune.backends.onnx.rewrite import rewrite


def entry(key: str, value: str) -> onnx.StringStringEntryProto:
    return onnx.StringStringEntryProto(key=key, value=value)


def laden() -> onnx.ModelProto:
    """Two independent branches; names, notes and annotations on everything that can have them."""
    net = Net(opset=21)
    image = net.input("batch", 3, 6, 6, name="image")
    a = net.conv(net.op("Relu", net.conv(image, 3, 8, name="pruned"), name="pruned.relu"), 8, 2, name="pruned.head")
    b = net.conv(net.op("Relu", net.conv(image, 3, 8, name="whole"), name="whole.relu"), 8, 2, name="whole.head")
    model = net.model(a, b)
    graph = model.graph
    model.producer_name, model.producer_version, model.domain, model.model_version = "maker", "1.2", "org.example", 7
    model.doc_string = "what it is for"
    model.metadata_props.append(entry("licence", "free"))
    graph.name, graph.doc_string = "the graph", "its notes"
    graph.metadata_props.append(entry("author", "someone"))
    for k, item in enumerate(graph.node):
        item.doc_string = f"node {k}"
        item.metadata_props.append(entry("pkg.scope", f"block.{k}"))
    for tensor in graph.initializer:
        tensor.doc_string = f"about {tensor.name}"
        tensor.metadata_props.append(entry("trained", "yes"))
    for name in ("pruned", "whole"):
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 8, 6, 6], doc_string=f"map of {name}")
        value.type.denotation = "IMAGE"
        graph.value_info.append(value)
    graph.quantization_annotation.append(
        onnx.TensorAnnotation(tensor_name="whole", quant_parameter_tensor_names=[entry("SCALE_TENSOR", "s")])
    )
    graph.input[0].doc_string = "RGB"
    graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    graph.output[0].doc_string = "scores"
    model.functions.append(
        helper.make_function(
            "spare", "Unused", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], [helper.make_opsetid("", 21)]
        )
    )
    model.opset_import.append(helper.make_opsetid("spare", 1))
    onnx.checker.check_model(model, full_check=True)
    return model


def case_and_result() -> tuple[Coupled, onnx.ModelProto]:
    case = coupled(laden())
    return case, check_plan(case, case.plan(pruned=(1, 4, 6)), others=[{"image": (3, 3, 6, 6)}])


def without(message: onnx.ModelProto, *fields: str) -> bytes:
    copy = onnx.ModelProto()
    copy.CopyFrom(message)
    for field in fields:
        copy.graph.ClearField(field)
    return copy.SerializeToString(deterministic=True)


def test_all_but_weights_and_declared_sizes_is_identical() -> None:
    case, small = case_and_result()
    assert without(small, "initializer", "value_info") == without(case.model, "initializer", "value_info")


def test_weights_that_are_not_cut_are_identical_and_in_their_order() -> None:
    case, small = case_and_result()
    assert [t.name for t in small.graph.initializer] == [t.name for t in case.model.graph.initializer]
    changed = [
        a.name
        for a, b in zip(small.graph.initializer, case.model.graph.initializer, strict=True)
        if a.SerializeToString() != b.SerializeToString()
    ]
    assert changed == ["pruned.weight", "pruned.bias", "pruned.head.weight"]


def test_a_cut_weight_keeps_its_notes() -> None:
    _, small = case_and_result()
    tensor = next(t for t in small.graph.initializer if t.name == "pruned.weight")
    assert tensor.doc_string == "about pruned.weight"
    assert [p.value for p in tensor.metadata_props] == ["yes"]
    assert list(tensor.dims) == [3, 3, 1, 1]


def test_declared_types_follow_the_cut() -> None:
    case, small = case_and_result()
    values = {v.name: v for v in small.graph.value_info}
    assert [v.name for v in small.graph.value_info] == [v.name for v in case.model.graph.value_info]
    dims = values["pruned"].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["batch", 3, 6, 6]
    assert values["pruned"].doc_string == "map of pruned"
    assert values["pruned"].type.denotation == "IMAGE"
    before = next(v for v in case.model.graph.value_info if v.name == "whole")
    assert values["whole"].SerializeToString() == before.SerializeToString()


def test_a_plan_that_keeps_everything_changes_no_byte() -> None:
    case = coupled(laden())
    assert check_plan(case, case.plan()).SerializeToString() == case.model.SerializeToString()


def test_weights_stored_as_numbers_instead_of_bytes() -> None:
    """float_data, and a tensor of no elements next to it: cut ones may change form, others may not."""
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="conv")
    model = net.model(net.conv(x, 6, 2, name="head"))
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        tensor.ClearField("raw_data")
        tensor.float_data.extend(array.ravel().tolist())
    case = coupled(model)
    small = check_plan(case, case.plan(conv=(0, 5)))
    assert np.array_equal(initializer(small, "conv.bias"), initializer(model, "conv.bias")[[0, 5]])
    assert next(t for t in small.graph.initializer if t.name == "head.bias").float_data


def test_attributes_keep_their_order_and_their_notes() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 6, 6), 3, 6, name="stem")
    y = net.conv(x, 6, 6, 3, 6, name="dw", dilations=[1, 1], strides=[1, 1])
    model = net.model(net.conv(y, 6, 2))
    for attribute in node(model, "dw").attribute:
        attribute.doc_string = f"about {attribute.name}"
    case = coupled(model)
    small = check_plan(case, case.plan(stem=(1, 2)))
    mine, theirs = node(small, "dw").attribute, node(model, "dw").attribute
    assert [a.name for a in mine] == [a.name for a in theirs]
    same = [a.name for a, b in zip(mine, theirs, strict=True) if a == b]
    assert set(same) == {a.name for a in theirs} - {"group"}


def test_nodes_without_names_stay_without_names() -> None:
    model = laden()
    for item in model.graph.node:
        item.name = ""
    case = coupled(model)
    ids = list(case.groups)
    assert len(set(ids)) == 2
    small = check_plan(case, case.plan(**{ids[0]: (0,)}))
    assert not any(item.name for item in small.graph.node)


def test_duplicate_node_names_give_groups_of_their_own() -> None:
    model = laden()
    for item in model.graph.node:
        item.name = "same"
    case = coupled(model)
    assert len(set(case.groups)) == 2
    assert sorted(g.size for g in case.groups.values()) == [8, 8]
    small = rewrite(case.graph, case.plan(**{list(case.groups)[1]: (2, 3)}), case.groups)
    assert initializer(small, "pruned.weight").shape[0] == 8
    assert np.array_equal(initializer(small, "whole.weight"), initializer(model, "whole.weight")[2:4])


def test_tensors_the_model_gives_away_are_frozen_wherever_they_stand() -> None:
    net = Net()
    x = net.conv(net.input(1, 3, 4, 4), 3, 6, name="given")
    y = net.conv(net.op("Relu", x), 6, 5, name="hidden")
    case = coupled(net.model(net.conv(y, 5, 2), x))
    assert list(case.groups) == ["hidden"]
    assert case.why_frozen("given.weight", 0) == "output of the model"
    check_plan(case, case.plan(hidden=(3,)))


def test_two_inputs_and_an_input_passed_straight_through() -> None:
    net = Net()
    a, b = net.input(1, 3, 4, 4, name="a"), net.input(1, 5, name="b")
    x = net.conv(a, 3, 6, name="conv")
    gate = net.op("Sigmoid", net.gemm(b, 5, 6, "gate"))
    y = net.op("Mul", x, net.reshape(gate, 1, 6, 1, 1))
    case = coupled(net.model(net.conv(y, 6, 2), net.op("Identity", b)))
    assert case.group_of("gate.weight", 0) == case.group_of("conv.weight", 0)
    assert case.why_frozen("gate.weight", 1) == "input of the model"
    check_plan(case, case.plan(conv=(0, 2)))
