"""The order of jobs, their statuses and those who follow them."""

import asyncio
import json
import logging
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

import pytest

from pipeline.errors import InvalidRequest, InvalidSetting, QueueFull, UnknownJob
from pipeline.jobs import queue as queue_module
from pipeline.jobs.queue import JobQueue
from pipeline.jobs.status import Status
from pipeline.jobs.worker import Worker
from pipeline.request import GenerationRequest

from ..awaiting import result_of
from .scripted import Gate, Script, at_step, files_of, follow, write_inputs


def test_a_submitted_job_waits_with_its_plan_told(queue: JobQueue, inputs: GenerationRequest):
    job = queue.submit(inputs)
    assert len(job) == 32
    assert queue.status(job) == Status(job, "queued", position=1, clips=3, steps=3, message="Next in line.")
    assert queue.request(job).audio == queue.folder / job / "audio.wav"
    assert queue.video(job) is None


def test_bad_input_is_refused_before_anything_is_written(queue: JobQueue, inputs: GenerationRequest):
    inputs.portrait.write_text("no picture")
    with pytest.raises(InvalidRequest):
        queue.submit(inputs)
    assert files_of(queue.folder) == set()
    assert queue.all() == []


def test_too_long_an_audio_is_refused(open_queue: Callable[..., JobQueue], tmp_path: Path):
    with pytest.raises(InvalidRequest):
        open_queue(max_audio_seconds=1).submit(write_inputs(tmp_path / "long", seconds=1.5))


def test_unknown_ids_are_refused_whatever_they_are(queue: JobQueue, inputs: GenerationRequest):
    queue.submit(inputs)
    for id in ("", "0" * 32, "../jobs", "..", "a/b", None, ["a"], {"a": 1}, 7):
        for ask in (queue.status, queue.request, queue.video, queue.cancel, queue.delete, queue.follow):
            with pytest.raises(UnknownJob):
                ask(id)
    assert queue.history([None, {}, "..", 3, ["x"]]) == []


def test_places_move_up_when_one_before_is_cancelled(queue: JobQueue, inputs: GenerationRequest):
    first, second, third = (queue.submit(inputs) for _ in range(3))
    assert [queue.status(job).position for job in (first, second, third)] == [1, 2, 3]
    cancelled = queue.cancel(second)
    assert (cancelled.state, cancelled.position, cancelled.message) == ("cancelled", 0, "Cancelled.")
    assert [queue.status(job).position for job in (first, second, third)] == [1, 0, 2]
    assert queue.status(third).message == "Number 2 in line."


def test_cancelling_what_has_ended_changes_nothing(queue: JobQueue, inputs: GenerationRequest):
    job = queue.submit(inputs)
    ended = queue.cancel(job)
    written = (queue.folder / job / "events.jsonl").read_bytes()
    assert queue.cancel(job) == ended
    assert (queue.folder / job / "events.jsonl").read_bytes() == written


def test_a_full_queue_says_how_many_wait(open_queue: Callable[..., JobQueue], inputs: GenerationRequest):
    queue = open_queue(max_queue=2)
    job, _ = queue.submit(inputs), queue.submit(inputs)
    with pytest.raises(QueueFull, match="2 jobs wait"):
        queue.submit(inputs)
    assert len(files_of(queue.folder)) == 2
    queue.cancel(job)
    assert queue.status(queue.submit(inputs)).position == 2


def test_of_many_who_submit_at_once_only_as_many_as_fit_get_in(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest
):
    queue, together = open_queue(max_queue=2), threading.Barrier(6)

    def submit(_: int) -> bool:
        together.wait(30)
        try:
            return bool(queue.submit(inputs))
        except QueueFull:
            return False

    with ThreadPoolExecutor(6) as threads:
        assert sum(threads.map(submit, range(6))) == 2
    assert files_of(queue.folder) == {status.job for status in queue.all()}
    assert [status.position for status in queue.all()] == [1, 2]


def test_the_job_that_is_worked_on_takes_no_place(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest, start: Callable[..., Worker]
):
    queue, gate = open_queue(max_queue=1), Gate(at_step(1, 1))
    start(queue, Script(gate))
    running = queue.submit(inputs)
    assert gate.reached.wait(30)
    assert queue.status(queue.submit(inputs)).position == 1
    assert queue.status(running).position == 0
    with pytest.raises(QueueFull):
        queue.submit(inputs)
    gate.opened.set()


def test_history_gives_the_known_ones_newest_first(queue: JobQueue, inputs: GenerationRequest):
    first, second, third = (queue.submit(inputs) for _ in range(3))
    assert [status.job for status in queue.history([first, "0" * 32, third])] == [third, first]
    assert [status.job for status in queue.all()] == [first, second, third]


def test_deleting_removes_every_trace(queue: JobQueue, inputs: GenerationRequest):
    job, other = queue.submit(inputs), queue.submit(inputs)
    queue.delete(job)
    assert files_of(queue.folder) == {other}
    with pytest.raises(UnknownJob):
        queue.status(job)
    assert queue.status(other).position == 1


def test_a_job_that_is_worked_on_is_deleted_once_it_has_stopped(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker]
):
    gate = Gate(at_step(2, 1))
    worker = start(queue, Script(gate))
    job = queue.submit(inputs)
    assert gate.reached.wait(30)

    def delete() -> None:
        queue.delete(job)
        assert files_of(queue.folder) == {job}
        gate.opened.set()

    assert follow(queue, job, then=delete)[-1].state == "cancelled"
    worker.stop(timeout_s=30)
    assert files_of(queue.folder) == set()
    with pytest.raises(UnknownJob):
        queue.status(job)


