"""What latency is measured on: an execution provider, threads, a batch, and the processor that they run on."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from time import get_clock_info, perf_counter, thread_time
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, UsageError
from ..providers import available, full_name, short_name

if TYPE_CHECKING:
    from onnx import ModelProto

    from ..runtime import Feeds

Lap = Callable[[int], float]
"""Runs a model so many times in a row and returns the seconds of all these runs together."""
CPU = "cpu"
DEVICES = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda"}
"""Providers whose inputs are laid on the device before the clock starts."""
FINE = 1e-5
"""Seconds: a clock that is coarser cannot time a turn."""
OPTIMISED = "optimised.onnx"
SETS = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
"""Instruction sets that decide which kernels run, as Linux names them."""


@dataclass(frozen=True)
class Machine:
    """Where and how models are timed.

    ``provider`` is an onnxruntime execution provider, by its short name ("cpu", "cuda") or in full. ``threads`` is how
    many threads work within an operator; 0 leaves it to onnxruntime, which takes every physical core. The default is
    one: it is what servers that run many models at once use, and what can be measured with the least noise. Where one
    thread does all the work its own processor time is counted, so that other programs' turns on a busy machine are not;
    otherwise the clock on the wall. ``batch`` is the size of the first axis of inputs that leave it open; None: 1.

    Everything that is timed goes through ``lap``: tests put their own seconds in its place.
    """

    provider: str = CPU
    threads: int = 1
    batch: int | None = None

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense; raises UsageError."""
        if self.threads < 0:
            hint = "give a number of threads, or 0 for as many as onnxruntime takes"
            raise UsageError("bad-threads", f"{self.threads} threads cannot run", where="--threads", hint=hint)
        if self.batch is not None and self.batch < 1:
            hint = "give a number of samples, such as 1"
            raise UsageError("bad-batch", f"a batch of {self.batch} holds nothing", where="--batch", hint=hint)

    @property
    def full_provider(self) -> str:
        """The provider's name in onnxruntime."""
        return full_name(self.provider)

    def check(self) -> None:
        """Raise UsageError where this onnxruntime does not have the provider; it names those that it has."""
        available(self.provider)

    def session(self, model: ModelProto | Path, *, trace: Path | None = None) -> Any:
        """Return an onnxruntime session as a user would make it, with this provider and these threads.

        Nothing else is set: graph optimisations are all on. With ``trace``, a folder, the session writes there what it
        runs (``optimised.onnx``, without large weights, where the provider can say it) and onnxruntime's profile.
        Raises UsageError for a provider that is not there or does not start, ModelError for a model that cannot be
        loaded.
        """
        import onnxruntime

        from ..runtime import RUNTIME_ERRORS, first_line

        self.check()
        name = self.full_provider
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        if trace is not None:
            _tracing(options, trace)
        try:
            made = _opened(model, options, [name])
        except RUNTIME_ERRORS as error:
            if options.optimized_model_filepath:  # compiled parts cannot be written: then without
                options.optimized_model_filepath = ""
                return self._started(_opened(model, options, [name]))
            raise ModelError("not-runnable", f"onnxruntime cannot load it: {first_line(error)}", where=name) from error
        return self._started(made)

    def _started(self, made: Any) -> Any:
        if made.get_providers()[0] != self.full_provider:
            words = f"the provider {self.provider!r} does not start here: onnxruntime fell back to another"
            hint = "the device, its driver or one of its libraries may be missing; --provider cpu always runs"
            raise UsageError("provider-failed", words, where="--provider", hint=hint)
        return made

    def clock(self) -> Callable[[], float]:
        """Return the clock that runs are timed by: this thread's processor time where it does all the work."""
        return clock_of(alone=self.threads == 1 and name_is_cpu(self.full_provider))

    def lap(self, model: ModelProto | Path, feeds: Feeds) -> Lap:
        """Return what times a model on these inputs; the model is loaded once, here.

        On a GPU the inputs are laid on the device before, outputs stay there, and the clock stops when all is computed.
        Raises what ``session`` raises; a run raises one of runtime.RUNTIME_ERRORS.
        """
        made = self.session(model)
        device = DEVICES.get(self.full_provider)
        run = _bound(made, feeds, device) if device else lambda: made.run(None, feeds)

        clock = self.clock()

        def lap(runs: int) -> float:
            start = clock()
            for _ in range(runs):
                run()
            return clock() - start

        return lap

    def signature(self) -> dict[str, str]:
        """Say what decides how long something takes: processor, instruction sets, onnxruntime, provider, threads.

        Not the batch: it is part of what is run.
        """
        import onnxruntime

        name, sets = processor()
        parts = {"cpu": name, "instructions": " ".join(sets), "system": f"{platform.system()} {platform.machine()}"}
        if self.full_provider in DEVICES:
            parts["gpu"] = graphics()
        parts |= {"onnxruntime": onnxruntime.__version__, "provider": short_name(self.full_provider)}
        return parts | {"threads": str(self.threads)}

    def key(self) -> str:
        """Return a short name of the signature, for files: 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.signature(), sort_keys=True).encode()).hexdigest()[:16]


def name_is_cpu(provider: str) -> bool:
    """Tell whether onnxruntime's own kernels run, on the thread that calls where there is one."""
    return provider == "CPUExecutionProvider"


