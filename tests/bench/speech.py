"""Telling speech from silence: silero-vad's network, on sentences that espeak-ng says, with pauses and noise."""

from __future__ import annotations

import importlib
import io
import shutil
import subprocess
import wave
from functools import cache
from math import gcd
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from task import Run, Samples, Task
from text_tasks import phrase

RATE, STEP, CONTEXT = 16000, 512, 64
VOICES = ("en", "en-us", "en-gb-scotland", "en+m3", "en+f2", "en+f4")
EACH = 4
"""Sentences that follow each other in a recording."""


def speech() -> Task:
    """Voice activity: how many windows of 32 ms stay on the same side of one half, in 12 recordings."""

    def model() -> onnx.ModelProto:
        folder = Path(str(importlib.import_module("silero_vad").__file__)).parent
        made = onnx.load(next(folder.rglob("silero_vad_16k_sequence.onnx")))
        state = [i for i in made.graph.input if i.name in ("h", "c")]
        for given in state:  # recordings begin with nothing heard
            made.graph.input.remove(given)
            made.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 1, 128), np.float32), given.name))
        return made

    def calibration(count: int, seed: int) -> Samples:
        rows = np.concatenate([windows(recording(seed, k)) for k in range(-(-count // 200) + 1)])
        return {"input": rows[:count]}

    def measure(run: Run, original: Run) -> float:
        same = [
            (np.ravel(run(x)[0]) > 0.5) == (np.ravel(original(x)[0]) > 0.5)
            for x in ({"input": windows(recording(4711, k))} for k in range(12))
        ]
        return float(np.concatenate(same).mean())

    return Task("speech", "agreement", model, calibration, measure, samples=1024)


def windows(sound: np.ndarray) -> np.ndarray:
    """Return windows one after the other, each with the end of the one before: (windows, 576)."""
    count = len(sound) // STEP
    padded = np.concatenate([np.zeros(CONTEXT, np.float32), sound])
    return np.stack([padded[k * STEP : k * STEP + STEP + CONTEXT] for k in range(count)])


@cache
def recording(seed: int, number: int) -> np.ndarray:
    """Return sentences with pauses, under noise of some loudness."""
    rng = np.random.default_rng([seed, 6, number])
    parts = []
    for _ in range(EACH):
        pause = np.zeros(int(rng.uniform(0.2, 1.5) * RATE), np.float32)
        parts += [pause, said(phrase(rng, 2, 6), str(rng.choice(VOICES)), int(rng.integers(130, 190)))]
    sound = np.concatenate(parts)
    made: np.ndarray = sound + rng.normal(0, 10 ** rng.uniform(-3.5, -1.8), len(sound)).astype(np.float32)
    return made.astype(np.float32)


def said(text: str, voice: str, speed: int) -> np.ndarray:
    """Return a text as espeak-ng says it."""
    from scipy.signal import resample_poly

    if shutil.which("espeak-ng") is None:
        raise ImportError("speech: apt-get install espeak-ng")
    done = subprocess.run(
        ["espeak-ng", "-v", voice, "-s", str(speed), "--stdout", text], check=True, capture_output=True
    )
    with wave.open(io.BytesIO(done.stdout)) as file:
        rate, frames = file.getframerate(), file.readframes(file.getnframes())
    samples = np.frombuffer(frames[: len(frames) // 2 * 2], np.int16).astype(np.float32) / 32768
    part = gcd(rate, RATE)
    return resample_poly(samples, RATE // part, rate // part).astype(np.float32)