def test_a_deletion_outlives_the_program(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest, start: Callable[..., Worker]
):
    queue, gate = open_queue(), Gate(at_step(2, 1))
    start(queue, Script(gate))
    job = queue.submit(inputs)
    assert gate.reached.wait(30)
    queue.delete(job)

    assert open_queue().all() == []  # as the next start finds it
    assert files_of(queue.folder) == set()
    gate.opened.set()


def _end_days_ago(queue: JobQueue, job: str, days: float) -> None:
    """Write the job's events as if they had been so long ago."""
    file = queue.folder / job / "events.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    aged = [json.dumps(line | {"at": time.time() - days * 86_400}) + "\n" for line in lines]
    file.write_text("".join(aged))


def test_old_results_go_and_younger_and_unfinished_ones_stay(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest
):
    queue = open_queue()
    old, young, waiting = (queue.submit(inputs) for _ in range(3))
    queue.cancel(old)
    queue.cancel(young)
    for job, days in ((old, 8), (young, 6), (waiting, 30)):
        _end_days_ago(queue, job, days)
    assert {status.job for status in open_queue(keep_results_days=0).all()} == {old, young, waiting}
    assert {status.job for status in open_queue().all()} == {young, waiting}
    assert files_of(queue.folder) == {young, waiting}


def test_old_results_go_when_a_new_job_comes(open_queue: Callable[..., JobQueue], inputs: GenerationRequest):
    queue = open_queue(keep_results_days=1e-9)
    old = queue.submit(inputs)
    queue.cancel(old)
    new = queue.submit(inputs)
    assert files_of(queue.folder) == {new}


def test_old_results_go_while_there_is_no_work(
    open_queue: Callable[..., JobQueue],
    inputs: GenerationRequest,
    start: Callable[..., Worker],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(queue_module, "CLEANING_S", 0.01)
    queue = open_queue(keep_results_days=1e-9)
    job = queue.submit(inputs)
    queue.cancel(job)
    start(queue, Script())
    deadline = time.monotonic() + 30
    while files_of(queue.folder):
        assert time.monotonic() < deadline


def test_only_the_owner_may_look_into_the_folder_of_jobs(queue: JobQueue):
    assert stat.S_IMODE(queue.folder.stat().st_mode) == 0o700


def test_a_folder_that_cannot_hold_jobs_is_a_wrong_setting(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidSetting, match="OUTPUT_DIR"):
        JobQueue(tmp_path / "file" / "jobs", 20, 10, 7)


def test_a_follower_gets_every_step_in_order_and_the_end(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker]
):
    job = queue.submit(inputs)
    statuses = follow(queue, job, then=lambda: start(queue, Script()))
    steps = [(status.clip, status.step) for status in statuses if "step" in status.message]
    assert steps == [(clip, step) for clip in (1, 2, 3) for step in (1, 2, 3)]
    assert [status.state for status in statuses] == ["queued", *["running"] * (len(statuses) - 2), "finished"]
    assert [status.elapsed_s for status in statuses] == sorted(status.elapsed_s for status in statuses)


def test_followers_in_several_loops_get_the_same(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker]
):
    gate = Gate(at_step(1, 1))
    start(queue, Script(gate))
    job = queue.submit(inputs)
    assert gate.reached.wait(30)

    async def two() -> tuple[list[Status], list[Status]]:
        async def one() -> list[Status]:
            statuses = []
            async for status in queue.follow(job):
                statuses.append(status)
                if len(queue._jobs[job].followers) == 2:
                    gate.opened.set()
            return statuses

        return await asyncio.gather(one(), one())

    first, second = result_of(two())
    assert first == second
    assert first[-1].state == "finished"


def test_one_who_waits_is_told_of_each_new_place(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker]
):
    first, second, third = (queue.submit(inputs) for _ in range(3))

    def cancel_and_start() -> None:
        queue.cancel(first)
        start(queue, Script())

    statuses = follow(queue, third, then=cancel_and_start)
    assert [status.position for status in statuses if status.state == "queued"] == [3, 2, 1]
    assert queue.status(second).state == "finished"


def test_following_what_has_ended_gives_its_last_status_alone(queue: JobQueue, inputs: GenerationRequest):
    job = queue.submit(inputs)
    queue.cancel(job)
    assert follow(queue, job) == [queue.status(job)]


def test_followers_that_go_away_are_forgotten(queue: JobQueue, inputs: GenerationRequest):
    job = queue.submit(inputs)
    followers = queue._jobs[job].followers

    async def leave() -> None:
        async with aclosing(queue.follow(job)) as statuses:
            await anext(statuses)
            assert len(followers) == 1
        assert followers == []
        waiting = asyncio.ensure_future(_all(queue, job))
        while not followers:
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert followers == []

    result_of(leave())


async def _all(queue: JobQueue, job: str) -> list[Status]:
    return [status async for status in queue.follow(job)]


def test_a_follower_whose_loop_is_gone_harms_nobody(queue: JobQueue, inputs: GenerationRequest):
    job = queue.submit(inputs)
    loop = asyncio.new_event_loop()
    statuses = queue.follow(job)
    with ThreadPoolExecutor(1) as thread:
        thread.submit(loop.run_until_complete, anext(statuses)).result()
    loop.close()
    assert queue.cancel(job).state == "cancelled"
    assert queue._jobs[job].followers == []


def test_the_log_tells_what_happens_without_the_key(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker], caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO, logger="pipeline")
    job = queue.submit(inputs)
    start(queue, Script())
    follow(queue, job)
    queue.cancel(queue.submit(inputs))
    lines = [record.getMessage() for record in caplog.records if job[:8] in record.getMessage()]
    words = ["submitted", "started", "clip 1 of 3", "clip 2 of 3", "clip 3 of 3", "finished"]
    assert len(lines) == len(words)
    for line, word in zip(lines, words, strict=True):
        assert word in line
    assert job not in caplog.text
