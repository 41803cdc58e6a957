"""The models of gates and of random graphs serve here as well."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("interpret", "hard_cases")]
