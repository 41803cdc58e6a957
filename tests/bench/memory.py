"""(d) Peak memory of a whole run over the size of the file, in a process of its own; the floor's beside it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
from peak import highest
from synthetic import chain, heavy
from zoo import export


def main(folder: Path, zoo: Path | None, exporter: str) -> None:
    """Print the ratios for a file the size of ResNet-50's and for one of 400 MB."""
    print("(d) peak memory over the size of the file; in brackets, without what the imports take")
    one = export("resnet50", folder, zoo, exporter)
    paths = {"resnet50": one.path} if one else {"102 MB perceptron": saved(102, folder)}
    for name, path in {**paths, "400 MB perceptron": saved(400, folder)}.items():
        print(f"{name:18s} " + ", ".join(f"{what} {peak(what, path)}" for what in ("ours", "floor")), flush=True)


def saved(megabytes: int, folder: Path) -> Path:
    """Write a synthetic model."""
    path = folder / f"heavy{megabytes}.onnx"
    onnx.save(heavy(megabytes), path)
    return path


def peak(what: str, path: Path) -> str:
    """Run one contender in a child process and return its ratios."""
    done = subprocess.run([sys.executable, __file__, what, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"failed: {done.stderr.strip().splitlines()[-1]}"
    before, after = map(int, done.stdout.split()[-2:])
    size = path.stat().st_size
    return f"{after / size:.2f} ({(after - before) / size:.2f})"


def child(what: str, path: Path) -> None:
    """Run a tiny model first, so that everything is imported; print the bytes of the peak then and at the end."""
    with tempfile.TemporaryDirectory() as folder:
        tiny = Path(folder) / "tiny.onnx"
        onnx.save(chain(10), tiny)
        work(what, tiny, Path(folder))
        before = highest()
        work(what, path, Path(folder))
    print(before, highest())


def work(what: str, path: Path, folder: Path) -> None:
    """Do the whole run or the floor."""
    if what == "ours":
        from ours import whole

        whole(path, folder / "out.onnx")
        return
    from floor import least
    from zoo import input_sizes

    from graphprune.runtime import feeds

    light = onnx.load(path)
    inputs = feeds(light, input_sizes(light, path), seed=0)
    del light
    least(path, folder / "out.onnx", inputs)


if __name__ == "__main__":
    child(sys.argv[1], Path(sys.argv[2]))
