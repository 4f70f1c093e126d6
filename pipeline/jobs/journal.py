"""What happened to a job: events.jsonl in its folder, one line for each event that lasts."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import disk_full_explained
from pipeline.events import Cancelled, ClipReady, Event, Failed, Finished, StageChanged, Started, StepDone, event_json
from pipeline.request import ClipPlan


@dataclass(frozen=True)
class CancelAsked:
    """Somebody wants the job to end, which it does after the present step."""


@dataclass(frozen=True)
class DeleteAsked:
    """Somebody wants the job to be gone, which it is once it has ended."""


@dataclass(frozen=True)
class StopAsked:
    """The program was told to end while it worked on the job: that the work stops is no fault of the job's."""


Wish = CancelAsked | DeleteAsked | StopAsked

LASTING = {
    "started": Started,
    "stage_changed": StageChanged,
    "step_done": StepDone,
    "clip_ready": ClipReady,
    "finished": Finished,
    "failed": Failed,
    "cancelled": Cancelled,
    "cancel_asked": CancelAsked,
    "delete_asked": DeleteAsked,
    "stop_asked": StopAsked,
}


NOT_OF_EVENTS = ("at", "elapsed_s", "event", "maker")


@dataclass(frozen=True)
class Maker:
    """By what a job is done: the `model` by name, and how `machine` computes it, in words."""

    model: str = ""
    machine: str = ""


NOBODY = Maker()


@dataclass(frozen=True)
class Line:
    """`event` happened at `at` (seconds since 1970), `elapsed_s` into the work. A start tells who does the work."""

    at: float
    elapsed_s: float
    event: Event | Wish
    maker: Maker = NOBODY


@dataclass(frozen=True)
class Journal:
    """The file `path`. Its first line tells of the submission; a last line without an end was never written."""

    path: Path

    def begin(self, clips: int) -> None:
        """Make the file: a job of `clips` clips is submitted now."""
        line = {"at": time.time(), "event": "submitted", "clips": clips}
        self.path.write_text(json.dumps(line) + "\n", encoding="utf-8")

    def append(self, event: Event | Wish, elapsed_s: float, maker: Maker = NOBODY) -> None:
        """Add `event`, in the place of a torn last line if there is one. Raises DiskFull."""
        told = {name: value for name, value in event_json(event).items() if name != "video"}  # a job has one video
        told |= {"maker": asdict(maker)} if isinstance(event, Started) else {}
        line = json.dumps({"at": time.time(), "elapsed_s": round(elapsed_s, 3)} | told).encode() + b"\n"
        with disk_full_explained("the videos"), self.path.open("r+b") as file:
            file.seek(file.read().rfind(b"\n") + 1)
            file.write(line)
            file.truncate()

    def read(self, video: Path) -> tuple[dict[str, Any], tuple[Line, ...]]:
        """The submission and all events since; `video` is the one that they speak of.

        Raises OSError, ValueError, KeyError or TypeError if it cannot be read.
        """
        text = self.path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        submission, *others = [json.loads(line) for line in whole.splitlines()]
        return submission, tuple(_line(values, video) for values in others)


def _line(values: Any, video: Path) -> Line:
    if not isinstance(values, dict):
        raise ValueError("a line in events.jsonl is no object")
    fields = {name: value for name, value in values.items() if name not in NOT_OF_EVENTS}
    kind = LASTING[values["event"]]
    if kind is Started:
        fields["plan"] = ClipPlan(**fields["plan"])
    if kind in (ClipReady, Finished):
        fields["video"] = video
    return Line(float(values["at"]), float(values["elapsed_s"]), kind(**fields), Maker(**values.get("maker", {})))
