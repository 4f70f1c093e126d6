"""The thread that works."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue

import numpy as np
import pytest

from pipeline.errors import InvalidRequest, ModelUnavailable
from pipeline.events import ClipFrames, ClipReady, Event, FramesDecoded, ModelState, StageChanged
from pipeline.jobs.folder import read_job
from pipeline.jobs.queue import Job, JobQueue
from pipeline.jobs.worker import GPU_LOST, Worker
from pipeline.logs import KeylessFormatter
from pipeline.media.video import read_note_from
from pipeline.request import GenerationRequest

from .scripted import DRAWN_SEED, Gate, Script, at_step, decoded, files_of, follow

ALWAYS = {"request.json", "events.jsonl", "portrait.png", "audio.wav"}


class OutOfMemoryError(RuntimeError):
    """Named as torch's own."""


class Watched(Worker):
    """A worker of whose model every state can be waited for."""

    def __init__(self, *arguments: object) -> None:
        self._states: SimpleQueue[ModelState] = SimpleQueue()
        super().__init__(*arguments)

    @property
    def model_state(self) -> ModelState:
        return self._state

    @model_state.setter
    def model_state(self, state: ModelState) -> None:
        self._state = state
        self._states.put(state)

    def wait_for(self, state: str) -> None:
        while self._states.get(timeout=30).state != state:
            pass


def raising(error: Exception, at: Callable[[Event], bool], times: int = 1) -> Callable[[Event], None]:
    """A `before` of Script that raises `error` the first `times` that `at` is true."""
    left = [error] * times

    def before(event: Event) -> None:
        if left and at(event):
            raise left.pop()

    return before


def test_a_job_goes_through_its_stages_to_the_whole_video(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker]
):
    job = queue.submit(inputs)
    statuses = follow(queue, job, then=lambda: start(queue, Script()))
    assert [status.message for status in statuses[:4]] == ["Next in line.", *["Starting."] * 2, "Reading the prompt."]
    stages = [status.stage for status in statuses if status.stage]
    changes = [stage for stage, before in zip(stages, [None, *stages], strict=False) if stage != before]
    assert changes == ["text", "speech", "portrait", *["denoise", "decode", "encode"] * 3]
    last = statuses[-1]
    assert (last.state, last.seed, last.clip, last.eta_s) == ("finished", DRAWN_SEED, 3, None)
    assert len(decoded(queue.video(job))) == 20
    lines = read_job(queue.folder / job).lines
    kinds = {"Started", "StageChanged", "StepDone", "ClipReady", "Finished"}
    assert {type(line.event).__name__ for line in lines} == kinds
    clips = {"clip-0001.mp4", "clip-0002.mp4", "clip-0003.mp4"}
    assert files_of(queue.folder / job) == ALWAYS | clips | {"motion-0002.npz", "result.mp4", "thumbnail.jpg"}


def test_two_jobs_are_done_one_after_the_other_each_with_its_own_video(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker]
):
    first, second = (queue.submit(inputs.model_copy(update={"seed": seed})) for seed in (1, 2))
    start(queue, Script())
    assert follow(queue, second)[-1].state == "finished"
    assert queue.status(first).state == "finished"
    assert not np.array_equal(decoded(queue.video(first)), decoded(queue.video(second)))


def test_the_video_so_far_is_there_while_the_next_clip_is_made(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker]
):
    gate = Gate(at_step(2, 1))
    start(queue, Script(gate))
    job = queue.submit(inputs)
    assert gate.reached.wait(30)
    assert len(decoded(queue.video(job))) == 5
    gate.opened.set()


def test_the_time_left_is_told_from_the_first_step_on(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker]
):
    job = queue.submit(inputs)
    statuses = follow(queue, job, then=lambda: start(queue, Script()))
    first = next(i for i, status in enumerate(statuses) if status.step == 1)
    assert {status.eta_s for status in statuses[:first]} == {None}
    assert None not in {status.eta_s for status in statuses[first:-1]}


