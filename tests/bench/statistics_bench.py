"""What statistics cost beside the bare inference of the same samples, in one run: time, processor time, peak memory.

    python tests/bench/statistics_bench.py [resnet50|encoder ...] [--samples 256] [--rows 8192]

``resnet50`` is that network at 224 x 224, ``encoder`` one of the size of BERT base at 128 tokens, both with random
weights and batch normalisation folded. Printed is, for one pass with full moments and targets, for the stages of a
network that is masked, and for those of one with half of its inner channels gone, the ratio to the bare inference.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper

import graphprune as gp
from graphprune.runtime import session
from graphprune.statistics import Pair, Settings, Statistics, collect, consumer_in, consumers_of, sequential

BATCH = 8


class Network:
    """Collects nodes and weights of a model with a dynamic batch, each weight in one place: peaks are measured."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.made = onnx.ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)])
        self.made.graph.name = "g"

    def keep(self, values: Any) -> str:
        array, tensor = np.asarray(values), self.made.graph.initializer.add()
        tensor.name, tensor.raw_data = f"w{len(self.made.graph.initializer)}", array.tobytes()
        tensor.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        tensor.dims.extend(array.shape)
        return tensor.name

    def weight(self, *shape: int, into: int) -> str:
        return self.keep((self.random.standard_normal(shape) * np.sqrt(2 / into)).astype(np.float32))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        number = len(self.made.graph.node)
        self.made.graph.node.append(helper.make_node(kind, inputs, [f"t{number}"], name=f"n{number}", **attributes))
        return f"t{number}"

    def conv(self, x: str, into: int, out: int, kernel: int, stride: int = 1) -> str:
        w, b = self.weight(out, into, kernel, kernel, into=into * kernel * kernel), self.keep(np.zeros(out, np.float32))
        return self.op("Conv", x, w, b, pads=[kernel // 2] * 4, strides=[stride] * 2)

    def dense(self, x: str, into: int, out: int) -> str:
        return self.op(
            "Add", self.op("MatMul", x, self.weight(into, out, into=into)), self.keep(np.zeros(out, np.float32))
        )

    def norm(self, x: str, size: int) -> str:
        return self.op(
            "LayerNormalization", x, self.keep(np.ones(size, np.float32)), self.keep(np.zeros(size, np.float32))
        )

    def model(self, shape: list[Any], end: str) -> onnx.ModelProto:
        self.made.graph.input.append(helper.make_tensor_value_info("x", 1, shape))
        self.made.graph.output.append(helper.make_tensor_value_info(end, 1, None))
        return self.made


def resnet50() -> onnx.ModelProto:
    """Bottlenecks 3, 4, 6, 3."""
    net = Network()
    x = net.op("Relu", net.conv("x", 3, 64, 7, 2))
    x, into = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), 64
    for width, count in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for k in range(count):
            stride = 2 if k == 0 and width > 64 else 1
            h = net.op("Relu", net.conv(x, into, width, 1))
            h = net.op("Relu", net.conv(h, width, width, 3, stride))
            h = net.conv(h, width, 4 * width, 1)
            x = net.op("Relu", net.op("Add", h, net.conv(x, into, 4 * width, 1, stride) if k == 0 else x))
            into = 4 * width
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    return net.model(["n", 3, 224, 224], net.op("Gemm", x, net.weight(1000, 2048, into=2048), transB=1))


def encoder() -> onnx.ModelProto:
    """Twelve layers of 768, with 12 heads and 3072 inner neurons, on 128 embedded tokens."""
    net, x = Network(), "x"
    split, joined = net.keep(np.array([0, 0, 12, 64])), net.keep(np.array([0, 0, 768]))
    for _ in range(12):
        q, k, v = (net.op("Reshape", net.dense(x, 768, 768), split) for _ in range(3))
        q, v = (net.op("Transpose", t, perm=[0, 2, 1, 3]) for t in (q, v))
        scores = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 2, 3, 1]))
        weights = net.op("Softmax", net.op("Mul", scores, net.keep(np.float32(0.125))), axis=-1)
        mixed = net.op("Transpose", net.op("MatMul", weights, v), perm=[0, 2, 1, 3])
        x = net.norm(net.op("Add", x, net.dense(net.op("Reshape", mixed, joined), 768, 768)), 768)
        h = net.op("Relu", net.dense(x, 768, 3072))
        x = net.norm(net.op("Add", x, net.dense(h, 3072, 768)), 768)
    return net.model(["n", 128, 768], x)


