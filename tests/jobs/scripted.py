"""A stand-in for the model: the real events with tiny real frames, computed from seed and memory as a model's are."""

import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image

from pipeline.events import (
    ClipFrames,
    Event,
    FramesDecoded,
    ModelState,
    MotionMemory,
    Resume,
    StageChanged,
    Started,
    StepDone,
)
from pipeline.jobs.queue import JobQueue
from pipeline.jobs.status import Status
from pipeline.media.planning import plan_request
from pipeline.request import MAX_SEED, ClipPlan, GenerationRequest

from ..awaiting import result_of

DRAWN_SEED = 1234
SIDE = 64


def write_inputs(folder: Path, seconds: float = 1.2) -> GenerationRequest:
    """A request with a real portrait and a real sound; 1.2 s are 20 frames: three clips of 8."""
    folder.mkdir(parents=True, exist_ok=True)
    shades = np.linspace(0, 255, 80, dtype=np.uint8)
    Image.fromarray(np.stack([*np.meshgrid(shades, shades), np.full((80, 80), 99)], axis=-1).astype(np.uint8)).save(
        folder / "my face.PNG"
    )
    tone = 0.3 * np.sin(np.arange(round(16000 * seconds)) * 2 * np.pi * 440 / 16000)
    with wave.open(str(folder / "my voice.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((tone * 32767).astype("<i2").tobytes())
    return GenerationRequest.parse(
        {
            "portrait": folder / "my face.PNG",
            "audio": folder / "my voice.wav",
            "max_area": SIDE * SIDE,
            "frames_per_clip": 8,
            "steps": 3,
        }
    )


class Script:
    """A model whose every clip depends on the seed and on what the clip before it left.

    `before` is called with each event before it is yielded: to wait there, or to raise.
    """

    def __init__(self, before: Callable[[Event], None] = lambda event: None):
        self.before = before
        self.resumed: list[int] = []  # the clip after which each call went on
        self.drawn = 0  # previews
        self.closed = threading.Event()  # a generation has ended, one way or the other

    def prepare(self, report: Callable[[ModelState], None]) -> "Script":
        report(ModelState(state="loading", model="script"))
        return self

    def generate(self, request: GenerationRequest, resume: Resume | None = None) -> Iterator[Event]:
        self.resumed.append(resume.clip if resume else 0)
        try:
            for event in self._events(request, resume):
                self.before(event)
                yield event
        finally:
            self.closed.set()

    def _events(self, request: GenerationRequest, resume: Resume | None) -> Iterator[Event]:
        plan = plan_request(request, 60).plan
        seed = request.seed if request.seed >= 0 else DRAWN_SEED
        yield Started(plan, seed)
        for stage in ("text", "speech", "portrait"):
            yield StageChanged(stage, 0)
        motion = resume.motion if resume else first_motion()
        for clip in range(resume.clip + 1 if resume else 1, plan.clips + 1):
            motion = yield from self._clip(clip, plan, seed, request.steps, motion)

    def _clip(self, clip: int, plan: ClipPlan, seed: int, steps: int, motion: MotionMemory) -> Iterator[Event]:
        yield StageChanged("denoise", clip)
        for step in range(1, steps + 1):
            yield StepDone(clip, step, steps, self._draw)
        yield StageChanged("decode", clip)
        for done in (1, 2):
            yield FramesDecoded(clip, done, 2)
        pixels, motion = make_clip(clip, plan, seed, motion)
        yield ClipFrames(clip, pixels, motion if clip < plan.clips else None)
        return motion

    def _draw(self) -> np.ndarray:
        self.drawn += 1
        return np.full((8, 8, 3), 200, np.uint8)


def first_motion() -> MotionMemory:
    """What the opening clip starts from."""
    return MotionMemory(np.zeros((16, 19, 8, 8), np.float32), np.zeros((3, 2, SIDE, SIDE), np.float32))


def make_clip(clip: int, plan: ClipPlan, seed: int, motion: MotionMemory) -> tuple[np.ndarray, MotionMemory]:
    """Frames that change if a single bit of the memory does, uint8 (T, H, W, 3), and the next memory."""
    bits = int.from_bytes(motion.latents.tobytes()[-8:] + motion.frames.tobytes()[-8:], "little")
    random = np.random.default_rng([seed % (MAX_SEED + 1), clip, bits])
    count = plan.frames_per_clip - (plan.warm_up_frames if clip == 1 else 0)
    colours = random.integers(0, 256, (count, 4, 4, 3), np.uint8)
    frames = colours.repeat(plan.height // 4, axis=1).repeat(plan.width // 4, axis=2)
    latents = random.standard_normal((16, 19, 8, 8)).astype(np.float32)
    kept = random.standard_normal((3, 2, SIDE, SIDE)).astype(np.float32)
    return frames, MotionMemory(latents, kept)


class Gate:
    """A `before` of Script that waits at the first event that `at` is true for, until it is opened."""

    def __init__(self, at: Callable[[Event], bool]):
        self.at = at
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, event: Event) -> None:
        if self.at(event) and not self.reached.is_set():
            self.reached.set()
            assert self.opened.wait(30), "nobody opened the gate"


def at_step(clip: int, step: int) -> Callable[[Event], bool]:
    """True for this step."""
    return lambda event: isinstance(event, StepDone) and (event.clip, event.step) == (clip, step)


def follow(queue: JobQueue, job: str, then: Callable[[], object] = lambda: None) -> list[Status]:
    """All statuses of the job from now to its end; `then` is called after the first."""

    async def collect() -> list[Status]:
        statuses = []
        async for status in queue.follow(job):
            if not statuses:
                then()
            statuses.append(status)
        return statuses

    return result_of(collect())


def decoded(video: Path) -> np.ndarray:
    """The frames of a video file, uint8 (T, H, W, 3)."""
    frames = imageio_ffmpeg.read_frames(str(video))
    width, height = next(frames)["size"]
    return np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in frames])


def files_of(folder: Path) -> set[str]:
    """The names of all that lies in `folder`."""
    return {path.name for path in folder.iterdir()}