@pytest.mark.parametrize("at", [at_step(2, 2), lambda event: event == FramesDecoded(2, 1, 2)], ids=["step", "decoding"])
def test_cancelling_during_a_clip_keeps_the_clips_before(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker], at: Callable[[Event], bool]
):
    gate, script = Gate(at), Script()
    script.before = gate
    start(queue, script)
    job = queue.submit(inputs)
    assert gate.reached.wait(30)
    status = queue.cancel(job)
    assert (status.state, status.message) == ("running", "Stopping after the present step.")
    statuses = follow(queue, job, then=gate.opened.set)
    assert {status.message for status in statuses[:-1]} == {"Stopping after the present step."}
    assert (statuses[-1].state, statuses[-1].message) == ("cancelled", "Cancelled.")
    assert len(statuses) == 3  # now, the event that it waited at, the end
    assert script.closed.is_set()
    assert len(decoded(queue.video(job))) == 5
    assert read_note_from(queue.video(job))["partial"]
    assert files_of(queue.folder / job) == ALWAYS | {"clip-0001.mp4", "result.mp4", "thumbnail.jpg"}


def test_a_video_that_is_whole_when_it_is_cancelled_is_finished(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest, start: Callable[..., Worker]
):
    queue = open_queue(kind=CancelsAtTheEnd)
    start(queue, Script())
    assert follow(queue, queue.submit(inputs))[-1].state == "finished"


class CancelsAtTheEnd(JobQueue):
    """Somebody cancels each job while its last clip is written."""

    def record(self, job: Job, event: Event) -> None:
        if isinstance(event, ClipReady) and event.clip == event.clips:
            self.cancel(job.id)
        super().record(job, event)


def test_cancelling_before_the_first_clip_leaves_no_half_written_file(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker]
):
    gate = Gate(lambda event: event == StageChanged("speech", 0))
    start(queue, Script(gate))
    job = queue.submit(inputs)
    assert gate.reached.wait(30)
    queue.cancel(job)
    gate.opened.set()
    assert follow(queue, job)[-1].state == "cancelled"
    assert queue.video(job) is None
    assert files_of(queue.folder / job) == {"request.json", "events.jsonl"}


def test_after_a_cancelled_job_the_next_one_is_done(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker]
):
    gate = Gate(at_step(1, 1))
    start(queue, Script(gate))
    first, second = queue.submit(inputs), queue.submit(inputs)
    assert gate.reached.wait(30)
    queue.cancel(first)
    gate.opened.set()
    assert follow(queue, second)[-1].state == "finished"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (InvalidRequest("The sound ends too early."), "The sound ends too early."),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "choose a smaller size"),
        (MemoryError(), "choose a smaller size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "choose a smaller size"),
        (RuntimeError("CUDA error: out of memory"), "choose a smaller size"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), "choose a smaller size"),
        (ZeroDivisionError("secret detail"), "Something went wrong inside the program; its log has the details"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_goes_wrong_in_a_job_is_one_sentence_and_spares_the_others(
    queue: JobQueue,
    inputs: GenerationRequest,
    start: Callable[..., Worker],
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    sentence: str,
):
    start(queue, Script(raising(error, at_step(2, 1))))
    first, second = queue.submit(inputs), queue.submit(inputs)
    failed = follow(queue, first)[-1]
    assert (failed.state, failed.eta_s) == ("failed", None)
    assert sentence in failed.message
    assert "secret" not in failed.message
    assert len(decoded(queue.video(first))) == 5
    assert follow(queue, second)[-1].state == "finished"
    explained = isinstance(error, InvalidRequest)
    assert [record.exc_info is None for record in caplog.records if record.levelno >= logging.ERROR] == (
        [] if explained else [False]
    )
    assert first not in caplog.text


@pytest.mark.parametrize("stage", ["text", "speech", "portrait"])
def test_a_smaller_size_is_not_advised_where_it_would_not_help(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker], stage: str
):
    begun = [False]

    def before(event: Event) -> None:
        if begun[0]:
            raise MemoryError
        begun[0] = event == StageChanged(stage, 0)

    start(queue, Script(before))
    message = follow(queue, queue.submit(inputs))[-1].message
    assert "not enough memory" in message
    assert "smaller" not in message


