"""The peak memory of this process."""

from __future__ import annotations

import resource
from pathlib import Path


def highest() -> int:
    """Return the peak of this process' resident memory in bytes.

    On Linux ru_maxrss begins with the parent's peak, which a child keeps across exec; the kernel's VmHWM does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