MODELS: dict[str, tuple[Callable[[], onnx.ModelProto], tuple[int, ...]]] = {
    "resnet50": (resnet50, (3, 224, 224)),
    "encoder": (encoder, (128, 768)),
}


@dataclass
class Clock:
    """Seconds by the clock, and of the processor, of what is run; ``bare`` is what they are compared with."""

    bare: tuple[float, float] = (1.0, 1.0)

    def take(self, what: str, work: Callable[[], Any]) -> Any:
        """Run something and print what it took, and its ratios."""
        start, busy = time.perf_counter(), time.process_time()
        result = work()
        took = time.perf_counter() - start, time.process_time() - busy
        if what == "bare inference":
            self.bare = took
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        ratios = ", ".join(f"{a / b:5.2f} x" for a, b in zip(took, self.bare, strict=True))
        print(
            f"  {what:34s} {took[0]:7.1f} s {took[1]:7.1f} s of processor: {ratios};  peak {peak:.2f} GiB", flush=True
        )
        return result


def infer(model: onnx.ModelProto, x: Any) -> None:
    """Run a model on samples, and forget what comes out."""
    running = session(model)
    for start in range(0, len(x), BATCH):
        running.run(None, {"x": x[start : start + BATCH]})


def stages(pairs: Sequence[Pair], samples: Any, settings: Settings, statistics: Statistics) -> None:
    """Run all stages and look at nothing."""
    for stage in sequential(pairs, samples, settings, statistics.targets):
        stage.set({})


def halved(graph: gp.Graph, groups: gp.Groups) -> gp.Plan:
    """Keep every second unit of groups with one producer."""
    inner = {g.id for g in groups.groups if sum(m.role == "producer" for m in g.members) <= 2 and g.kind != "head-dim"}
    keep = {g.id: tuple(range(0, g.size, 2 if g.id in inner else 1)) for g in groups.groups}
    return gp.Plan(keep, {g.id: g.size for g in groups.groups}, groups.fingerprint)


def measure(name: str, count: int, rows: int, *, masked: bool) -> None:
    """Print the table of one model."""
    from graphprune.data import open_samples, specs_of_model

    make, shape = MODELS[name]
    model = make()
    x = np.random.default_rng(1).standard_normal((count, *shape)).astype(np.float32)
    print(f"{name}, {count} samples, at most {rows} rows a layer")
    clock, settings = Clock(), Settings(rows=rows)
    clock.take("bare inference", lambda: infer(model, x))
    graph = gp.trace(model)
    groups = gp.couple(graph)
    samples = open_samples({"x": x}, specs_of_model(model))
    found = clock.take("one pass: moments and targets", lambda: collect(graph, groups, samples, settings, targets=True))
    print(f"  {len(found.moments)} inputs of layers, {found.bytes / 2**20:.0f} MiB of moments")
    consumers = [c for c in consumers_of(graph, groups) if not c.refusal]
    if masked:
        clock.take("stages, masked", lambda: stages([Pair(c, c) for c in consumers], samples, settings, found))
    plan = halved(graph, groups)
    small = gp.trace(gp.rewrite(graph, plan, groups))
    pairs = list(cut(graph, groups, plan, small, consumers))
    clock.take("stages, rewritten", lambda: stages(pairs, samples, settings, found))


def cut(graph: gp.Graph, groups: gp.Groups, plan: gp.Plan, small: gp.Graph, consumers: Sequence[Any]) -> Any:
    """Yield the consumers that lose columns, with what is left of them."""
    from graphprune.layout import kept_by

    kept = kept_by(groups, plan)
    for consumer in consumers:
        other = consumer_in(small, consumer)
        if other is not None and kept.index(consumer.dim) is not None:
            yield Pair(consumer, other, None if consumer.out_dim is None else kept.index(consumer.out_dim))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--only-rewritten", action="store_true", help="leave the masked network out")
    given = parser.parse_args()
    for name in given.models:
        measure(name, given.samples, given.rows, masked=not given.only_rewritten)


if __name__ == "__main__":
    main()
