"""How long a job has still to go, from what its parts have taken so far."""

from dataclasses import dataclass, replace

from pipeline.events import ClipReady, Event, FramesDecoded, StageChanged, Started, StepDone


@dataclass(frozen=True)
class Pace:
    """Measured seconds. The conditions at the start are left out: they are worked on once."""

    clips: int = 0
    steps: int = 0  # of a clip
    began_s: float = 0.0  # when denoising, or what follows it, began
    step_s: float = 0.0  # a step takes
    rest_s: float | None = None  # a clip takes besides its steps, decoding and writing; None: unknown
    eta_s: float | None = None  # of work left; None before the first step

    def left_s(self, steps: int, clips: int) -> float:
        """Seconds for `steps` steps and what follows them, and then `clips` whole clips.

        Until it has been measured, here or by an earlier job, the rest of a clip counts as one step.
        """
        rest_s = self.step_s if self.rest_s is None else self.rest_s
        return (steps + clips * self.steps) * self.step_s + (1 + clips) * rest_s


def measured(pace: Pace, event: Event, now: float) -> Pace:
    """`pace` once `event` has happened, `now` seconds into the work on the job."""
    match event:
        case Started(plan):
            return Pace(clips=plan.clips)
        case StageChanged("denoise" | "decode"):
            return replace(pace, began_s=now)
        case StepDone(clip, step, steps):
            pace = replace(pace, steps=steps, step_s=(now - pace.began_s) / step)
            return _told(pace, pace.left_s(steps - step, pace.clips - clip))
        case FramesDecoded(clip, done, total):
            rest_s = (now - pace.began_s) * total / done
            pace = replace(pace, rest_s=max(rest_s, pace.rest_s or 0.0))
            return _told(pace, pace.left_s(0, pace.clips - clip) - (now - pace.began_s))
        case ClipReady(clip):
            pace = replace(pace, rest_s=now - pace.began_s)
            return _told(pace, pace.left_s(0, pace.clips - clip) - pace.rest_s)
    return pace


def _told(pace: Pace, eta_s: float) -> Pace:
    return replace(pace, eta_s=round(max(0.0, eta_s), 1))
