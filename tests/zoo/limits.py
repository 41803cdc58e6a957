"""Another process, within limits: what crashes, hangs or eats the memory there is told here as words."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Seconds by the clock and bytes of address space that a process may take."""

    seconds: float = 900.0
    memory: int = 16 << 30


def run_limited(command: Sequence[str], limits: Limits) -> str:
    """Run a command; return "" when it ended well, else what became of it and the end of what it said."""

    def restrict() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        list(command), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=restrict, env=environment,
        start_new_session=True,
    )  # fmt: skip
    try:
        _, said = process.communicate(timeout=limits.seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"took more than {limits.seconds:.0f} s"
    if process.returncode < 0:
        return f"died of {signal.Signals(-process.returncode).name}"
    last = said.decode(errors="replace").strip().splitlines()[-1:]
    return "" if process.returncode == 0 else f"ended with {process.returncode}: {' '.join(last)[:300]}"
