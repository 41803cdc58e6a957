"""Weights and gates trained together: the original's differentiable copy, with noise, by the engine of fine-tuning."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from ..data import Samples, open_samples
from ..errors import ModelError, UsageError
from ..finetune import FinetuneReport, Settings
from ..finetune.api import Given, Place, silent, train_on
from ..finetune.extras import Extras
from ..finetune.job import Job
from ..finetune.student import Student, Trainee, digest_of
from ..folding.values import with_values
from ..frontends.onnx.trace import OnnxSource
from ..graph import Graph
from ..groups import Group, Groups
from ..interpret.differentiable import differentiable, input_specs
from ..interpret.gates import OWN, Gated, insert_gates
from ..scores import FloatArray
from .gate import Gate
from .inputs import INPUTS, input_group, input_site
from .modes import follow_mode
from .options import GateTraining
from .places import Gating, gating_of
from .watch import Watch, log_ratio_of

if TYPE_CHECKING:
    from ..data import InputSpec

Make = Callable[[int, int], nn.Module]
"""Makes the gate for so many units, from a seed."""
Insert = Callable[..., Gated]
"""Puts gates into a differentiable copy; called as ``insert_gates`` is."""


@dataclass(frozen=True)
class Method:
    """What a method's gates are.

    ``make`` makes one, ``worth`` tells what its units carry, shape (units,), in nats. ``insert`` says where gates
    stand: at the consumers unless told otherwise.
    """

    make: Make
    worth: Callable[[Gate], FloatArray]
    insert: Insert = insert_gates


@dataclass(frozen=True)
class GatedModel:
    """A differentiable copy with gates in it, by group id (``INPUTS`` for the features of the input).

    ``weights`` are what each gate's divergence counts.
    """

    module: fx.GraphModule = field(repr=False)
    gates: Mapping[str, Gate]
    gating: Gating
    weights: Mapping[str, float]

    def project(self) -> None:
        """Clamp the parameters of all gates."""
        for gate in self.gates.values():
            gate.project()


@dataclass(frozen=True)
class Trained:
    """A gated model after training on ``samples``; ``kl`` is what multiplied its divergence at the end.

    ``noted`` is what ``Watch`` saw after each epoch.
    """

    model: GatedModel
    samples: Samples
    kl: float
    report: FinetuneReport
    noted: tuple[Mapping[str, Any], ...]

    def log_ratios(self) -> dict[str, FloatArray]:
        """Return every gate's log ratios, shape (units,)."""
        return {name: log_ratio_of(gate) for name, gate in self.model.gates.items()}


class Penalty:
    """The gates' divergence, weighted, as training adds it to the mean loss."""

    def __init__(self, gates: Mapping[str, Gate], weights: Mapping[str, float], options: GateTraining) -> None:
        # In an order that does not depend on the model's, so that sums round alike.
        self.terms = [(gates[name], weights[name]) for name in sorted(gates)]
        self.options = options

    def __call__(self, job: Job, done: int) -> Tensor:
        """Return the term for the step after ``done`` others."""
        rise = self.options.kl_warmup * job.steps * job.settings.epochs
        share = min(1.0, (done + 1) / rise) if rise > 0 else 1.0
        total = torch.stack([gate.kl() * weight for gate, weight in self.terms]).sum()
        return total * (share * factor_of(self.options, len(job.train)))


def factor_of(options: GateTraining, samples: int) -> float:
    """Return what multiplies the weighted sum of the divergences, beside the mean loss, once it has risen."""
    return 1.0 / samples if options.kl is None else options.kl


def train_gates(graph: Graph, groups: Groups, options: GateTraining, method: Method, name: str) -> Trained:
    """Train the weights of a graph's model and a gate for each of its groups; neither graph nor model is changed.

    Raises UsageError for data and options that do not fit, ModelError for a model without groups that gates can serve,
    and when training diverges or the gates collapse.
    """
    options.check(name)
    settings = _settings(options)
    check_copy(graph)
    core = differentiable(graph).eval()
    # As it was captured and without gates: what a batch is must not hang on noise.
    specs = input_specs(graph, core)
    core = _as_trained(follow_mode(core), graph)
    samples = _opened(options, specs, name)
    gated = _gated(core, graph, groups, options, method)
    extras = Extras(
        penalty=Penalty(gated.gates, gated.weights, options),
        rates={f"{OWN}.": 1.0 if options.gate_lr is None else options.gate_lr / options.lr},
        after_step=gated.project,
        observe=Watch(gated.gates, options.threshold, options.min_keep),
        keep_last=True,
        made_with=_made_with(options, name),
    )
    student = Student(gated.module, graph.inputs, keywords=False)
    trainee = Trainee(student, specs, graph.outputs, lambda: gated.module, digest_of(gated.module), static=True)
    given = Given(gated.module, samples, _teacher(graph, options, samples))
    place = None if options.checkpoint is None else Place(Path(options.checkpoint))
    tuned = train_on(trainee, given, settings, place, options.tell or silent, extras)
    train, _ = samples.split(settings.holdout, settings.seed)
    return Trained(gated, train, factor_of(options, len(train)), tuned.report, tuned.noted)


