"""The names of ONNX tensors as names of parameters, buffers and arguments in torch.

A parameter's path in the module is the tensor's own name, dots included: ``layer1.0.weight`` is the parameter
``weight`` of the submodule ``0`` of the submodule ``layer1``, so that ``state_dict`` has the names of the file. Where
torch cannot spell a name, underscores are appended: to an empty part (``a..b`` is ``a._.b``), to a keyword of Python,
to a part that every module already has (``forward`` is ``forward_``), and to a name that begins with another's whole
name and a dot, or equals what another became. Names of inputs become Python identifiers: every other character is an
underscore, with one in front of a digit, a keyword, or a name that fx uses itself.
"""

from __future__ import annotations

import keyword
import re

from torch import fx, nn

_SHADOWING = frozenset({"self", "torch", "inf", "nan", "NoneType", "device", "math", "builtins", "operator"})
"""Names that code made by fx uses itself."""
OWN = "operators"
"""The submodule that holds what has no name in the file: operators with a training mode, tensors in attributes."""
_RESERVED = frozenset(dir(fx.GraphModule({}, fx.Graph()))) | frozenset(dir(nn.Module())) | {OWN, "onnx_names"}


class Paths:
    """Gives every tensor name a path that no other has."""

    def __init__(self) -> None:
        self.leaves: set[str] = set()
        self.branches: set[str] = set()

    def path(self, name: str) -> str:
        """Return the path for a tensor; asking twice gives two paths."""
        parts = [self._part(p) for p in name.split(".")]
        for depth in range(1, len(parts)):
            while ".".join(parts[:depth]) in self.leaves:
                parts[depth - 1] += "_"
            self.branches.add(".".join(parts[:depth]))
        while ".".join(parts) in self.leaves | self.branches:
            parts[-1] += "_"
        path = ".".join(parts)
        self.leaves.add(path)
        return path

    @staticmethod
    def _part(part: str) -> str:
        return part + "_" if not part or part in _RESERVED or keyword.iskeyword(part) else part


def identifier(name: str, taken: set[str]) -> str:
    """Return a name as a Python identifier that is not taken, and take it."""
    result = re.sub(r"\W", "_", name, flags=re.ASCII) or "_"
    if result[0].isdigit() or keyword.iskeyword(result) or result in _SHADOWING:
        result = f"_{result}"
    while result in taken:
        result += "_"
    taken.add(result)
    return result
