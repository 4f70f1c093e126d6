"""RunPod serverless: the same recipe behind RunPod's queue. `python -m pipeline.serverless` is a worker of an endpoint.

A worker does one job at a time and is in no hurry to hear of others: RunPod's queue and autoscaler spread them.
Unlike the program's own jobs these leave nothing behind: all files of a job are gone when it has ended.
"""

import asyncio
import base64
import binascii
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline.errors import InvalidRequest, InvalidSetting, ModelUnavailable, NotDelivered, UserError
from pipeline.events import ClipReady, Event, ModelState, Started
from pipeline.fetching import Address, fetch, is_public
from pipeline.jobs.pace import Pace, measured
from pipeline.jobs.rendering import render
from pipeline.jobs.status import Status, after
from pipeline.jobs.worker import why_no_video
from pipeline.logs import log_to_stderr
from pipeline.machine import look_at_gpu, named_entry
from pipeline.media.files import whole_or_absent
from pipeline.media.planning import plan_request
from pipeline.preflight import unfit
from pipeline.request import GenerationRequest
from pipeline.settings import Settings, read_settings
from pipeline.store.catalogue import ModelEntry
from pipeline.store.progress import describe

if TYPE_CHECKING:
    from pipeline.model.speech_to_video import SpeechToVideo

logger = logging.getLogger(__name__)

LARGEST = {"portrait": 50_000_000, "audio": 500_000_000, "pose_video": 500_000_000}  # bytes; the page takes as much
INLINE_BYTES = 7_000_000  # of a video that is returned as base64, 9.3 MB of text: RunPod's /run carries 10 MB
PROGRESS_S = 1.0  # at least, between two reports to RunPod
DATA_URL = re.compile(r"data:[\w.+-]{0,64}/?[\w.+-]{0,64}(;[\w.+=-]{1,64}){0,4};base64,")  # bounded: strangers write it
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
GIVE = "give the address of a file, or the file itself as base64"
BUCKET_VARIABLES = {
    "endpointUrl": "BUCKET_ENDPOINT_URL",
    "accessId": "BUCKET_ACCESS_KEY_ID",
    "accessSecret": "BUCKET_SECRET_ACCESS_KEY",
}


@dataclass(frozen=True)
class Bucket:
    """An S3-compatible bucket in the terms of runpod's upload; without a name its endpoint must be the bucket's own."""

    credentials: Mapping[str, str] = field(repr=False)
    name: str | None


def read_bucket() -> Bucket | None:
    """The bucket that the environment names, if any. Raises InvalidSetting if it does so by half."""
    given = {key: os.environ[variable] for key, variable in BUCKET_VARIABLES.items() if os.environ.get(variable)}
    if not given:
        return None
    missing = [variable for key, variable in BUCKET_VARIABLES.items() if key not in given]
    if missing:
        raise InvalidSetting(f"{missing[0]} is not set: a bucket needs {', '.join(BUCKET_VARIABLES.values())}.")
    return Bucket(given, os.environ.get("BUCKET_NAME") or None)