def test_a_job_whose_folder_vanished_fails_and_spares_the_others(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker], caplog: pytest.LogCaptureFixture
):
    caplog.handler.setFormatter(KeylessFormatter("%(message)s"))
    first, second = queue.submit(inputs), queue.submit(inputs)
    (queue.folder / first).rename(queue.folder.parent / "gone")
    start(queue, Script())
    assert follow(queue, second)[-1].state == "finished"
    assert queue.status(first).state == "failed"
    assert f"/{first[:8]}'" in caplog.text  # of the traceback
    assert first not in caplog.text
    queue.delete(first)
    assert [status.job for status in queue.all()] == [second]


def test_where_the_gpu_fails_all_jobs_wait_and_go_on_when_it_works_again(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker]
):
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    script = Script(raising(error, at_step(2, 1), times=2))
    worker = start(queue, script, kind=Watched)
    jobs = [queue.submit(inputs) for _ in range(3)]
    for _ in range(2):
        worker.wait_for("failed")
        assert worker.model_state.message == GPU_LOST
        assert [queue.status(job).state for job in jobs] == ["queued"] * 3
        worker.go_on()
    assert [follow(queue, job)[-1].state for job in jobs] == ["finished"] * 3
    assert script.resumed == [0, 1, 1, 0, 0]


def test_where_the_gpu_fails_a_job_that_is_cancelled_ends(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker]
):
    gate = Gate(at_step(2, 1))

    def before(event: Event) -> None:
        gate(event)
        if gate.reached.is_set():
            raise RuntimeError("CUDA error: unspecified launch failure")

    worker = start(queue, Script(before), kind=Watched)
    job = queue.submit(inputs)
    assert gate.reached.wait(30)
    queue.cancel(job)
    gate.opened.set()
    assert follow(queue, job)[-1].state == "failed"
    worker.wait_for("failed")


def test_jobs_wait_while_the_model_is_made_ready(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker]
):
    arrived, begun = threading.Event(), threading.Event()

    def prepare(report: Callable[[ModelState], None]) -> Script:
        report(ModelState("downloading", "script", bytes_done=5, bytes_total=10))
        begun.set()
        assert arrived.wait(30)
        return Script()

    worker = start(queue, Script(), prepare)
    assert begun.wait(30)
    assert (worker.model_state.state, worker.model_state.bytes_done) == ("downloading", 5)
    job = queue.submit(inputs)
    assert queue.status(job).position == 1
    arrived.set()
    assert follow(queue, job)[-1].state == "finished"
    assert (worker.model_state.state, worker.model_state.model) == ("ready", "script")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ModelUnavailable("A file is missing."), "A file is missing."),
        (KeyError("x"), "the program's log says why"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "There is not enough memory on this machine"),
    ],
    ids=["explained", "unexpected", "out of memory"],
)
def test_a_model_that_could_not_be_made_ready_is_tried_again_when_told_to(
    queue: JobQueue,
    inputs: GenerationRequest,
    start: Callable[..., Worker],
    error: Exception,
    sentence: str,
):
    errors = [error, error]

    def prepare(report: Callable[[ModelState], None]) -> Script:
        report(ModelState("loading", "script"))
        if errors:
            raise errors.pop()
        return Script()

    worker = start(queue, Script(), prepare, Watched)
    job = queue.submit(inputs)
    for _ in range(2):
        worker.wait_for("failed")
        assert sentence in worker.model_state.message
        assert queue.status(job).state == "queued"
        worker.go_on()
    assert follow(queue, job)[-1].state == "finished"
    assert worker.model_state.state == "ready"


def asking(report: Callable[[ModelState], None]) -> Script:
    report(ModelState("asking", "script", bytes_total=100))
    report(ModelState("downloading", "script", 50, 100, 7.0, 7.0))
    return Script()


