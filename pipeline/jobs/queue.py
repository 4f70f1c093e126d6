"""The jobs in order: who waits, how far each one is, and who wants to be told."""

import asyncio
import logging
import math
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.errors import InvalidRequest, InvalidSetting, QueueFull, UnknownJob
from pipeline.events import Cancelled, ClipReady, Event, Failed, Finished, StageChanged, Started, StepDone
from pipeline.jobs.continuation import NO_MODEL_YET, OTHER_MODEL, base_of, longer_request
from pipeline.jobs.folder import Base, JobFolder, StoredJob, create_job, read_job, stored_jobs, sweep_leftovers
from pipeline.jobs.forecast import Measured, expected_rest_s, expected_s, measure
from pipeline.jobs.journal import NOBODY, CancelAsked, DeleteAsked, Maker, StopAsked, Wish
from pipeline.jobs.pace import Pace, measured
from pipeline.jobs.status import ENDED, Status, after, begun, interrupted, queued, stopping
from pipeline.media.planning import plan_request
from pipeline.request import ClipPlan, GenerationRequest

logger = logging.getLogger(__name__)

SECONDS_PER_DAY = 86_400
CLEANING_S = 3600.0  # between two looks for old results while there is no work
WATCHED_S = 5.0  # that one look of a page counts
MAX_TRIES = 5  # new starts at one clip: a job that takes the process down with it must not do so for ever
TRIES_IN_COMPANY = 3  # after which a job works alone until that clip is done: it must not take others with it
GIVEN_UP = "The program ended again and again during this job, which is not tried any more: choose a smaller size."


@dataclass(eq=False)
class Follower:
    """Somebody who wants every status of a job, on the event loop `loop`."""

    loop: asyncio.AbstractEventLoop
    statuses: asyncio.Queue[Status] = field(default_factory=asyncio.Queue)


@dataclass(frozen=True)
class Preview:
    """What `clip` was becoming after `step` (both from 1): a small JPEG."""

    clip: int
    step: int
    jpeg: bytes


@dataclass(eq=False)
class Job:
    """A job in memory. Its status and followers change under the queue's lock."""

    folder: JobFolder
    request: GenerationRequest
    status: Status
    ready: int = 0  # clips that are done
    frames: int = 0  # of those clips
    tries: int = 0  # new starts at the clip after those, before this process began
    ended_at: float | None = None  # seconds since 1970
    stopping: bool = False  # somebody wants it to end
    unwanted: bool = False  # and to be gone then
    worked_s: float = 0.0  # before the present go at it
    began: float = 0.0  # the present go, by the monotonic clock
    pace: Pace = field(default_factory=Pace)
    maker: Maker = NOBODY  # that works on it, or did
    expected_s: float | None = None  # of work in all, judged before it was begun
    measured: Measured | None = None  # what its work took, once it has ended
    followers: list[Follower] = field(default_factory=list)
    preview: Preview | None = None  # of the clip that is denoised, where somebody looked
    looked_at: float = -math.inf  # when a page last did, by the monotonic clock
    writing: threading.Lock = field(default_factory=threading.Lock)  # to its journal

    @classmethod
    def of(cls, stored: StoredJob) -> "Job":
        """The job that a folder holds."""
        job = cls(stored.folder, stored.request, stored.status, stored.ready, stored.frames, stored.tries)
        job.stopping, job.unwanted = stored.cancel_asked, stored.delete_asked
        if stored.lines:
            job.worked_s = stored.lines[-1].elapsed_s
        if job.ended:
            job.ended_at = stored.lines[-1].at
            job.measured = measure(stored.request, stored.lines)
        return job

    @property
    def id(self) -> str:
        """Its key, which is not for the log."""
        return self.status.job

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status.state in ENDED

    @property
    def works_alone(self) -> bool:
        """Whether no other job may be worked on beside it."""
        return self.tries >= TRIES_IN_COMPANY

    @property
    def is_watched(self) -> bool:
        """Whether a page looks at it these seconds: for others no preview is worked out."""
        return time.monotonic() - self.looked_at < WATCHED_S

    @property
    def elapsed_s(self) -> float:
        """Seconds of work up to now, while it is worked on.

        As precise as the journal keeps them: a status says the same after a restart.
        """
        return round(self.worked_s + time.monotonic() - self.began, 3)

    @property
    def eta_s(self) -> float | None:
        """Seconds of work left: by its own pace, and before that has been measured, by earlier jobs."""
        if self.pace.eta_s is None and self.expected_s is not None:
            return round(max(0.0, self.expected_s - self.elapsed_s), 1)
        return self.pace.eta_s

    def write(self, event: Event | Wish, elapsed_s: float, maker: Maker = NOBODY) -> None:
        """Add `event` to the journal. Raises DiskFull and OSError."""
        with self.writing:
            self.folder.journal.append(event, elapsed_s, maker)

    def write_wish(self, wish: Wish) -> None:
        """Add `wish` to the journal for the next start; where that cannot be done, it holds for this one."""
        try:
            self.write(wish, self.elapsed_s)
        except Exception:
            logger.exception("Job %s: what is wanted of it could not be written down", self.id[:8])

    def tell(self, status: Status) -> None:
        """Take on `status` and hand it to every follower."""
        self.status = status
        for follower in list(self.followers):
            try:
                follower.loop.call_soon_threadsafe(follower.statuses.put_nowait, status)
            except RuntimeError:  # its loop was closed without a goodbye
                self.followers.remove(follower)