class ServerlessWorker:
    """Does the jobs of RunPod, one after the other, on a thread of its own, which is the one that knows the model.

    `is_allowed` says from which addresses inputs are fetched.
    """

    def __init__(
        self,
        entry: ModelEntry,
        settings: Settings,
        bucket: Bucket | None,
        is_allowed: Callable[[Address], bool] = is_public,
    ) -> None:
        self.entry = entry
        self.settings = settings
        self.bucket = bucket
        self.is_allowed = is_allowed
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="worker")
        self._model: SpeechToVideo | None = None

    def check(self) -> None:
        """Whether this worker can do jobs at all; the model is ready afterwards. RunPod replaces a worker that cannot.

        Raises ModelUnavailable and DiskFull.
        """
        if (reason := unfit(self.entry, look_at_gpu())) is not None:
            raise ModelUnavailable(reason)
        self._thread.submit(self._ready_model).result()

    async def handle(self, job: dict[str, Any]) -> dict[str, Any]:
        """Do a job of RunPod: what it returns is the job's output, or its failure in a sentence under "error".

        Cancelled, it ends the work after the present step before it gives way, so that the next job finds room.
        """
        stopping = threading.Event()
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(self._thread, self._work, job, stopping.is_set)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            stopping.set()
            await asyncio.wait([work])
            raise

    def _work(self, job: dict[str, Any], stopped: Callable[[], bool]) -> dict[str, Any]:
        try:
            with TemporaryDirectory(prefix="talking-video-") as folder:
                return self._make(job, Path(folder), stopped)
        except Exception as error:
            failure = {"error": why_no_video(error, job["id"])}
            # What nobody expected may have left the card unusable: RunPod starts the worker anew.
            return failure if isinstance(error, UserError) else failure | {"refresh_worker": True}

    def _make(self, job: dict[str, Any], folder: Path, stopped: Callable[[], bool]) -> dict[str, Any]:
        request = read_input(job.get("input"), folder, self.entry.defaults, self.is_allowed)
        planned = plan_request(request, self.settings.max_audio_seconds)
        progress = Progress(job, Status(job=job["id"], clips=planned.plan.clips, steps=request.steps))
        model = self._ready_model()
        with closing(render(model.generate, request, folder)) as events:
            for event in events:
                if stopped():
                    return {"error": "Cancelled."}
                progress.note(event)
                if isinstance(event, Started):
                    made = facts(event) | {"hints": planned.hints}
                if isinstance(event, ClipReady):
                    video = event.video
                    self._require_way_out(video)
        return made | deliver(video, job["id"], self.bucket)

    def _require_way_out(self, video: Path) -> None:
        """Refuse to go on with a video that could not be returned: hours may be left of it."""
        size = video.stat().st_size
        if self.bucket is None and size > INLINE_BYTES:
            raise NotDelivered(
                f"The video has {size / 1e6:.1f} MB, and without a bucket {INLINE_BYTES / 1e6:g} MB can be returned: "
                "ask for a shorter or smaller one, or have BUCKET_ENDPOINT_URL set for this endpoint."
            )

    def _ready_model(self) -> "SpeechToVideo":
        if self._model is None:
            from pipeline.preparation import prepare_model

            self._model = prepare_model(self.entry, self.settings, _log_model)
        return self._model


def _log_model(state: ModelState) -> None:
    if state.state == "ready":  # all before it is told by those who do it
        logger.info(describe(state))


def read_input(
    given: Any, folder: Path, defaults: Mapping[str, Any], is_allowed: Callable[[Address], bool]
) -> GenerationRequest:
    """The request that a job's input stands for, its files brought into `folder` once all else is right.

    The fields are those of GenerationRequest and `size`; files come as addresses or as base64, never as paths.
    Raises InvalidRequest and DiskFull.
    """
    if not isinstance(given, Mapping):
        raise InvalidRequest("The input is not an object; give one with at least portrait and audio.")
    fields = {"max_area" if name == "size" else name: value for name, value in given.items() if value is not None}
    sources = {name: fields.pop(name) for name in LARGEST if fields.get(name, "") != ""}
    for name in ("portrait", "audio"):
        if name not in sources:
            raise InvalidRequest(f"{name} is missing: {GIVE}.")
    request = GenerationRequest.parse({**defaults, **fields, **{name: folder / name for name in sources}})
    for name, source in sources.items():
        _bring(source, folder / name, name, is_allowed)
    return request


def _bring(source: Any, path: Path, name: str, is_allowed: Callable[[Address], bool]) -> None:
    if not isinstance(source, str):
        raise InvalidRequest(f"{name}: a text is expected; {GIVE}.")
    head = DATA_URL.match(source)
    text = source[head.end() :] if head else source
    if SCHEME.match(text):
        fetch(text, path, name, LARGEST[name], is_allowed)
        return
    if len(text) * 3 // 4 > LARGEST[name]:
        raise InvalidRequest(f"{name}: the file is larger than the {LARGEST[name] / 1e6:g} MB that are accepted.")
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"{name}: this is neither an address nor base64; {GIVE}.") from None
    with whole_or_absent(path) as part:
        part.write_bytes(content)


