"""Prune spoiled model files in processes with limits on memory and time, and tell what went wrong.

    python tests/malformed/fuzz_files.py --first 0 --count 5000

Every file ends with a status that the command line documents (0, 1, 2); whatever else happens (another exception, a
crash, a hang, memory beyond the limit) is printed with the number that makes the same file again.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
SECONDS = 20
"""Processor time for one file; the slowest takes less than one."""
EXTRA_BYTES = 3 * 2**30
"""Address space for one file, on top of what the libraries take; most of that is threads' stacks."""


@dataclass(frozen=True)
class Fault:
    """A file that ended in another way than it may."""

    number: int
    victim: str
    change: str
    what: str


def prune_all(numbers: Sequence[int]) -> None:
    """Work through spoiled files in this process: a line of JSON before and one after each."""
    from mutations import spoiled
    from victims import VICTIMS, write

    from graphprune.cli import main

    models = {name: make() for name, make in VICTIMS.items()}
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models.items():
            assert _outcome(main, write(model, Path(folder))) == "status 0", f"{name} is not valid"
        _limit_memory()
        for number in numbers:
            name = list(models)[number % len(models)]
            change, data = spoiled(models[name], number)
            _tell({"number": number, "victim": name, "change": change})
            path = Path(folder) / "model.onnx"
            path.write_bytes(data)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of work; a process that waits forever is ended later
            signal.alarm(10 * SECONDS)
            outcome = _outcome(main, path)
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
            _tell({"number": number, "outcome": outcome})


def _outcome(main: object, path: Path) -> str:
    """Run the command line; what it says is thrown away."""
    assert callable(main)
    silence = io.StringIO()
    command = [str(path), "--budget", "0.95", "-q", "--force", "-o", str(path.with_suffix(".out"))]
    if path.stat().st_size % 5 == 0:
        command = ["inspect", str(path)]
    try:
        with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
            status = main(command)
    except BaseException:
        return traceback.format_exc()
    return f"status {status}"


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + EXTRA_BYTES, used + EXTRA_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _tell(words: dict[str, object]) -> None:
    os.write(1, json.dumps(words).encode() + b"\n")


def faults(numbers: Sequence[int], tally: Counter[str] | None = None) -> Iterator[Fault]:
    """Yield what went wrong; a process that dies is replaced, and the next one goes on after the file that did it."""
    left = list(numbers)
    while left:
        command = [sys.executable, __file__, "--worker", json.dumps(left)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"number"')]
        begun: dict[int, tuple[str, str]] = {}
        for line in lines:
            if "change" in line:
                begun[line["number"]] = line["victim"], line["change"]
                continue
            if tally is not None:
                tally[line["outcome"].splitlines()[-1]] += 1
            if line["outcome"] not in ("status 0", "status 1", "status 2"):
                yield Fault(line["number"], *begun[line["number"]], line["outcome"])
        if done.returncode == 0:
            return
        if not begun or "outcome" in lines[-1]:
            raise RuntimeError(done.stderr)
        last = next(reversed(begun))
        name = "hang" if -done.returncode in (signal.SIGALRM, signal.SIGPROF) else signal.Signals(-done.returncode).name
        yield Fault(last, *begun[last], f"{name}\n{done.stderr[-1000:]}")
        left = left[left.index(last) + 1 :]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        prune_all(json.loads(options.worker))
        return
    tally: Counter[str] = Counter()
    found = 0
    for fault in faults(range(options.first, options.first + options.count), tally):
        found += 1
        print(f"{fault.number} {fault.victim} {fault.change}\n{fault.what}\n", flush=True)
    print(f"{found} faults; {dict(tally.most_common(8))}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