def test_a_question_waits_for_its_answer_while_jobs_queue(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker]
):
    worker = start(queue, Script(), asking, Watched)
    worker.wait_for("asking")
    job = queue.submit(inputs)
    assert (worker.model_state.state, queue.status(job).state) == ("asking", "queued")
    worker.go_on()
    assert follow(queue, job)[-1].state == "finished"


def test_a_yes_holds_for_later_tries_and_a_failure_keeps_no_rate(queue: JobQueue, start: Callable[..., Worker]):
    errors = [ModelUnavailable("The network is down.")]

    def prepare(report: Callable[[ModelState], None]) -> Script:
        model = asking(report)
        if errors:
            raise errors.pop()
        return model

    worker = start(queue, Script(), prepare, Watched)
    worker.wait_for("asking")
    worker.go_on()
    worker.wait_for("failed")
    assert worker.model_state == ModelState("failed", "script", 50, 100, message="The network is down.")
    worker.go_on()
    worker.wait_for("ready")


def test_an_answer_that_came_too_early_is_no_answer_to_a_question(queue: JobQueue, start: Callable[..., Worker]):
    tries, trying, failing_again = [], threading.Event(), threading.Event()

    def prepare(report: Callable[[ModelState], None]) -> Script:
        tries.append(None)
        if len(tries) == 1:
            raise ModelUnavailable("The folder cannot be written.")
        trying.set()
        assert failing_again.wait(30)
        return asking(report)

    worker = start(queue, Script(), prepare, Watched)
    worker.wait_for("failed")
    worker.go_on()
    assert trying.wait(30)
    worker.go_on()  # a second click, before the page knows better
    failing_again.set()
    worker.wait_for("asking")
    worker.stop(30)
    assert worker.model_state.state == "asking"


@pytest.mark.parametrize("until", ["asking", "downloading"])
def test_a_stop_ends_what_is_done_for_the_model(until: str, queue: JobQueue, start: Callable[..., Worker]):
    ended = threading.Event()

    def prepare(report: Callable[[ModelState], None]) -> Script:
        try:
            while True:
                report(ModelState(until, "script"))
        finally:
            ended.set()

    worker = start(queue, Script(), prepare, Watched)
    worker.wait_for(until)
    worker.stop(timeout_s=30)
    assert ended.is_set()
    assert not worker._thread.is_alive()
    assert worker.model_state.state == until


def test_a_stop_leaves_the_job_to_be_gone_on_with(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker]
):
    gate, script = Gate(at_step(2, 1)), Script()
    script.before = gate
    worker = start(queue, script)
    job = queue.submit(inputs)
    assert gate.reached.wait(30)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    assert worker._stopping.wait(30)
    gate.opened.set()
    stopping.join(30)
    assert not worker._thread.is_alive()
    status = queue.status(job)
    assert (status.state, status.position, status.clip) == ("queued", 1, 1)
    start(queue, script)
    assert follow(queue, job)[-1].state == "finished"
    assert script.resumed == [0, 1]


@pytest.mark.parametrize("failing", [False, True], ids=["idle", "without a model"])
def test_a_worker_without_work_stops_at_once(queue: JobQueue, start: Callable[..., Worker], failing: bool):
    failed = threading.Event()

    def prepare(report: Callable[[ModelState], None]) -> Script:
        failed.set()
        if failing:
            raise ModelUnavailable("A file is missing.")
        return Script()

    worker = start(queue, Script(), prepare)
    assert failed.wait(30)
    worker.stop(timeout_s=30)
    assert not worker._thread.is_alive()


def test_frames_above_the_audio_are_cut(queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker]):
    lengths = []
    start(queue, Script(lambda event: lengths.append(len(event.frames)) if isinstance(event, ClipFrames) else None))
    job = queue.submit(inputs)
    follow(queue, job)
    assert sum(lengths) == 21
    assert len(decoded(queue.video(job))) == 20


def test_nothing_here_needs_torch():
    asked = "import sys, pipeline.jobs.worker; sys.exit('torch' in sys.modules or 'gradio' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", asked], check=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