def check_copy(graph: Graph) -> None:
    """Raise ModelError, before anything is trained, for a torch model that could not be given back."""
    if not isinstance(graph.source, OnnxSource):
        with_values(graph, {})


def _as_trained(core: fx.GraphModule, graph: Graph) -> fx.GraphModule:
    """Leave alone what the user's module does not train."""
    if not isinstance(graph.source, OnnxSource):
        for name, parameter in core.named_parameters():
            parameter.requires_grad_(graph.source.parameters[name].requires_grad)
    return core


def _settings(options: GateTraining) -> Settings:
    """Return the settings of the run; a model that is the teacher is followed alone, labels or not."""
    return Settings(
        loss=options.loss, label_weight=0.0, epochs=options.epochs, lr=options.lr, optimizer=options.optimizer,
        weight_decay=options.weight_decay, warmup=options.warmup, batch_size=options.batch_size,
        precision=options.precision, seed=options.seed, holdout=options.holdout, batch_norm=options.batch_norm,
        device=options.device,
    )  # fmt: skip


def _opened(options: GateTraining, specs: tuple[InputSpec, ...], name: str) -> Samples:
    if options.data is None:
        hint = "give training samples by --data (or data=...), labelled if you can"
        raise UsageError("data-missing", f"{name} trains the model and needs data", where="--data", hint=hint)
    samples = open_samples(options.data, specs, labels=options.labels, preprocess=options.preprocess)
    if options.target == "labels" and not samples.has_labels:
        hint = "name them by labels, or learn what the model itself answers (target='model')"
        raise UsageError("labels-missing", "the data has no labels to learn", where="target", hint=hint)
    return samples


def _teacher(graph: Graph, options: GateTraining, samples: Samples) -> Any:
    """Return the original where its answers are to be learned, else None."""
    if options.target == "labels" or (options.target == "auto" and samples.has_labels):
        return None
    if isinstance(graph.source, OnnxSource):
        return graph.source.loaded or graph.source.model
    return differentiable(graph).eval()


def _gated(core: fx.GraphModule, graph: Graph, groups: Groups, options: GateTraining, method: Method) -> GatedModel:
    """Put gates on all groups that they can serve, and on the input's features where asked."""
    gating = gating_of(graph, groups, interior_only=options.interior_only)
    site = input_site(graph) if options.gate_inputs else None
    if not gating.places and site is None:
        raise _nothing_to_gate(gating.left)

    def made(group: Group) -> nn.Module | None:
        return method.make(group.size, _seed(options.seed, group.id)) if group.id not in gating.left else None

    further = () if site is None else ((input_group(site), site),)
    inserted = method.insert(core, graph, groups, make=made, further=further)
    weights = options.weighed(gating.weights(options.positions) | ({} if site is None else {INPUTS: 1.0}))
    return GatedModel(inserted.module, inserted.gates, gating, weights)


def _nothing_to_gate(left: Mapping[str, str]) -> ModelError:
    """Return the error for a model without gates, with the first reasons."""
    why = "; ".join(f"{name}: {reason}" for name, reason in list(left.items())[:3])
    words = f"the model has no group that a gate can serve{f' ({why})' if why else ''}"
    hint = "take a method without gates, such as obs" if left else "inspect the model to see why nothing can be pruned"
    return ModelError("nothing-to-gate", words, hint=hint)


def _seed(seed: int, name: str) -> int:
    """Return a seed of a group's own, whatever the order of groups."""
    return int(np.random.SeedSequence([seed, zlib.crc32(name.encode())]).generate_state(1)[0])


def _made_with(options: GateTraining, name: str) -> dict[str, Any]:
    """Return what a checkpoint must share, besides the settings of fine-tuning."""
    names = ("target", "gate_lr", "kl", "kl_warmup", "positions", "gate_inputs", "interior_only")
    own = (f.name for f in fields(options) if f.name not in {g.name for g in fields(GateTraining)})
    return {"method": name, **{option: getattr(options, option) for option in (*names, *own)}}
