"""What happens while a video is made or a model arrives: frozen values that cross from the model to everybody else.

`SpeechToVideo.generate` yields Started, StageChanged, StepDone, FramesDecoded and ClipFrames. Whoever records the
clips (pipeline/jobs/rendering.py) turns each ClipFrames into a file and hands on a ClipReady, then Finished. All
work lies between two events, so to stop a generation is to close its generator.
"""

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline.request import ClipPlan

Stage = Literal["text", "speech", "portrait", "denoise", "decode", "encode"]
# "asking": a person has to agree to the download. "waiting": another program downloads.
ModelPhase = Literal["checking", "asking", "waiting", "downloading", "loading", "ready", "failed"]


@dataclass(frozen=True)
class MotionMemory:
    """What a clip leaves for the next one, exactly as computed.

    latents: float32 (16, 19, h, w), the last 73 frames encoded (as the model reads them).
    frames: float32 (3, n, H, W) in [-1, 1], those of them that the clip after next still needs: n is 0 for clips of
    76 frames or more.
    """

    latents: np.ndarray
    frames: np.ndarray


@dataclass(frozen=True)
class Resume:
    """Where an interrupted generation goes on: after `clip` (from 1), with the memory that it left."""

    clip: int
    motion: MotionMemory


@dataclass(frozen=True)
class Started:
    """The request was checked and planned; `seed` is the one in use."""

    plan: ClipPlan
    seed: int


@dataclass(frozen=True)
class StageChanged:
    """Work on `stage` begins; `clip` counts from 1 and is 0 before the first."""

    stage: Stage
    clip: int


@dataclass(frozen=True)
class StepDone:
    """Denoising step `step` of `steps` (from 1) of `clip` (from 1) is done.

    `draw`, where there is one, gives what the clip is becoming, a small picture, uint8 (h, w, 3). It costs nothing
    unless it is called, which is for the thread that drives the generator, before it asks for the next event.
    """

    clip: int
    step: int
    steps: int
    draw: Callable[[], np.ndarray] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class FramesDecoded:
    """`done` of `total` latent frames of `clip` (from 1) are pixels."""

    clip: int
    done: int
    total: int


@dataclass(frozen=True)
class ClipFrames:
    """The pixels of `clip` (from 1), uint8 (T, H, W, 3), and what the next clip starts from (None after the last)."""

    clip: int
    frames: np.ndarray
    motion: MotionMemory | None


@dataclass(frozen=True)
class ClipReady:
    """`clip` (from 1) is written; `video` holds the video so far, with sound, `frames` frames long."""

    clip: int
    clips: int
    video: Path
    frames: int


@dataclass(frozen=True)
class Finished:
    """The whole video is in `video`."""

    video: Path


@dataclass(frozen=True)
class Failed:
    """The work ended without the whole video; `message` says why and what to do."""

    message: str


@dataclass(frozen=True)
class Cancelled:
    """Somebody stopped the work; finished clips are kept."""


Event = Started | StageChanged | StepDone | FramesDecoded | ClipFrames | ClipReady | Finished | Failed | Cancelled


@dataclass(frozen=True)
class ModelState:
    """How far the model is from being usable (the /model endpoint and /readyz give these fields as JSON)."""

    state: ModelPhase
    model: str
    bytes_done: int = 0
    bytes_total: int = 0
    bytes_per_s: float | None = None
    eta_s: float | None = None
    file: str | None = None
    attempt: int = 0
    message: str = ""


def event_json(event: Event) -> dict[str, Any]:
    """`event` as a JSON object, its kind under "event": StepDone -> {"event": "step_done", ...}."""
    kind = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
    values = {field.name: getattr(event, field.name) for field in dataclasses.fields(event) if field.name != "draw"}
    return {"event": kind} | {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    return str(value) if isinstance(value, Path) else value
