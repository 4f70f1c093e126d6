"""The named API endpoints: what programs call, described on Gradio's API page."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import gradio as gr
from gradio.components.api_component import Api
from pydantic import TypeAdapter

from pipeline.errors import InvalidRequest
from pipeline.events import ModelState
from pipeline.idle_stop import IdleState
from pipeline.jobs.status import ENDED, Status
from pipeline.request import GenerationRequest, explained
from pipeline.web.studio import NAMES, Studio, told_to_user, uploaded_file

Json = dict[str, Any]

FILE = {k: v for k, v in gr.FileData.model_json_schema().items() if k != "description"}
EXAMPLE_FILES = {"portrait": "portrait.png", "audio": "audio.wav", "pose_video": "pose.mp4"}  # of the API page's code
PLAN_NAMES = ("audio", "portrait", "size", *(name for name in NAMES if name not in ("audio", "portrait", "size")))


@dataclass(frozen=True)
class Endpoints:
    """What the endpoints do. Each method is one; a sentence for the user is raised as gr.Error.

    The values of a request come by name. Gradio lets callers leave out an argument that has a default in its Value
    or None in the method, so those whose default is None are spelled out.
    """

    studio: Studio

    async def generate(
        self, *, max_clips: Any = None, audio_duration: Any = None, pose_video: Any = None, **values: Any
    ) -> AsyncIterator[tuple[Json | None, Json]]:
        """Submit a job and follow it: a video and a status for every step, the last with the whole video.

        The video is null where there is no more of it than before. A client that goes away does not stop the job
        (/cancel does); a job that fails ends this with its sentence, a cancelled one with the clips that are done.
        """
        values |= {"max_clips": max_clips, "audio_duration": audio_duration, "pose_video": pose_video}
        with told_to_user():
            job = await asyncio.to_thread(self.studio.submit, values)
            seen = None
            async with aclosing(self.studio.queue.follow(job)) as statuses:
                async for status in statuses:
                    if status.state == "failed":
                        raise gr.Error(status.message, print_exception=False)
                    version = await asyncio.to_thread(self._version, status)
                    video = await asyncio.to_thread(self._video, job) if version not in (seen, None) else None
                    yield video, asdict(status)
                    seen = version

    def submit(
        self, *, max_clips: Any = None, audio_duration: Any = None, pose_video: Any = None, **values: Any
    ) -> str:
        """Submit a job; its id comes at once. /status, /result and /cancel take it."""
        values |= {"max_clips": max_clips, "audio_duration": audio_duration, "pose_video": pose_video}
        with told_to_user():
            return self.studio.submit(values)

    def plan(self, *, max_clips: Any = None, audio_duration: Any = None, pose_video: Any = None, **values: Any) -> Json:
        """What a request comes to, without starting anything.

        The seconds of work are judged by the jobs that this machine has done, and null before there is one.
        """
        values |= {"max_clips": max_clips, "audio_duration": audio_duration, "pose_video": pose_video}
        with told_to_user():
            request = self.studio.request(values)
            planned = self.studio.plan(request)
            told = {name: getattr(planned.plan, name) for name in ("clips", "frames", "width", "height", "seconds")}
            work_s = self.studio.queue.expected_s(request, planned.plan)
            return told | {"work_seconds": None if work_s is None else round(work_s, 1), "hints": list(planned.hints)}

    def status(self, job: Any) -> Json:
        """How far a job is."""
        with told_to_user():
            return asdict(self.studio.queue.status(_job_id(job)))

    def result(self, job: Any) -> Json:
        """The video of a job: the whole, or the clips that are done so far."""
        with told_to_user():
            status = self.studio.queue.status(_job_id(job))
            video = self._video(status.job)
            if video is None:
                raise InvalidRequest(f"There is no video yet, the job is {status.state}: {status.message}")
            return video

    def cancel(self, job: Any) -> Json:
        """Stop a job. Its finished clips are kept."""
        with told_to_user():
            return asdict(self.studio.queue.cancel(_job_id(job)))

    def extend(self, *, job: Any, audio: Any) -> str:
        """Continue a finished video with more audio; the id of the new job comes at once.

        It keeps all clips of the first video but the last, which is made again with the new audio behind it.
        """
        with told_to_user():
            return self.studio.queue.continue_with(_job_id(job), uploaded_file("audio", audio))

    def delete(self, job: Any) -> None:
        """Stop a job if need be, and remove all that is kept of it."""
        with told_to_user():
            self.studio.queue.delete(_job_id(job))

    def history(self, jobs: Any) -> list[Json]:
        """How far several jobs are, the newest first; those that do not exist (any more) are left out."""
        with told_to_user():
            if not isinstance(jobs, list):
                raise InvalidRequest("jobs: give a list of job ids.")
            return [asdict(status) for status in self.studio.queue.history(jobs)]

    def model(self) -> Json:
        """How far the model is from being usable."""
        return asdict(self.studio.worker.model_state)

    def stay(self) -> Json:
        """Begin the time anew after which a machine without work stops itself.

        Gives the seconds left, null where it never stops or is at work, and why it could not be stopped.
        """
        if self.studio.idle:
            self.studio.idle.stay()
            return asdict(self.studio.idle.state)
        return asdict(IdleState(None))

    def _version(self, status: Status) -> tuple[bool, int] | None:
        """Which video there is at `status`."""
        video = self.studio.queue.video(status.job)
        return (status.state in ENDED, video.stat().st_mtime_ns) if video else None

    def _video(self, job: str) -> Json | None:
        video = self.studio.video(self.studio.queue.status(job))
        return gr.FileData(path=str(video)).model_dump() if video else None


def _job_id(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRequest("job: give the id that /submit gave.")
    return value


def add_endpoints(studio: Studio) -> None:
    """Give the page under construction its API."""
    so_far = _value("video", FILE, "null, or the video so far where there is more of it than before")
    job = {
        "job": _value(
            "job", {"type": "string"}, "a job's id: whoever has it may see, continue, stop and delete the job"
        )
    }
    jobs = {"jobs": _value("jobs", {"type": "array", "items": {"type": "string"}}, "job ids")}
    status = _value("status", _schema_of(Status), "how far the job is")
    statuses = _value("statuses", {"type": "array", "items": _schema_of(Status)}, "the newest first")
    plan = _value("plan", {"type": "object"}, "clips, frames, width, height, seconds, work_seconds, hints")

    endpoints = Endpoints(studio)
    _add(endpoints.generate, _asked(NAMES, studio), so_far, status)
    _add(endpoints.submit, _asked(NAMES, studio), job["job"])
    _add(endpoints.plan, _asked(PLAN_NAMES, studio), plan)
    _add(endpoints.status, job, status)
    _add(endpoints.result, job, _value("video", FILE, "H.264 and AAC in MP4"))
    _add(endpoints.cancel, job, status)
    _add(endpoints.extend, job | {"audio": _file("audio", "an audio file, of which all is used")}, job["job"])
    _add(endpoints.delete, job)
    _add(endpoints.history, jobs, statuses)
    _add(endpoints.model, {}, _value("model", _schema_of(ModelState), "the model's state"))
    _add(
        endpoints.stay,
        {},
        _value(
            "idle", _schema_of(IdleState), "the seconds left, null if none are counted; and what went wrong at stopping"
        ),
    )


def _add(method: Callable, takes: Mapping[str, Api], *gives: Api) -> None:
    gr.on(
        triggers=[],
        fn=method,
        inputs_kwargs=takes,
        outputs=gives,
        api_name=method.__name__,
        api_description=inspect.getdoc(method),
        concurrency_limit=None,
        show_progress="hidden",
    )


def _asked(names: Iterable[str], studio: Studio) -> dict[str, Api]:
    schemas = GenerationRequest.model_json_schema()["properties"]
    values = {}
    for name in names:
        field = "max_area" if name == "size" else name
        schema, description = schemas[field], explained(field).replace("the path of ", "")
        kind = {"anyOf": [{"type": "string"}, {"type": "integer"}]} if name == "size" else schema
        is_file = name in EXAMPLE_FILES
        values[name] = _file(name, description) if is_file else _value(name, kind, description, studio.defaults[name])
    return values


def _file(name: str, description: str) -> Api:
    value = _value(name, FILE, f"{description} (assistants give it as a data: address)")
    example = {"path": EXAMPLE_FILES[name], "url": EXAMPLE_FILES[name], "meta": {"_type": "gradio.FileData"}}
    value.example_payload = partial(dict, example)
    return value


def _value(name: str, schema: Json, description: str, default: Any = None) -> Api:
    """A value that an endpoint takes or gives, as the API page and the clients are told of it."""
    return Api(default, schema | {"description": description, "additional_description": description}, label=name)


def _schema_of(kind: type) -> Json:
    return TypeAdapter(kind).json_schema()
