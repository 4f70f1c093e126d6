"""A thread that works: it makes its model ready, then does the jobs in order, each from start to end.

Nothing that goes wrong in a job ends the thread. All of a generation runs on it, for what torch keeps per thread
(inference mode, autocast) must not change hands within one.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Protocol

from pipeline.errors import UserError, is_gpu_lost, is_out_of_memory
from pipeline.events import Cancelled, ClipReady, Event, Failed, Finished, ModelState, Resume, Stage, StepDone
from pipeline.jobs.journal import NOBODY, Maker
from pipeline.jobs.queue import Job, JobQueue, Preview
from pipeline.jobs.rendering import render
from pipeline.media.picture import small_jpeg
from pipeline.request import GenerationRequest

logger = logging.getLogger(__name__)

OUT_OF_MEMORY = (
    "There was not enough memory for this video: choose a smaller size or fewer frames per clip, "
    "or end other programs that use the machine."
)
OUT_OF_MEMORY_FOR_MODEL = (
    "There is not enough memory on this machine for the model: end other programs that use it, or take a machine "
    "with more."
)
OUT_OF_MEMORY_AT_START = (
    "There was not enough memory to begin this video, whatever its size: end other programs that use the machine, "
    "or take a machine with more."
)
GPU_LOST = (
    "The GPU has failed: start the program again, and if that does not help, the machine. Waiting videos go on then."
)
BEFORE_CLIPS: tuple[Stage | None, ...] = ("text", "speech", "portrait")  # a smaller video needs as much for these


class Model(Protocol):
    """What generates: yields events up to the frames of each clip, and stops when it is closed."""

    def generate(self, request: GenerationRequest, resume: Resume | None = None) -> Iterator[Event]: ...


Prepare = Callable[[Callable[[ModelState], None]], Model]


class Stopped(Exception):
    """The worker is to end, and whoever makes its model ready as well."""


class Worker:
    """Works on `queue` with the model that `prepare(report)` gives; `report` takes each new state of the model.

    `prepare` runs on the worker's thread while jobs already queue. If it fails, the state says why, and it is called
    again after `go_on`. A state "asking" is a question: `report` comes back from it after `go_on`, which is the yes,
    and at once when it has been given before.
    """

    def __init__(self, queue: JobQueue, prepare: Prepare) -> None:
        self.queue = queue
        self.prepare = prepare
        self.maker = NOBODY  # as whom it works, once its model is ready
        self.model_state = ModelState(state="checking", model="")
        self._stopping = threading.Event()
        self._answered = threading.Event()
        self._agreed = False
        self._thread = threading.Thread(target=self._run, name="worker", daemon=True)

    def start(self) -> None:
        """Begin. A worker is started once."""
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """End after the present step, and wait for that at most `timeout_s`; the job goes on at the next start.

        A model on its way in is not waited for longer than that either: the thread ends with the process.
        """
        self.queue.expect_stop()
        self.tell_to_stop()
        self.join(timeout_s)

    def tell_to_stop(self) -> None:
        """As `stop`, without waiting, and without a word in the journals."""
        self._stopping.set()
        self._answered.set()
        self.queue.wake()

    def join(self, timeout_s: float | None) -> None:
        """Wait for the end of the work, at most `timeout_s`."""
        self._thread.join(timeout_s)

    def go_on(self) -> None:
        """Begin the download that was asked about, or make the model ready once more where that has failed."""
        if self.model_state.state in ("asking", "failed"):
            self._answered.set()

    def _run(self) -> None:
        while model := self._prepared():
            if self._serve(model):
                return
            del model  # the next one needs its place
            self._wait_for_answer(replace(self.model_state, state="failed", message=GPU_LOST))

    def _serve(self, model: Model) -> bool:
        """Do jobs with `model` until the worker is to stop; False where the GPU fails before that."""
        while job := self.queue.take(self._stopping.is_set, self.maker):
            if not self._work(job, model):
                return False
        return True

    def _prepared(self) -> Model | None:
        """The model, after as many tries as it takes; None when the worker is to stop."""
        while not self._stopping.is_set():
            try:
                model = self.prepare(self._report)
                self.maker = Maker(self.model_state.model, self.model_state.message)
                self.queue.admit(self.maker)
                self._report(replace(self.model_state, state="ready"))
                return model
            except Stopped:
                return None
            except Exception as error:
                why = _why_no_model(error)
                failed = replace(self.model_state, state="failed", message=why, bytes_per_s=None, eta_s=None)
            self._wait_for_answer(failed)
        return None

    def _report(self, state: ModelState) -> None:
        """Take a new state of the model. Raises Stopped, which ends what is done for it."""
        if state.state == "asking" and not self._agreed:
            self._wait_for_answer(state)
            self._agreed = True
        else:
            self.model_state = state
        if self._stopping.is_set():
            raise Stopped

    def _wait_for_answer(self, state: ModelState) -> None:
        """Show `state` until somebody says to go on, or the worker is to stop. Earlier answers do not count."""
        self._answered.clear()
        self.model_state = state
        if not self._stopping.is_set():
            self._answered.wait()

    def _work(self, job: Job, model: Model) -> bool:
        """Do `job`. False where the GPU has failed, which all others would fail by as well: it waits, too, then."""
        try:
            self._drive(job, model)
        except Exception as error:
            if is_gpu_lost(error) and not job.stopping:
                logger.exception("Job %s waits, for the GPU has failed", job.id[:8])
                self.queue.put_back(job)
            else:
                self.queue.record(job, Failed(why_no_video(error, job.id, job.status.stage)))
            return not is_gpu_lost(error)
        return True

    def _drive(self, job: Job, model: Model) -> None:
        """Hand each event of the rendering to the queue, and see after each whether to stop."""
        resume = job.folder.resume(job.ready)
        seed = job.status.seed  # drawn before an interruption
        request = job.request if seed is None else job.request.model_copy(update={"seed": seed})
        with closing(render(model.generate, request, job.folder.path, resume, job.folder.keep_thumbnail)) as events:
            for event in events:
                self.queue.record(job, event)
                if isinstance(event, StepDone) and event.draw and event.step % 2 == 0 and job.is_watched:
                    job.preview = preview_of(event)
                if isinstance(event, Finished):
                    return
                is_whole = isinstance(event, ClipReady) and event.clip == event.clips
                if (job.stopping or self._stopping.is_set()) and not is_whole:
                    break
        if job.stopping:
            self.queue.record(job, Cancelled())
        else:
            self.queue.put_back(job)


def preview_of(step: StepDone) -> Preview | None:
    """What the clip is becoming; None, and a line in the log, where that cannot be drawn: the job goes on."""
    try:
        return Preview(step.clip, step.step, small_jpeg(step.draw()))
    except Exception:
        logger.exception("There is no preview")
        return None


def _why_no_model(error: Exception) -> str:
    if isinstance(error, UserError):
        logger.error("The model is not ready: %s", error)
        return str(error)
    logger.exception("The model could not be made ready")
    if is_out_of_memory(error):
        return OUT_OF_MEMORY_FOR_MODEL
    if is_gpu_lost(error):
        return GPU_LOST
    return "The model could not be made ready: the program's log says why."


def why_no_video(error: Exception, job: str, stage: Stage | None = None) -> str:
    """The sentence for who wanted the video of the job with the id `job`, which came to `stage`.

    What nobody expected is logged.
    """
    if isinstance(error, UserError):
        return str(error)
    logger.exception("Job %s ended by an error", job[:8])
    if is_out_of_memory(error):
        return OUT_OF_MEMORY_AT_START if stage in BEFORE_CLIPS else OUT_OF_MEMORY
    return f"Something went wrong inside the program; its log has the details (job {job[:8]})."
