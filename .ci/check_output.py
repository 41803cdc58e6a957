"""Check a pruned model with onnx and onnxruntime alone: python check_output.py ORIGINAL PRUNED."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import onnx
import onnxruntime

SHAPE = (1, 3, 48, 192)


def main(original: str, pruned: str) -> None:
    """Raise AssertionError unless PRUNED is valid, runs, has ORIGINAL's inputs and outputs and half of its MACs."""
    assert importlib.util.find_spec("torch") is None, "the ONNX path must work without torch: it is installed here"
    before, after = onnx.load(original), onnx.load(pruned)
    onnx.checker.check_model(after)
    assert list(before.graph.input) == list(after.graph.input)
    assert list(before.graph.output) == list(after.graph.output)
    share = macs(after) / macs(before)
    assert 0.48 <= share <= 0.5, f"{share:.3f} of the MACs are left"
    for batch in (1, 3):
        sample = np.random.default_rng(batch).standard_normal((batch, *SHAPE[1:]), dtype=np.float32)
        (output,) = onnxruntime.InferenceSession(pruned).run(None, {before.graph.input[0].name: sample})
        assert output.shape == (batch, 2) and np.isfinite(output).all()
    print(f"{pruned}: valid, runs, {share:.1%} of the MACs")


def macs(model: onnx.ModelProto) -> int:
    """Count the multiply-accumulates of convolutions and matrix products on the sizes that onnxruntime produces."""
    weights = {n.output[0]: n.attribute[0].t.dims for n in model.graph.node if n.op_type == "Constant"}
    weights |= {w.name: w.dims for w in model.graph.initializer}
    products = [n for n in model.graph.node if n.op_type in ("Conv", "MatMul")]
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.extend(onnx.ValueInfoProto(name=n.output[0]) for n in products)
    session = onnxruntime.InferenceSession(probe.SerializeToString())
    feeds = {model.graph.input[0].name: np.zeros(SHAPE, np.float32)}
    outputs = session.run([n.output[0] for n in products], feeds)
    total = 0
    for node, output in zip(products, outputs, strict=True):
        dims = weights[node.input[1]]
        total += output.size * (int(np.prod(dims[1:])) if node.op_type == "Conv" else int(dims[0]))
    return total


if __name__ == "__main__":
    main(*sys.argv[1:])