class Progress:
    """Tells RunPod how far a job is, in the words and numbers of the program's own status."""

    def __init__(self, job: dict[str, Any], status: Status) -> None:
        from runpod.serverless import progress_update

        self._send = partial(progress_update, job)
        self._status = status
        self._pace = Pace()
        self._began = time.monotonic()
        self._told = -PROGRESS_S

    def note(self, event: Event) -> None:
        """Take in what happened, and tell it if it is a clip or the last report is long enough ago."""
        now = time.monotonic() - self._began
        self._pace = measured(self._pace, event, now)
        self._status = replace(after(self._status, event, now), eta_s=self._pace.eta_s)
        # The report is sent by a thread: one so near the end could come after the result and stand in its place.
        is_near_end = self._status.stage == "encode" and self._status.clip == self._status.clips
        if (isinstance(event, ClipReady) or now - self._told >= PROGRESS_S) and not is_near_end:
            self._told = now
            self._send({k: v for k, v in asdict(self._status).items() if k not in ("job", "state", "position")})


def facts(started: Started) -> dict[str, Any]:
    """What a result says of its video."""
    plan = started.plan
    return {"seed": started.seed, "width": plan.width, "height": plan.height, "seconds": plan.seconds}


def deliver(video: Path, job: str, bucket: Bucket | None) -> dict[str, str]:
    """Hand `video` over: {"video": address, good for seven days} with a bucket, else {"video_base64": content}.

    Raises NotDelivered if the bucket does not take it.
    """
    if bucket is None:
        return {"video_base64": base64.b64encode(video.read_bytes()).decode()}
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from runpod.serverless.utils.rp_upload import upload_file_to_bucket

    kind = {"ContentType": "video/mp4"}
    try:
        address = upload_file_to_bucket("video.mp4", str(video), dict(bucket.credentials), bucket.name, job, kind)
    except (Boto3Error, BotoCoreError, ClientError) as error:
        logger.exception("The bucket did not take the video of job %s", job)
        raise NotDelivered("The video is made, but the bucket did not take it: the worker's log says why.") from error
    return {"video": address}


def build_worker(is_allowed: Callable[[Address], bool] = is_public) -> ServerlessWorker:
    """The worker that the environment describes. Raises InvalidSetting.

    Without MODEL it serves the 14B model or is unfit: nobody would see that the sample model had taken its place.
    """
    settings = read_settings()
    entry = named_entry(settings.model, settings)
    return ServerlessWorker(entry, settings, read_bucket(), is_allowed)


def serve(worker: ServerlessWorker) -> None:
    """Let `worker` do RunPod's jobs until RunPod ends it; runpod's own options are read from the command line.

    It works in a folder of its own: runpod notes its jobs where it is started, and workers that are started in one
    folder of a network volume would take each other's jobs for theirs.
    """
    # Its own default tells the log all that passes through it, whole videos and signed addresses included.
    os.environ.setdefault("RUNPOD_LOG_LEVEL", "INFO")
    with TemporaryDirectory(prefix="runpod-") as folder:
        os.chdir(folder)
        import runpod

        runpod.serverless.register_fitness_check(worker.check)
        runpod.serverless.start({"handler": worker.handle})


def main() -> int:
    """Be a worker until the end; gives the exit status."""
    log_to_stderr(logging.INFO, "%(asctime)s %(levelname)s %(name)s: %(message)s")
    if find_spec("runpod") is None:
        print("A serverless worker needs more packages: pip install -r requirements-serverless.txt.", file=sys.stderr)
        return 2
    try:
        serve(build_worker())
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
