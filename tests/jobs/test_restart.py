"""What is there after the program ended, at whatever moment."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.events import Event, StageChanged
from pipeline.jobs.folder import read_job
from pipeline.jobs.queue import MAX_TRIES, JobQueue
from pipeline.jobs.worker import Worker
from pipeline.request import GenerationRequest

from .scripted import DRAWN_SEED, Gate, Script, at_step, decoded, files_of, follow

INPUTS = {"request.json", "events.jsonl", "portrait.png", "audio.wav"}
FINAL_FILES = (
    INPUTS | {f"clip-000{clip}.mp4" for clip in (1, 2, 3)} | {"motion-0002.npz", "result.mp4", "thumbnail.jpg"}
)


@pytest.fixture
def unbroken(tmp_path: Path, inputs: GenerationRequest, start: Callable[..., Worker]) -> np.ndarray:
    """The frames of a job that nothing interrupted."""
    queue = JobQueue(tmp_path / "unbroken", 20, 10, 7)
    job = queue.submit(inputs)
    start(queue, Script())
    follow(queue, job)
    return decoded(queue.video(job))


def test_ended_jobs_are_there_as_they_were(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest, start: Callable[..., Worker]
):
    queue = open_queue()
    failing = Script(lambda event: 1 / (not at_step(2, 1)(event)))
    cancelled, failed, finished = (queue.submit(inputs) for _ in range(3))
    queue.cancel(cancelled)
    worker = start(queue, failing)
    follow(queue, failed)
    failing.before = lambda event: None
    follow(queue, finished)
    worker.stop(timeout_s=30)
    again = open_queue()
    assert again.all() == queue.all()
    assert [status.state for status in again.all()] == ["cancelled", "failed", "finished"]
    assert again.video(cancelled) is None
    assert len(decoded(again.video(failed))) == 5
    assert len(decoded(again.video(finished))) == 20
    assert again.request(finished) == queue.request(finished)


def test_the_interrupted_job_goes_first_and_then_the_others_in_order(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest, start: Callable[..., Worker]
):
    queue, gate = open_queue(), Gate(at_step(1, 2))
    first, second, third = (queue.submit(inputs) for _ in range(3))
    queue.cancel(first)
    start(queue, Script(gate))
    assert gate.reached.wait(30)
    again = open_queue()
    assert [again.status(job).position for job in (second, third)] == [1, 2]
    assert again.status(third).steps == 3
    assert again.status(second).seed == DRAWN_SEED
    gate.opened.set()


def kill_within_clip_2(jobs: Path, workers: int) -> None:
    """Let a program with so many workers begin to work on `jobs`, and kill it when each is within clip 2."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.jobs.child", jobs, str(workers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with child:
        for _ in range(workers):
            assert child.stdout.readline() == b"within clip 2\n"
        child.kill()


def test_a_killed_program_goes_on_after_the_last_clip_and_gives_the_same_frames(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest, start: Callable[..., Worker], unbroken: np.ndarray
):
    job = open_queue().submit(inputs)
    jobs = open_queue().folder
    kill_within_clip_2(jobs, workers=1)
    queue, script = open_queue(), Script()
    assert queue.status(job).message == "Next in line, to go on after clip 1 of 3."
    assert len(decoded(queue.video(job))) == 5
    start(queue, script)
    statuses = follow(queue, job)
    assert statuses[-1].state == "finished"
    assert script.resumed == [1]
    assert np.array_equal(decoded(queue.video(job)), unbroken)
    assert files_of(jobs / job) == FINAL_FILES


class Snapshots:
    """Copies a folder each time that a file of it is about to be opened for writing, renamed or removed.

    A copy is what kill -9 would leave at that moment: what Python has in its buffers is lost to both.
    """

    def __init__(self, folder: Path, into: Path):
        self.folder, self.into = folder, into
        self.taken: list[Path] = []
        self.armed = False

    def audit(self, event: str, arguments: tuple) -> None:
        writes = event == "open" and arguments[1] not in ("r", "rb", None)
        if self.armed and (writes or event in ("os.rename", "os.remove")) and str(self.folder) in str(arguments[0]):
            self.armed = False
            self.taken.append(self.into / f"{len(self.taken):03}")
            shutil.copytree(self.folder, self.taken[-1])
            self.armed = True


@pytest.fixture
def snapshots(open_queue: Callable[..., JobQueue], tmp_path: Path) -> Iterator[Snapshots]:
    snapshots = Snapshots(open_queue().folder, tmp_path / "snapshots")
    sys.addaudithook(snapshots.audit)  # there is no way to remove one: it is disarmed
    yield snapshots
    snapshots.armed = False


def test_a_kill_before_any_change_on_disk_is_survived(
    open_queue: Callable[..., JobQueue],
    inputs: GenerationRequest,
    start: Callable[..., Worker],
    unbroken: np.ndarray,
    snapshots: Snapshots,
):
    queue = open_queue()
    job = queue.submit(inputs)

    def from_the_second_clip_on(event: Event) -> None:
        snapshots.armed |= event == StageChanged("decode", 2)

    start(queue, Script(from_the_second_clip_on))
    follow(queue, job)
    snapshots.armed = False
    resumed = set()
    for snapshot in snapshots.taken:
        again, script = JobQueue(snapshot, 20, 10, 7), Script()
        worker = start(again, script)
        assert follow(again, job)[-1].state == "finished", snapshot
        worker.stop(timeout_s=30)
        assert np.array_equal(decoded(again.video(job)), unbroken), snapshot
        assert files_of(snapshot / job) == FINAL_FILES
        resumed |= set(script.resumed) or {3}
    assert len(snapshots.taken) > 10
    assert resumed == {1, 2, 3}  # and never from the start


def test_a_line_that_was_torn_by_a_kill_was_never_written(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest, start: Callable[..., Worker], unbroken: np.ndarray
):
    queue, gate = open_queue(), Gate(at_step(3, 1))
    job = queue.submit(inputs)
    start(queue, Script(gate))
    assert gate.reached.wait(30)
    jobs = shutil.copytree(queue.folder, queue.folder.with_name("torn"))
    gate.opened.set()
    events = jobs / job / "events.jsonl"
    text = events.read_text()
    events.write_text(text[: text.rindex('"clip_ready"') + 40])  # of clip 2, whose memory is the newer one
    again, script = JobQueue(jobs, 20, 10, 7), Script()
    start(again, script)
    follow(again, job)
    assert script.resumed == [0]  # the memory of clip 1 went when that line was whole: no kill tears it afterwards
    assert np.array_equal(decoded(again.video(job)), unbroken)


def test_a_memory_that_was_lost_costs_the_clips_but_not_the_job(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest, start: Callable[..., Worker], unbroken: np.ndarray
):
    queue, gate = open_queue(), Gate(at_step(2, 1))
    job = queue.submit(inputs)
    start(queue, Script(gate))
    assert gate.reached.wait(30)
    jobs = shutil.copytree(queue.folder, queue.folder.with_name("lost"))
    gate.opened.set()
    (jobs / job / "motion-0001.npz").write_bytes(b"")
    again, script = JobQueue(jobs, 20, 10, 7), Script()
    start(again, script)
    statuses = follow(again, job)
    assert script.resumed == [0]
    assert statuses[-1].seed == DRAWN_SEED
    assert np.array_equal(decoded(again.video(job)), unbroken)


def test_a_job_that_takes_the_program_down_again_and_again_is_given_up(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest, start: Callable[..., Worker]
):
    jobs = open_queue().folder
    job = open_queue().submit(inputs)
    for attempt in range(MAX_TRIES + 1):  # the first one made clip 1
        queue, gate = JobQueue(jobs, 20, 10, 7), Gate(at_step(2, 1))
        assert queue.status(job).state == "queued", attempt
        start(queue, Script(gate))
        assert gate.reached.wait(30)
        jobs = shutil.copytree(jobs, jobs.with_name(f"killed {attempt}"))
        queue.cancel(job)
        gate.opened.set()
    queue = JobQueue(jobs, 20, 10, 7)
    status = queue.status(job)
    assert status.state == "failed"
    assert "again and again" in status.message
    assert len(decoded(queue.video(job))) == 5


def stop_within_a_step(worker: Worker, gate: Gate) -> None:
    """Tell the worker to stop while it works, and let the step come to its end."""
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    assert worker._stopping.wait(30)
    gate.opened.set()
    stopping.join(30)
    assert not stopping.is_alive()


def test_orderly_stops_are_no_failed_tries(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest, start: Callable[..., Worker]
):
    job = open_queue().submit(inputs)
    for attempt in range(MAX_TRIES + 1):
        queue, gate = open_queue(), Gate(at_step(1, 1))
        assert queue.status(job).state == "queued", attempt
        worker = start(queue, Script(gate))
        assert gate.reached.wait(30)
        stop_within_a_step(worker, gate)
    assert open_queue().status(job).state == "queued"


def test_a_stop_that_does_not_wait_for_the_step_is_no_failed_try(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest, start: Callable[..., Worker]
):
    queue, gate = open_queue(), Gate(at_step(1, 1))
    job = queue.submit(inputs)
    worker = start(queue, Script(gate))
    assert gate.reached.wait(30)
    worker.stop(timeout_s=0)
    assert read_job(queue.folder / job).tries == 0
    gate.opened.set()


def test_a_cancellation_outlives_a_stop_that_does_not_wait_for_it(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest, start: Callable[..., Worker]
):
    queue, gate = open_queue(), Gate(at_step(2, 1))
    job = queue.submit(inputs)
    worker = start(queue, Script(gate))
    assert gate.reached.wait(30)
    queue.cancel(job)
    worker.stop(timeout_s=0)
    again = JobQueue(shutil.copytree(queue.folder, queue.folder.with_name("stopped")), 20, 10, 7)
    gate.opened.set()
    assert (again.status(job).state, again.status(job).message) == ("cancelled", "Cancelled.")
    assert len(decoded(again.video(job))) == 5
    assert again.all() == JobQueue(again.folder, 20, 10, 7).all()


def test_a_broken_folder_harms_no_other_job(open_queue: Callable[..., JobQueue], inputs: GenerationRequest):
    queue = open_queue()
    broken, good = queue.submit(inputs), queue.submit(inputs)
    (queue.folder / broken / "events.jsonl").write_bytes(b"\xff\xfe\n")
    assert [status.job for status in open_queue().all()] == [good]
    assert files_of(queue.folder) == {broken, good}
