"""One process or many, CPU or GPU, full or mixed precision: the only file that knows Lightning Fabric.

Fabric was chosen over Accelerate because it keeps no state of its own between runs: a second ``Accelerator`` in a
process with another precision is an error ("AcceleratorState has already been initialized"), which a library must not
bring upon its caller. It costs more to import (1.4 s against 0.1 s), which is why only fine-tuning imports it.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..errors import UsageError

FABRIC = {"32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class Engine:
    """The processes of a run: ``rank`` of ``world``, on ``device``, at ``precision`` ("32", "bf16" or "fp16")."""

    fabric: Any
    rank: int
    world: int
    device: torch.device
    precision: str

    @property
    def writes(self) -> bool:
        """Whether this process is the one that writes and talks."""
        return self.rank == 0

    def setup(self, module: nn.Module, optimizer: Optimizer) -> tuple[nn.Module, Any]:
        """Return the module and the optimiser for training; gradients are then averaged over the processes."""
        trained, stepping = self.fabric.setup(module, optimizer)
        return trained, stepping

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss, scaled where the precision asks for it."""
        self.fabric.backward(loss)

    def gathering(self, module: nn.Module, *, enabled: bool) -> AbstractContextManager[None]:
        """Return a context in which gradients are only averaged if ``enabled``: at the last part of a step."""
        if enabled or self.world == 1:
            return nullcontext()
        return self.fabric.no_backward_sync(module)  # type: ignore[no-any-return]

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context of the precision, for forward passes outside training."""
        return self.fabric.autocast()  # type: ignore[no-any-return]

    def seed(self, seed: int) -> None:
        """Seed the generators that a step draws from: the CPU's, and the GPU's where it runs on one.

        ``torch.manual_seed`` also leaves a note for every other kind of device, with the stack: 0.5 ms a call.
        """
        torch.random.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of the processes' values."""
        summed: Tensor = self.fabric.all_reduce(values.clone(), reduce_op="sum") if self.world > 1 else values
        return summed

    def share(self, tensors: Iterator[Tensor]) -> None:
        """Give every process the first one's values: running statistics follow what each process saw."""
        if self.world > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor, 0)

    def wait(self) -> None:
        """Wait for all processes."""
        self.fabric.barrier()

    def scaling(self) -> dict[str, Any]:
        """Return the state of the loss's scale, which half precision keeps."""
        return dict(self.fabric.strategy.precision.state_dict())

    def restore_scaling(self, state: dict[str, Any]) -> None:
        """Set the state of the loss's scale."""
        self.fabric.strategy.precision.load_state_dict(state)


def start(device: str = "auto", precision: str = "auto", *, static: bool = False) -> Engine:
    """Join the processes that torchrun started, or be the only one.

    ``static`` promises that every trainable parameter has a part in every loss. Raises UsageError when there is no GPU
    to use, or Fabric is not installed.
    """
    cuda = torch.cuda.is_available()
    if device == "cuda" and not cuda:
        raise UsageError("no-gpu", "torch finds no GPU", where="--device", hint="give cpu, or auto")
    on_gpu = cuda and device != "cpu"
    chosen = _precision(precision, on_gpu=on_gpu)
    try:
        library = import_module("lightning_fabric")
    except ImportError as error:
        hint = "pip install 'graphprune[train]'"
        raise UsageError("fabric-missing", "fine-tuning needs lightning-fabric", hint=hint) from error
    with _quiet():
        fabric = _fabric(library, "cuda" if on_gpu else "cpu", FABRIC[chosen], static=static)
        fabric.launch()
    return Engine(fabric, fabric.global_rank, fabric.world_size, fabric.device, chosen)


def _precision(wanted: str, *, on_gpu: bool) -> str:
    if wanted != "auto":
        return wanted
    if not on_gpu:
        return "32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def _fabric(library: Any, accelerator: str, precision: str, *, static: bool) -> Any:
    """Make Fabric; only torchrun's environment counts, not what a cluster's other variables suggest."""
    if not torch.distributed.is_torchelastic_launched():
        alone = import_module("lightning_fabric.plugins.environments").LightningEnvironment()
        return library.Fabric(accelerator=accelerator, devices=1, precision=precision, plugins=[alone])
    local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    # Buffers are shared where they are needed (see ``share``): shares of a step may take several forward passes, or one
    # more on one process than on another. The option was renamed in torch 2.13.
    known = inspect.signature(nn.parallel.DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    ddp = import_module("lightning_fabric.strategies").DDPStrategy
    strategy = ddp(find_unused_parameters=not static, **{buffers: False})
    return library.Fabric(
        accelerator=accelerator, devices=local, num_nodes=world // local, precision=precision, strategy=strategy
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Fabric's notes on its choices off stderr: the report has them."""
    loggers = [logging.getLogger(name) for name in ("lightning_fabric", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
