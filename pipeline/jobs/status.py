"""What is told about a job: one frozen value, and how each event changes it."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from pipeline.events import (
    Cancelled,
    ClipReady,
    Event,
    Failed,
    Finished,
    FramesDecoded,
    Stage,
    StageChanged,
    Started,
    StepDone,
)

State = Literal["queued", "running", "finished", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("finished", "failed", "cancelled")

STAGE_MESSAGES: dict[Stage, str] = {
    "text": "Reading the prompt.",
    "speech": "Listening to the audio.",
    "portrait": "Looking at the portrait.",
    "denoise": "denoising begins.",
    "decode": "decoding begins.",
    "encode": "writing the video.",
}


@dataclass(frozen=True)
class Status:
    """How far a job is. Counters start at 1 and are 0 before the first."""

    job: str
    state: State = "queued"
    position: int = 0  # in the queue: 1 is next, 0 is not in it
    stage: Stage | None = None
    clip: int = 0
    clips: int = 0
    step: int = 0
    steps: int = 0
    elapsed_s: float = 0.0  # of work, as of the last event
    eta_s: float | None = None  # of work left; None while nothing has been measured
    message: str = ""
    seed: int | None = None  # the one in use; None until it is drawn
    part: int = 0  # of the clip that is decoded
    parts: int = 0
    stopping: bool = False  # somebody wants it to end, which it does after the present step


def after(status: Status, event: Event, now: float) -> Status:
    """`status` once `event` has happened, `now` seconds into the work on the job."""
    return replace(status, elapsed_s=round(now, 1), **_changes(status, event))


def _changes(status: Status, event: Event) -> dict[str, Any]:
    match event:
        case Started(plan, seed):
            return {"state": "running", "position": 0, "clips": plan.clips, "seed": seed, "message": "Starting."}
        case StageChanged(stage, clip):
            where = f"Clip {clip} of {status.clips}: " if clip else ""
            step = 0 if stage == "denoise" else status.step
            message = where + STAGE_MESSAGES[stage]
            return {
                "stage": stage,
                "clip": clip or status.clip,
                "step": step,
                "part": 0,
                "parts": 0,
                "message": message,
            }
        case StepDone(clip, step, steps):
            message = f"Clip {clip} of {status.clips}: step {step} of {steps}."
            return {"clip": clip, "step": step, "steps": steps, "message": message}
        case FramesDecoded(clip, done, total):
            message = f"Clip {clip} of {status.clips}: {done} of {total} parts decoded."
            return {"clip": clip, "part": done, "parts": total, "message": message}
        case ClipReady(clip, clips):
            message = f"Clip {clip} of {clips} is ready."
            return {"clip": clip, "clips": clips, "step": status.steps, "message": message}
    return _ending(event)


def _ending(event: Event) -> dict[str, Any]:
    ended = {"position": 0, "eta_s": None, "stopping": False}
    match event:
        case Finished():
            return ended | {"state": "finished", "message": "The video is ready."}
        case Failed(message):
            return ended | {"state": "failed", "message": message}
        case Cancelled():
            return ended | {"state": "cancelled", "message": "Cancelled."}
    return {}


def begun(status: Status) -> Status:
    """`status` when its turn has come and nothing is done yet."""
    return replace(status, state="running", position=0, message="Starting.")


def stopping(status: Status) -> Status:
    """`status` when somebody wants the job to end."""
    return replace(status, stopping=True, message="Stopping after the present step.")


def interrupted(status: Status, clip: int) -> Status:
    """`status` when work stopped without an end, to go on after `clip` (0: from the start)."""
    return replace(status, state="queued", stage=None, clip=clip, step=0, part=0, parts=0, eta_s=None)


def queued(status: Status, position: int) -> Status:
    """`status` at `position` (from 1) in the queue."""
    place = "Next in line" if position == 1 else f"Number {position} in line"
    resumed = f", to go on after clip {status.clip} of {status.clips}" if status.clip else ""
    return replace(status, state="queued", position=position, message=f"{place}{resumed}.")
