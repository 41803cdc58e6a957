"""LSTM, GRU and RNN in the recurrent family's terms."""

from __future__ import annotations

from typing import Any

from .context import Context

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
"""Gates whose rows are stacked in the weights."""
PEEPHOLES = 3


def recurrent(c: Context) -> tuple[str, dict[str, Any]]:
    """Return the family and its attributes: layout 0 has steps in front, layout 1 (opset 14) the batch."""
    op, gates = c.node.op, GATES[c.node.op]
    batch_first = c.attrs.get("layout", 0) == 1
    rows = "(q h)" if gates > 1 else "h"
    state = "b d h" if batch_first else "d b h"
    inputs = [
        "b s i" if batch_first else "s b i", f"d {rows} i", f"d {rows} h", "d (q2 h)", "b", state,
        *([state, "d (p h)"] if op == "LSTM" else []),
    ]  # fmt: skip
    outputs = ["b s d h" if batch_first else "s d b h", state, state]
    there = [text for text, name in zip(outputs, c.node.outputs, strict=False) if name]
    return "recurrent", {
        "pattern": f"{', '.join(inputs)} -> {', '.join(there)}",
        "sizes": {"q": gates, "q2": 2 * gates, "p": PEEPHOLES},
        "operands": len(inputs),
        "attributes": {"hidden_size": "h"},
    }
