"""A stand-in for the model: the real events with tiny real frames, each step done only when it is let."""

import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.errors import ModelUnavailable
from pipeline.events import ClipFrames, Event, FramesDecoded, ModelState, Resume, StageChanged, Started, StepDone
from pipeline.media.planning import plan_request
from pipeline.request import GenerationRequest
from pipeline.store.catalogue import ModelEntry

STEPS = 3
SEED = 1234
ENTRY = ModelEntry(
    name="script",
    title="Scripted model",
    variant="none",
    defaults={"max_area": 64 * 64, "steps": STEPS, "guidance": 1.0},
    notice="This model is <scripted>: its pictures are grey.",
)


class PacedModel:
    """Makes grey clips. A step waits until it is let (`let`, `let_all`), or fails with `error` where there is one."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self._changed = threading.Condition()
        self._steps_let = 0
        self._all_let = False

    def prepare(self, report: Callable[[ModelState], None]) -> "PacedModel":
        report(ModelState("loading", "script"))
        return self

    def let(self, steps: int) -> None:
        with self._changed:
            self._steps_let += steps
            self._changed.notify_all()

    def let_all(self) -> None:
        with self._changed:
            self._all_let = True
            self._changed.notify_all()

    def _wait(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._all_let or self._steps_let > 0, 60), "nobody let a step"
            self._steps_let -= 1
        if self.error:
            raise self.error

    def generate(self, request: GenerationRequest, resume: Resume | None = None) -> Iterator[Event]:
        plan = plan_request(request, 300).plan
        yield Started(plan, request.seed if request.seed >= 0 else SEED)
        for stage in ("text", "speech", "portrait"):
            yield StageChanged(stage, 0)
        for clip in range(1, plan.clips + 1):
            yield StageChanged("denoise", clip)
            for step in range(1, request.steps + 1):
                self._wait()
                yield StepDone(clip, step, request.steps, lambda: np.full((8, 8, 3), 200, np.uint8))
            yield StageChanged("decode", clip)
            yield FramesDecoded(clip, 1, 1)
            count = plan.frames_per_clip - (plan.warm_up_frames if clip == 1 else 0)
            yield ClipFrames(clip, np.full((count, plan.height, plan.width, 3), 40 * clip, np.uint8), None)


def failing_once(model: PacedModel) -> Callable[[Callable[[ModelState], None]], PacedModel]:
    """What prepares `model`, but not at the first try."""
    tries = iter([ModelUnavailable("The model's folder lacks Wan2.1_VAE.pth.")])

    def prepare(report: Callable[[ModelState], None]) -> PacedModel:
        for error in tries:
            raise error
        return model.prepare(report)

    return prepare


def write_portrait(path: Path, width: int = 80, height: int = 80) -> Path:
    shades = np.linspace(0, 255, width * height, dtype=np.uint8).reshape(height, width)
    Image.fromarray(shades).convert("RGB").save(path)
    return path


def write_voice(path: Path, seconds: float) -> Path:
    tone = 0.3 * np.sin(np.arange(round(16000 * seconds)) * 2 * np.pi * 220 / 16000)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((tone * 32767).astype("<i2").tobytes())
    return path