class JobQueue:
    """All jobs of the folder `folder`, which is made if need be. Safe to use from any thread.

    After the end of a process, at whatever moment, its jobs wait again: first those that it was at work on.
    At most `max_queue` jobs wait. Jobs that ended over `keep_results_days` ago are removed at start, with each new
    job and every hour without one; 0 keeps them for ever. No file is touched under the lock: asking for a status
    never waits for a disk.
    """

    def __init__(self, folder: Path, max_queue: int, max_audio_seconds: float, keep_results_days: float) -> None:
        """Raises InvalidSetting if `folder` cannot be used."""
        self.folder = folder
        self.max_queue = max_queue
        self.max_audio_seconds = max_audio_seconds
        self.keep_results_days = keep_results_days
        self.when_gone: Callable[[Path], None] = lambda _: None  # called with the folder of each job that is removed
        self.makers: frozenset[Maker] = frozenset()  # that work here: what others measured is no measure for them
        self._changed = threading.Condition()
        self._jobs: dict[str, Job] = {}  # in order of submission
        self._waiting: list[Job] = []
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # names in it are keys
            sweep_leftovers(folder)
            stored = stored_jobs(folder)
        except OSError as error:
            raise InvalidSetting(f"{folder} cannot hold jobs ({error.strerror}): set another OUTPUT_DIR.") from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise InvalidSetting(f"{folder} cannot hold jobs (it cannot be written to): set another OUTPUT_DIR.")
        for job in map(Job.of, stored):
            self._jobs[job.id] = job
        for job in [job for job in self._jobs.values() if job.unwanted]:
            self._forget(job)
        self._readmit([job for job in self._jobs.values() if not job.ended])
        self._remove_old()

    def submit(self, request: GenerationRequest) -> str:
        """Check `request` and let it wait for its turn, with copies of its inputs; gives the job's id.

        Raises InvalidRequest, QueueFull or DiskFull; nothing is left behind then.
        """
        return self._submit(request, None)

    def continue_with(self, id: str, audio: Path) -> str:
        """Let a longer video wait for its turn: that of the finished job `id`, with `audio` behind its own.

        Gives the new job's id. Raises UnknownJob and what `submit` does; InvalidRequest says what cannot be continued.
        """
        job = self._find(id)
        self._require_room()
        if not self.makers:
            raise InvalidRequest(NO_MODEL_YET)
        if job.measured and job.measured.maker.model not in {maker.model for maker in self.makers}:
            raise InvalidRequest(OTHER_MODEL)
        with tempfile.TemporaryDirectory(prefix="continuing-") as place:
            joined = Path(place) / "joined.wav"
            request = longer_request(job.request, job.status, job.frames, audio, joined, self.max_audio_seconds)
            return self._submit(request, base_of(job.folder, job.status))

    def _submit(self, request: GenerationRequest, base: Base | None) -> str:
        self._require_room()
        planned = plan_request(request, self.max_audio_seconds)
        self._remove_old()
        job = Job.of(create_job(self.folder, request, planned.plan, base))
        try:
            with self._changed:
                self._require_room()
                self._jobs[job.id] = job
                self._line_up([*self._waiting, job])
        except QueueFull:  # somebody else was faster
            job.folder.remove()
            raise
        plan = planned.plan
        logger.info("Job %s submitted: clips %d, size %dx%d", job.id[:8], plan.clips, plan.width, plan.height)
        return job.id

    def status(self, id: str) -> Status:
        """How far the job is. Raises UnknownJob."""
        return self._find(id).status

    def request(self, id: str) -> GenerationRequest:
        """What was asked, with the paths of the copied inputs. Raises UnknownJob."""
        return self._find(id).request

    def video(self, id: str) -> Path | None:
        """The job's video, whole or so far; None before the first clip. Raises UnknownJob."""
        job = self._find(id)
        return job.folder.result if job.ready and job.folder.result.is_file() else None

    def step_s(self, id: str) -> float:
        """Seconds that a step of the job takes, 0 where that has not been measured. Raises UnknownJob."""
        return self._find(id).pace.step_s

    def clips_done(self, id: str) -> int:
        """How many clips of the job there are. Raises UnknownJob."""
        return self._find(id).ready

    def thumbnail(self, id: str) -> Path | None:
        """A small picture (JPEG) of the job's video; None before the first clip. Raises UnknownJob."""
        file = self._find(id).folder.thumbnail
        return file if file.is_file() else None

    def look_at(self, id: str) -> Preview | None:
        """What the present clip of the job is becoming, as far as that is known.

        It is worked out for those who look every few seconds, and for nobody else. Raises UnknownJob.
        """
        job = self._find(id)
        job.looked_at = time.monotonic()
        return job.preview

    def history(self, ids: Iterable[str]) -> list[Status]:
        """The statuses of those of `ids` that are jobs, newest first."""
        wanted = {id for id in ids if isinstance(id, str)}
        return [status for status in reversed(self.all()) if status.job in wanted]

    def all(self) -> list[Status]:
        """The statuses of all jobs, oldest first: for the operator alone, the ids are keys."""
        with self._changed:
            return [job.status for job in self._jobs.values()]

    def expected_s(self, request: GenerationRequest, plan: ClipPlan) -> float | None:
        """Seconds of work that `request` will take here; None where no job of the same model has ended here yet."""
        return expected_s(request, plan, self._known(self.makers))

    def _known(self, makers: Collection[Maker]) -> list[Measured]:
        with self._changed:
            return [job.measured for job in self._jobs.values() if job.measured and job.measured.maker in makers]

    def cancel(self, id: str) -> Status:
        """End a job: one that waits at once, one that is worked on after the present step; its clips are kept.

        Raises UnknownJob.
        """
        return self._cancel(self._find(id))

    def delete(self, id: str) -> None:
        """Cancel the job if need be and, once it has ended, remove all that is kept of it. Raises UnknownJob."""
        job = self._find(id)
        job.unwanted = True
        if not job.ended:
            job.write_wish(DeleteAsked())
        if self._cancel(job).state in ENDED:
            self._forget(job)

    def follow(self, id: str) -> AsyncIterator[Status]:
        """The job's status now and then every later one, up to its last. Raises UnknownJob."""
        return self._statuses(self._find(id))

    async def _statuses(self, job: Job) -> AsyncIterator[Status]:
        follower = Follower(asyncio.get_running_loop())
        with self._changed:
            status = job.status
            job.followers.append(follower)
        try:
            yield status
            while status.state not in ENDED:
                status = await follower.statuses.get()
                yield status
        finally:
            with self._changed:
                if follower in job.followers:
                    job.followers.remove(follower)

    # The workers' side.

    def admit(self, maker: Maker) -> None:
        """Let `maker` be one of those that work here."""
        with self._changed:
            self.makers |= {maker}

    def take(self, stopped: Callable[[], bool], maker: Maker = NOBODY) -> Job | None:
        """The next job, once there is one, for `maker` alone; None once `stopped()` is true (asked at each `wake`)."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._next() or stopped(), CLEANING_S)
                if stopped():
                    return None
                if job := self._next():
                    job.began, job.maker = time.monotonic(), maker
                    job.tell(begun(job.status))
                    self._line_up(self._waiting[1:])
                    return job
            self._remove_old()

    def _next(self) -> Job | None:
        """The first who waits, unless it has to wait for those who work, or they want to be alone. Under the lock."""
        running = [job for job in self._jobs.values() if job.status.state == "running"]
        first = self._waiting[0] if self._waiting else None
        return None if first and running and any(job.works_alone for job in (first, *running)) else first

    def wake(self) -> None:
        """Let `take` look again whether to stop."""
        with self._changed:
            self._changed.notify_all()

    def expect_stop(self) -> None:
        """Write down, for each job that is worked on, that the program was told to end."""
        with self._changed:
            running = [job for job in self._jobs.values() if job.status.state == "running"]
        for job in running:
            job.write_wish(StopAsked())

    def record(self, job: Job, event: Event) -> None:
        """Keep what happened to `job`, which was taken, and tell its followers.

        Raises DiskFull or OSError if it cannot be kept; an end is told all the same.
        """
        now = job.elapsed_s
        if isinstance(event, Finished | Failed | Cancelled):
            self._end(job, event, now)
            return
        if isinstance(event, Started | StageChanged | ClipReady) or (isinstance(event, StepDone) and event.step == 1):
            job.write(event, now, job.maker)
        _log(event, job.id[:8])
        job.pace = measured(job.pace, event, now)
        if isinstance(event, Started):
            known = self._known({job.maker})
            job.pace = replace(job.pace, rest_s=expected_rest_s(job.request, event.plan, known))
            if not job.ready:
                job.expected_s = expected_s(job.request, event.plan, known)
        with self._changed:
            if isinstance(event, ClipReady):
                job.ready, job.frames, job.preview, job.tries = event.clip, event.frames, None, 0
                self._changed.notify_all()  # it may have been alone
            status = replace(after(job.status, event, now), eta_s=job.eta_s)
            job.tell(stopping(status) if job.stopping else status)

    def put_back(self, job: Job) -> None:
        """Let `job`, which was taken and has not ended, go on later, before all others."""
        job.worked_s = job.elapsed_s
        with self._changed:
            job.status = interrupted(job.status, job.ready)
            self._line_up([job, *self._waiting])

    # Within.

    def _find(self, id: str) -> Job:
        with self._changed:
            job = self._jobs.get(id) if isinstance(id, str) else None
        if job is None:
            raise UnknownJob("There is no such job here (any more): check the id, or submit it again.")
        return job

    def _require_room(self) -> None:
        waiting = len(self._waiting)
        if waiting >= self.max_queue:
            raise QueueFull(f"The queue is full: {waiting} jobs wait, and no more are accepted; try again later.")

    def _line_up(self, waiting: list[Job]) -> None:
        """Let `waiting` be those who wait, and tell each one whose place is new. Under the lock."""
        self._waiting = waiting
        for position, job in enumerate(waiting, start=1):
            if job.status.position != position:
                job.tell(queued(job.status, position))
        self._changed.notify_all()

    def _readmit(self, unfinished: list[Job]) -> None:
        """At start: let those who were interrupted wait again, in order, those that were worked on first."""
        waiting = []
        for job in unfinished:
            whole = 0 < job.ready == job.status.clips  # only the last line is missing
            job.folder.sweep(job.ready, ended=whole)
            if whole:
                self._end(job, Finished(job.folder.result), job.worked_s)
            elif job.stopping:
                self._end(job, Cancelled(), job.worked_s)
            elif job.tries >= MAX_TRIES:
                self._end(job, Failed(GIVEN_UP), job.worked_s)
            else:
                waiting.append(job)
        waiting.sort(key=lambda job: job.status.state != "running")
        for job in waiting:
            job.status = interrupted(job.status, job.ready)
        with self._changed:
            self._line_up(waiting)

    def _cancel(self, job: Job) -> Status:
        if not job.ended and not job.stopping:
            job.write_wish(CancelAsked())  # before it is obeyed: an end of the program does not lose it
        with self._changed:
            waits = job in self._waiting
            if waits:
                self._line_up([other for other in self._waiting if other is not job])
            elif not job.ended:
                job.stopping = True
                job.tell(stopping(job.status))
        if waits:
            self._end(job, Cancelled(), job.worked_s)
        return job.status

    def _end(self, job: Job, event: Event, now: float) -> None:
        try:
            job.folder.sweep(job.ready, ended=True)  # first: on a full disk this makes room for the line
            job.write(event, now)
        except Exception:
            logger.exception("Job %s: its end could not be written down; it will go on at the next start", job.id[:8])
        job.measured = _measured(job)
        _log(event, job.id[:8])
        with self._changed:
            job.ended_at, job.preview = time.time(), None
            job.tell(after(job.status, event, now))
            self._changed.notify_all()
        if job.unwanted:
            self._forget(job)

    def _forget(self, job: Job) -> None:
        with self._changed:
            known = self._jobs.pop(job.id, None)
        if known:
            try:
                job.folder.remove()
            except OSError:
                logger.exception("Job %s: not all of its files could be removed", job.id[:8])
            self.when_gone(job.folder.path)

    def _remove_old(self) -> None:
        oldest = time.time() - self.keep_results_days * SECONDS_PER_DAY
        with self._changed:
            old = [job for job in self._jobs.values() if job.ended_at and job.ended_at < oldest]
        for job in old if self.keep_results_days else ():
            self._forget(job)


def _measured(job: Job) -> Measured | None:
    try:
        return measure(job.request, read_job(job.folder.path).lines)
    except (OSError, ValueError, KeyError, TypeError):  # the folder is gone, or the disk is full
        return None


def _log(event: Event, name: str) -> None:
    match event:
        case Started(plan, seed):
            logger.info("Job %s started: clips %d, seed %d", name, plan.clips, seed)
        case ClipReady(clip, clips):
            logger.info("Job %s: clip %d of %d is ready", name, clip, clips)
        case Finished():
            logger.info("Job %s finished", name)
        case Failed(message):
            logger.warning("Job %s failed: %s", name, message)
        case Cancelled():
            logger.info("Job %s was cancelled", name)
