"""What the page and the API do: check a request, plan it, submit it. Both speak of the same named values."""

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
from pipeline.jobs.worker import Worker
from pipeline.media.planning import PlannedRequest, plan_request
from pipeline.request import SIZES, GenerationRequest
from pipeline.store.catalogue import ModelEntry
from pipeline.web.videos import ServedVideos

logger = getLogger(__name__)

FILES = ("portrait", "audio", "pose_video")
NAMES = (
    *("portrait", "audio", "prompt", "negative_prompt", "size", "steps", "guidance", "shift", "solver", "seed"),
    *("max_clips", "audio_start", "audio_duration", "pose_video", "first_frame"),
)  # of the values, in the order in which the API takes them
MORE_NAMES = (*NAMES, "frames_per_clip", "sync_lead_frames")  # what the page offers besides
INTERNAL_ERROR = "Something went wrong inside the program; its log says what. Try again, or tell whoever runs it."


@dataclass(frozen=True)
class Studio:
    """The queue, the worker that empties it, and the model that it serves."""

    queue: JobQueue
    worker: Worker
    entry: ModelEntry
    idle: IdleStop | None = None  # what stops this machine when there is nothing to do
    videos: ServedVideos = field(default_factory=ServedVideos)

    @property
    def defaults(self) -> dict[str, Any]:
        """The value of each name where none is given: the model's own, over the standard ones."""
        fields = {name: field.get_default() for name, field in GenerationRequest.model_fields.items()}
        fields |= self.entry.defaults
        area = fields.pop("max_area")
        size = next((name for name, pixels in SIZES.items() if pixels == area), area)
        return {name: (size if name == "size" else fields[name]) for name in MORE_NAMES if name not in FILES}

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

    def submit(self, values: Mapping[str, Any]) -> str:
        """Let a new job wait for its turn; gives its id. Raises InvalidRequest, QueueFull or DiskFull."""
        return self.queue.submit(self.request(values))


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