def clock_of(*, alone: bool) -> Callable[[], float]:
    """Return the clock to read: processor time of this thread where that is all and the clock is fine enough."""
    fine = get_clock_info("thread_time").resolution <= FINE if alone else False
    return thread_time if fine else perf_counter


@cache
def processor() -> tuple[str, tuple[str, ...]]:
    """Return the processor's name and those of its instruction sets that decide which kernels run."""
    info = Path("/proc/cpuinfo")
    said: Mapping[str, str] = {}
    if info.exists():
        pairs = (line.partition(":") for line in info.read_text(errors="replace").splitlines() if ":" in line)
        said = {key.strip(): value.strip() for key, _, value in reversed(list(pairs))}
    identity = " ".join(said[k] for k in ("cpu family", "model", "CPU implementer", "CPU part") if k in said)
    name = said.get("model name") or platform.processor() or platform.machine()
    flags = set(said.get("flags", said.get("Features", "")).split())
    return f"{name} ({identity})" if identity else name, tuple(s for s in SETS if s in flags)


@cache
def graphics() -> str:
    """Return the name of the first NVIDIA GPU, "unknown" where its tool does not tell."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return "unknown"
    asked = [tool, "--query-gpu=name", "--format=csv,noheader"]
    said = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False).stdout.splitlines()
    return said[0].strip() if said else "unknown"


def _tracing(options: Any, folder: Path) -> None:
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    options.optimized_model_filepath = str(folder / OPTIMISED)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", f"{OPTIMISED}.data")
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")


def _opened(model: ModelProto | Path, options: Any, providers: list[str]) -> Any:
    import onnxruntime

    from ..frontends.files.mapped import is_mapped
    from ..runtime import serialised

    if isinstance(model, Path):
        return onnxruntime.InferenceSession(str(model), options, providers=providers)
    if not any(is_mapped(t) for t in model.graph.initializer):
        return onnxruntime.InferenceSession(serialised(model), options, providers=providers)
    from ..backends.save import save

    # Weights that lie in files are written out, so that the runtime may pack them as it does for a user.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        save(model, file)
        return onnxruntime.InferenceSession(str(file), options, providers=providers)


def _bound(session: Any, feeds: Feeds, device: str) -> Callable[[], None]:
    import onnxruntime

    binding = session.io_binding()
    for name, array in feeds.items():
        value = onnxruntime.OrtValue.ortvalue_from_numpy(array, device, 0)
        binding.bind_ortvalue_input(name, value)
    for output in session.get_outputs():
        binding.bind_output(output.name, device)

    def run() -> None:
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run
