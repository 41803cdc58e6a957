"""(e) Models above 2 GiB: peak memory of a whole run of the command over the size of the model, in its own process.

python tests/bench/large.py FOLDER [--gigabytes 2.4] [--files one|many] [--keep]

Writes a stack of feed-forward blocks with external data, prunes it, loads the result, and removes both.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper
from peak import highest

WIDTH, INNER = 2048, 8192
ALIGNMENT = 4096


def stack(path: Path, blocks: int, width: int = WIDTH, inner: int = INNER, *, files: str = "one") -> int:
    """Write blocks of LayerNorm, MatMul, Relu, MatMul, Add with external data; return the bytes of all files."""
    rng = np.random.default_rng(0)
    weights: list[TensorProto] = []
    nodes: list[NodeProto] = []
    ends: dict[Path, int] = {}

    def weight(name: str, array: NDArray[np.float32]) -> str:
        data = path.with_name(f"{path.name}.data" if files == "one" else f"{path.stem}.{name}")
        offset = -(-ends.get(data, 0) // ALIGNMENT) * ALIGNMENT
        with data.open("r+b" if data in ends else "wb") as stream:
            stream.seek(offset)
            stream.write(array.data)
        ends[data] = offset + array.nbytes
        weights.append(external(name, array.shape, data.name, offset, array.nbytes))
        return name

    def matrix(name: str, *shape: int) -> str:
        array = rng.standard_normal(shape, dtype=np.float32)
        array *= np.float32(shape[0] ** -0.5)
        return weight(name, array)

    def node(op: str, made: str, *inputs: str) -> str:
        nodes.append(helper.make_node(op, list(inputs), [made], f"{made}.{op}"))
        return made

    x = "x"
    for k in (f"b{k}" for k in range(blocks)):
        gamma, beta = weight(f"{k}.gamma", np.ones(width, np.float32)), weight(f"{k}.beta", np.zeros(width, np.float32))
        normal = node("LayerNormalization", f"{k}.n", x, gamma, beta)
        up = node("MatMul", f"{k}.u", normal, matrix(f"{k}.up", width, inner))
        down = node("MatMul", f"{k}.d", node("Relu", f"{k}.r", up), matrix(f"{k}.down", inner, width))
        x = node("Add", f"{k}.y", x, down)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "stack", [value("x", 1, [1, width])], [value(x, 1, [1, width])], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path.stat().st_size + sum(ends.values())


def external(name: str, shape: tuple[int, ...], location: str, offset: int, length: int) -> TensorProto:
    """Return a tensor whose bytes lie in another file."""
    tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, stated in (("location", location), ("offset", offset), ("length", length)):
        tensor.external_data.add(key=key, value=str(stated))
    return tensor


def peak_of_command(path: Path, out: Path, budget: str = "0.5") -> tuple[int, float]:
    """Prune by the command in a process of its own; return the bytes of its peak, and seconds."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "--child", str(path), str(out), budget], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}{done.stderr}")
    return int(done.stdout.split()[-1]), time.perf_counter() - start


def child(path: str, out: str, budget: str) -> None:
    """Run the command as a user would, in this process, and print its peak memory."""
    from graphprune.cli import main

    status = main([path, "--budget", budget, "-o", out, "--force", "-q"])
    if status:
        raise SystemExit(status)
    print(highest())


def written(out: Path) -> Iterator[Path]:
    """Yield the files of a model: itself and its data."""
    yield out
    yield from sorted(out.parent.glob(f"{out.name}.data*"))


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=2.4)
    parser.add_argument("--files", choices=("one", "many"), default="one")
    parser.add_argument("--budget", default="0.5")
    parser.add_argument("--keep", action="store_true", help="leave the files there")
    asked = parser.parse_args()
    path, out = asked.folder / "large.onnx", asked.folder / "small.onnx"
    blocks = round(asked.gigabytes * 1e9 / (2 * WIDTH * INNER * 4))
    size = stack(path, blocks, files=asked.files)
    peak, seconds = peak_of_command(path, out, asked.budget)
    made = list(written(out))
    small = sum(p.stat().st_size for p in made)
    print(f"{size / 1e9:.2f} GB in {asked.files}: peak {peak / size:.2f} of its size, {seconds:.0f} s, ", end="")
    print(f"output {small / 1e9:.2f} GB in {len(made)} files; ", end="", flush=True)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_prepacking", "1")
    session = onnxruntime.InferenceSession(out, options, providers=["CPUExecutionProvider"])
    result = session.run(None, {"x": np.ones((1, WIDTH), np.float32)})[0]
    print(f"onnxruntime loads it: {result.shape}, finite {bool(np.isfinite(result).all())}")
    if not asked.keep:
        for file in (*made, path, *path.parent.glob("large.onnx.data"), *path.parent.glob("large.b*")):
            file.unlink()


if __name__ == "__main__":
    child(*sys.argv[2:]) if sys.argv[1:2] == ["--child"] else main()
