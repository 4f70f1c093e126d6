"""What the page and the API do: check a request, plan it, submit it. Both speak of the same named values."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from pipeline.errors import InvalidRequest, UserError
from pipeline.idle_stop import IdleStop
from pipeline.jobs.queue import JobQueue
from pipeline.jobs.status import Status
from pipeline.jobs.team import Team
from pipeline.jobs.worker import Worker
from pipeline.media.planning import PlannedRequest, plan_request
from pipeline.media.video import read_note_from
from pipeline.request import SIZES, GenerationRequest
from pipeline.store.catalogue import ModelEntry
from pipeline.web.served_files import ServedFiles

logger = getLogger(__name__)

FILES = ("portrait", "audio", "pose_video")
NAMES = (
    *("portrait", "audio", "prompt", "negative_prompt", "size", "steps", "guidance", "shift", "solver", "seed"),
    *("max_clips", "audio_start", "audio_duration", "pose_video", "first_frame"),
)  # of the values, in the order in which the API takes them
MORE_NAMES = (*NAMES, "frames_per_clip", "sync_lead_frames", "speed", "guidance_share")  # what the page offers besides
INTERNAL_ERROR = "Something went wrong inside the program; its log says what. Try again, or tell whoever runs it."


@dataclass(frozen=True)
class Studio:
    """The queue, the worker that empties it, and the model that it serves."""

    queue: JobQueue
    worker: Worker | Team
    entry: ModelEntry
    idle: IdleStop | None = None  # what stops this machine when there is nothing to do
    files: ServedFiles = field(default_factory=ServedFiles)

    def __post_init__(self) -> None:
        self.queue.when_gone = self.files.forget

    @property
    def defaults(self) -> dict[str, Any]:
        """The value of each name where none is given: the model's own, over the standard ones."""
        return values_of(self.fields)

    @property
    def fields(self) -> dict[str, Any]:
        """The same by the names of the request's fields."""
        fields = {name: field.get_default() for name, field in GenerationRequest.model_fields.items()}
        return fields | dict(self.entry.defaults)

    def request(self, values: Mapping[str, Any]) -> GenerationRequest:
        """The request that `values` (name -> what was typed or uploaded) stand for; None is a value not given.

        Raises InvalidRequest.
        """
        given = {name: value for name, value in values.items() if value is not None}
        given |= {name: uploaded_file(name, given[name]) for name in FILES if name in given}
        fields = {"max_area" if name == "size" else name: value for name, value in given.items()}
        return GenerationRequest.parse({**self.entry.defaults, **fields})

    def plan(self, request: GenerationRequest) -> PlannedRequest:
        """What `request` comes to. Raises InvalidRequest."""
        return plan_request(request, self.queue.max_audio_seconds)

    def video(self, status: Status) -> Path | None:
        """A copy of the job's video, whole or so far, by a name that tells what it is; None before the first clip."""
        video = self.queue.video(status.job)
        if video is None:
            return None
        partial = self.queue.clips_done(status.job) < status.clips
        return self.files.copy_of(video, file_name(self.queue.request(status.job).prompt, status.seed, partial))

    def values_again(self, job: str) -> dict[str, Any]:
        """The values that a job was made with, its seed among them, with copies of its files. Raises UnknownJob."""
        request, seed = self.queue.request(job), self.queue.status(job).seed
        files = {name: getattr(request, name) for name in FILES}
        copies = {name: self.files.copy_of(file) if file and file.is_file() else None for name, file in files.items()}
        return values_of(request.model_dump() | {"seed": -1 if seed is None else seed}) | copies

    def values_in(self, video: Path) -> dict[str, Any]:
        """The values that a video of this program says it was made with. Raises InvalidRequest for other files."""
        note = read_note_from(video)
        if note is None:
            raise InvalidRequest("This MP4 was not made by this program, or its settings were lost on the way.")
        settings = {name: value for name, value in note["settings"].items() if name in self.fields}
        files = {"portrait": video, "audio": video, "pose_video": None}
        return values_of(GenerationRequest.parse({**self.fields, **settings, **files}).model_dump())

    def submit(self, values: Mapping[str, Any]) -> str:
        """Let a new job wait for its turn; gives its id. Raises InvalidRequest, QueueFull or DiskFull."""
        return self.queue.submit(self.request(values))


def values_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The values that a form shows of a request's fields, without the files: an area by its name where it has one."""
    area = fields["max_area"]
    size = next((name for name, pixels in SIZES.items() if pixels == area), area)
    return {name: (size if name == "size" else fields[name]) for name in MORE_NAMES if name not in FILES}


def file_name(prompt: str, seed: int | None, partial: bool) -> str:
    """The name that a video is saved under: what is said to be seen, the seed, and whether it is whole."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40].strip("-") or "talking-video"
    return f"{words}-seed-{seed}{'-partial' if partial else ''}.mp4"


def uploaded_file(name: str, value: Any) -> Path:
    """The file that a browser or client uploaded as `name`.

    Raises InvalidRequest for whatever else is sent, a path on this machine above all.
    """
    path = value.get("path") if isinstance(value, dict) else None
    if isinstance(path, str) and "\0" not in path:
        file = Path(path).resolve()
        if file.is_relative_to(Path(get_upload_folder()).resolve()) and file.is_file():
            return file
    raise InvalidRequest(f"{name}: upload a file (with gradio_client, {name}=handle_file(PATH)).")


@contextmanager
def told_to_user() -> Iterator[None]:
    """Turn what goes wrong inside into a gr.Error with one sentence; what nobody expected is logged."""
    try:
        yield
    except UserError as error:
        raise gr.Error(str(error), print_exception=False) from None
    except gr.Error:
        raise
    except Exception:
        logger.exception("An unexpected error")
        raise gr.Error(INTERNAL_ERROR, print_exception=False) from None
