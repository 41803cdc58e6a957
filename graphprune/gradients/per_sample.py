"""Derivatives sample by sample, of gates and of weights, streamed over the data: what gradient scores are made of.

Per-example gradients come from ``torch.func`` (a vmap over samples of the gradient of one); where an operator has no
rule for that, samples are taken one by one, with the same result. A model whose batch is fixed at more than one cannot
be told apart inside a batch: its examples are whole batches.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import UsageError

try:
    import torch
except ModuleNotFoundError as error:
    raise UsageError(
        "torch-missing", "gradients need torch, which is not installed", hint="pip install 'graphprune[torch]'"
    ) from error

from torch import Tensor, fx, nn

from .objectives import Objective, objective_of

if TYPE_CHECKING:
    from ..data import Batch, Samples
    from ..graph import Graph

VMAP_FAILURES = (RuntimeError, NotImplementedError, ValueError, TypeError)
"""What torch raises where an operator does not work under vmap."""
ROOM = 1 << 28
"""Bytes that the gradients of a chunk of examples may take: 256 MB."""
Variables = dict[str, Tensor]


class Options(Protocol):
    """The options that gradient passes share; ``passes/taylor.py`` says what they mean."""

    @property
    def data(self) -> Any: ...  # noqa: D102
    @property
    def labels(self) -> str | None: ...  # noqa: D102
    @property
    def preprocess(self) -> Any: ...  # noqa: D102
    @property
    def loss(self) -> str | Callable[..., Any]: ...  # noqa: D102
    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def samples(self) -> int | None: ...  # noqa: D102
    @property
    def seed(self) -> int: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def dtype(self) -> str: ...  # noqa: D102


@dataclass(frozen=True)
class Examples:
    """Some examples: inputs and labels of shape (examples, samples of each, ...), and the noise of their probes."""

    inputs: tuple[Tensor, ...]
    shared: tuple[bool, ...]
    labels: Tensor | None
    noise: tuple[Tensor, ...]
    count: int
    block: int

    def part(self, start: int, stop: int) -> Examples:
        """Return a stretch of the examples."""
        inputs = tuple(x if s else x[start:stop] for x, s in zip(self.inputs, self.shared, strict=True))
        labels = None if self.labels is None else self.labels[start:stop]
        noise = tuple(n[start:stop] for n in self.noise)
        return Examples(inputs, self.shared, labels, noise, min(stop, self.count) - start, self.block)

    def merged(self) -> tuple[tuple[Tensor, ...], Tensor | None, tuple[Tensor, ...]]:
        """Return the inputs, labels and noise of all examples as one batch."""
        inputs = tuple(x if s else x.flatten(0, 1) for x, s in zip(self.inputs, self.shared, strict=True))
        labels = None if self.labels is None else self.labels.flatten(0, 1)
        return inputs, labels, tuple(n.flatten(0, 1) for n in self.noise)

    def one(self, k: int) -> tuple[tuple[Tensor, ...], Tensor | None, tuple[Tensor, ...]]:
        """Return the inputs, labels and noise of one example."""
        inputs = tuple(x if s else x[k] for x, s in zip(self.inputs, self.shared, strict=True))
        return inputs, None if self.labels is None else self.labels[k], tuple(n[k] for n in self.noise)


class Task:
    """A model, its samples and what to differentiate; made once for a scoring.

    ``module`` is a torch module in evaluation mode: batch normalisations take their stored statistics. ``notes`` says
    what a user should know.
    """

    def __init__(self, module: fx.GraphModule, samples: Samples, options: Options, names: Sequence[str] = ()) -> None:
        self.device = torch.device(device_of(options))
        self.dtype = getattr(torch, options.dtype)
        self.module = module.to(self.device, self.dtype).eval()
        self.samples, self.options = samples, options
        self.block = samples.fixed_batch or 1
        self.objective, self.shapes = self._look(names)
        self.notes: tuple[str, ...] = () if self.objective.order == 1 else (self.objective.words,)
        if self.block > 1:
            self.notes += (f"the model's batch is fixed at {self.block}: gradients are those of whole batches",)

    def _look(self, names: Sequence[str]) -> tuple[Objective, list[torch.Size]]:
        """Run the first example once, to see what the outputs are."""
        batch = self.samples.take(np.arange(self.block))
        inputs = [self._tensor(batch.inputs[spec.name]) for spec in self.samples.specs]
        with torch.enable_grad():
            outputs = outputs_of(self.module(*inputs))
        has_labels = self.samples.has_labels
        return objective_of(self.options.loss, outputs, names, has_labels=has_labels), [o.shape for o in outputs]

    def _tensor(self, array: Any) -> Tensor:
        tensor = torch.from_numpy(np.array(array, order="C")).to(self.device)  # a copy: files are mapped read-only
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def batches(self) -> Iterator[Examples]:
        """Yield the examples in the order of the data, about ``batch_size`` samples at a time."""
        size = max(self.options.batch_size // self.block, 1) * self.block
        usable = len(self.samples) - len(self.samples) % self.block
        for begin in range(0, usable, size):
            positions = np.arange(begin, min(begin + size, usable))
            yield self._examples(self.samples.take(positions), positions)

    def _examples(self, batch: Batch, positions: Any) -> Examples:
        block, count = self.block, batch.size // self.block

        def shaped(tensor: Tensor) -> Tensor:
            return tensor.reshape(count, block, *tensor.shape[1:])

        shared = tuple(spec.shared for spec in self.samples.specs)
        arrays = [self._tensor(batch.inputs[spec.name]) for spec in self.samples.specs]
        inputs = tuple(x if s else shaped(x) for x, s in zip(arrays, shared, strict=True))
        labels = None if batch.labels is None else shaped(self._tensor(batch.labels))
        noise = self.objective.noise(self.shapes, block, self.options.seed, positions.tolist())
        return Examples(inputs, shared, labels, tuple(shaped(self._tensor(n)) for n in noise), count, block)

    # One example ----------------------------------------------------------------------------------------------------

    def value(
        self, module: nn.Module, variables: Variables, inputs: tuple[Tensor, ...], labels: Tensor | None,
        noise: tuple[Tensor, ...],
    ) -> Tensor:  # fmt: skip
        """Return what is differentiated for one example, a scalar, with some parameters replaced by ``variables``."""
        outputs = outputs_of(torch.func.functional_call(module, variables, inputs))
        return self.objective(outputs, labels, noise, self.block)

    def gradients(self, module: nn.Module, variables: Variables, examples: Examples) -> Variables:
        """Return the derivative of every example's value in every variable, shape (examples, shape of the variable)."""
        if not self._one_by_one:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that an operator is slow under vmap
                    return self._at_once(module, variables, examples)
            except VMAP_FAILURES as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
                self._one_by_one = True
                self.notes += (f"per-example gradients were taken one by one: {reason}",)
        return self._in_turn(module, variables, examples)

    _one_by_one = False

    def _at_once(self, module: nn.Module, variables: Variables, examples: Examples) -> Variables:
        def value(
            variables: Variables, inputs: tuple[Tensor, ...], labels: Tensor | None, noise: tuple[Tensor, ...]
        ) -> Tensor:
            return self.value(module, variables, inputs, labels, noise)

        inputs = tuple(None if s else 0 for s in examples.shared)
        dims = (None, inputs, None if examples.labels is None else 0, 0)
        each = torch.func.vmap(torch.func.grad(value), in_dims=dims)
        found: Variables = each(variables, examples.inputs, examples.labels, examples.noise)
        return {name: g.detach() for name, g in found.items()}

    def _in_turn(self, module: nn.Module, variables: Variables, examples: Examples) -> Variables:
        leaves = {name: v.detach().requires_grad_() for name, v in variables.items()}
        rows: list[tuple[Tensor, ...]] = []
        for k in range(examples.count):
            value = self.value(module, leaves, *examples.one(k))
            found = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
            rows.append(
                tuple(torch.zeros_like(v) if g is None else g for v, g in zip(leaves.values(), found, strict=True))
            )
        return {name: torch.stack(column) for name, column in zip(leaves, zip(*rows, strict=True), strict=True)}

    def mean_gradients(self, variables: Variables, examples: Examples) -> Variables:
        """Return the derivative of the mean of the examples' losses, shape (1, shape of the variable)."""
        leaves = {name: v.detach().requires_grad_() for name, v in variables.items()}
        parts = [examples.one(k) for k in range(examples.count)] if self.samples.fixed_batch else [examples.merged()]
        total = {name: torch.zeros_like(v)[None] for name, v in variables.items()}
        for inputs, labels, noise in parts:
            outputs = outputs_of(torch.func.functional_call(self.module, leaves, inputs))
            samples = self.block * examples.count // len(parts)
            value = self.objective(outputs, labels, noise, samples) / len(parts)
            for name, g in zip(
                leaves, torch.autograd.grad(value, list(leaves.values()), allow_unused=True), strict=True
            ):
                if g is not None:
                    total[name] += g
        return total

    def chunks(self, examples: Examples, variables: Mapping[str, Tensor]) -> Iterator[Examples]:
        """Yield the examples in stretches whose gradients fit in memory."""
        bytes_each = sum(v.numel() * v.element_size() for v in variables.values())
        step = max(1, ROOM // max(bytes_each, 1))
        for start in range(0, examples.count, step):
            yield examples.part(start, start + step)


def outputs_of(result: Any) -> tuple[Tensor, ...]:
    """Return a module's outputs as a tuple, whatever it returns them in."""
    if isinstance(result, Tensor):
        return (result,)
    return tuple(result.values()) if isinstance(result, Mapping) else tuple(result)


def task_of(graph: Graph, options: Options, method: str) -> Task:
    """Make a differentiable copy of a graph's model and open the data for it.

    Raises UsageError where there is no data or it does not fit, ModelError where the model has no differentiable copy.
    """
    if options.data is None:
        hint = "give samples by --data (or data=...), labelled if you can"
        raise UsageError("data-missing", f"{method} needs data", where="data", hint=hint)
    from ..data import open_samples
    from ..interpret.differentiable import differentiable, input_specs

    module = differentiable(graph, device_of(options))
    samples = open_samples(
        options.data, input_specs(graph, module), labels=options.labels, preprocess=options.preprocess
    )
    if options.samples is not None:
        samples = samples.first(options.samples)
    if len(samples) < (samples.fixed_batch or 1):
        hint = "give at least as many samples as the model's batch"
        raise UsageError("data-empty", "there are no samples to score with", where="data", hint=hint)
    return Task(module, samples, options, graph.outputs)


def device_of(options: Options) -> str:
    """Return the device to work on: the one asked for, or a GPU if there is one."""
    if options.device != "auto":
        return options.device
    return "cuda" if torch.cuda.is_available() else "cpu"
