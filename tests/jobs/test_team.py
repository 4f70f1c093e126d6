"""Several workers on one queue."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ModelUnavailable
from pipeline.events import ClipReady, Event, Finished, ModelState, Started
from pipeline.jobs.folder import JobFolder, read_job
from pipeline.jobs.queue import TRIES_IN_COMPANY, Job, JobQueue
from pipeline.jobs.team import Team
from pipeline.jobs.worker import Prepare
from pipeline.media.planning import plan_request
from pipeline.request import GenerationRequest

from .scripted import DRAWN_SEED, Gate, Script, at_step, decoded, follow, write_inputs
from .test_restart import kill_within_clip_2
from .test_worker import Watched


@pytest.fixture
def start_team() -> Iterator[Callable[..., Team]]:
    """Starts a team on a queue, with a worker for each script, or for each `prepare`."""
    teams = []

    def start_team(queue: JobQueue, *prepares: Script | Prepare) -> Team:
        teams.append(Team(queue, [each.prepare if isinstance(each, Script) else each for each in prepares]))
        teams[-1].workers = [Watched(queue, worker.prepare) for worker in teams[-1].workers]
        teams[-1].start()
        return teams[-1]

    yield start_team
    for team in teams:
        team.stop(timeout_s=30)


def seeded(inputs: GenerationRequest, seed: int) -> GenerationRequest:
    return inputs.model_copy(update={"seed": seed})


def states(queue: JobQueue) -> list[str]:
    return [status.state for status in queue.all()]


def test_two_jobs_are_worked_on_at_once_and_a_third_waits(
    queue: JobQueue, inputs: GenerationRequest, start_team: Callable[..., Team]
):
    gates = Gate(at_step(1, 2)), Gate(at_step(1, 2))
    jobs = [queue.submit(seeded(inputs, seed)) for seed in (1, 2, 3)]
    start_team(queue, *map(Script, gates))
    for gate in gates:  # each holds a model in the middle of a job
        assert gate.reached.wait(30)
    assert states(queue) == ["running", "running", "queued"]
    assert [queue.status(job).position for job in jobs] == [0, 0, 1]
    assert queue.status(jobs[2]).message == "Next in line."
    gates[1].opened.set()
    assert follow(queue, jobs[2])[-1].state == "finished"  # by the worker whose gate is open
    assert states(queue).count("running") == 1
    gates[0].opened.set()
    for job in jobs:
        assert follow(queue, job)[-1].state == "finished"
    videos = [decoded(queue.video(job)) for job in jobs]
    assert {len(video) for video in videos} == {20}
    assert not np.array_equal(videos[0], videos[1])


def test_every_job_is_taken_once_whoever_is_fastest(queue: JobQueue, inputs: GenerationRequest):
    jobs = [queue.submit(inputs) for _ in range(12)]
    ready, taken, end = threading.Barrier(4), [], threading.Event()

    def work() -> None:
        ready.wait(30)
        while (job := queue.take(end.is_set)) is not None:
            taken.append(job.id)
            queue.record(job, Finished(job.folder.result))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for job in jobs:
        assert follow(queue, job)[-1].state == "finished"
    end.set()
    queue.wake()
    for thread in threads:
        thread.join(30)
    assert sorted(taken) == sorted(jobs)


def test_many_jobs_are_each_made_once_and_none_is_left(
    queue: JobQueue, tmp_path: Path, start_team: Callable[..., Team]
):
    short = write_inputs(tmp_path / "short", seconds=0.3)
    scripts = [Script() for _ in range(3)]
    jobs = [queue.submit(seeded(short, seed)) for seed in range(6)]
    start_team(queue, *scripts)
    for job in jobs:
        assert follow(queue, job)[-1].state == "finished"
    assert sorted(clip for script in scripts for clip in script.resumed) == [0] * len(jobs)
    for seed, job in enumerate(jobs):
        starts = [line.event for line in read_job(queue.folder / job).lines if isinstance(line.event, Started)]
        assert [start.seed for start in starts] == [seed]


def test_cancelling_one_leaves_the_other(queue: JobQueue, inputs: GenerationRequest, start_team: Callable[..., Team]):
    gates = Gate(at_step(2, 1)), Gate(at_step(2, 1))
    jobs = [queue.submit(inputs) for _ in gates]
    start_team(queue, *map(Script, gates))
    for gate in gates:
        assert gate.reached.wait(30)
    queue.cancel(jobs[0])
    assert [queue.status(job).stopping for job in jobs] == [True, False]
    for gate in gates:
        gate.opened.set()
    assert [follow(queue, job)[-1].state for job in jobs] == ["cancelled", "finished"]
    assert [len(decoded(queue.video(job))) for job in jobs] == [5, 20]


def test_what_goes_wrong_in_one_job_spares_the_one_beside_it(
    queue: JobQueue, inputs: GenerationRequest, start_team: Callable[..., Team]
):
    meeting = threading.Barrier(2)

    def meet(event: Event) -> None:
        if at_step(1, 2)(event):
            meeting.wait(30)

    def meet_and_fail(event: Event) -> None:
        meet(event)
        if at_step(1, 3)(event):
            raise MemoryError

    jobs = [queue.submit(inputs) for _ in range(2)]
    start_team(queue, Script(meet), Script(meet_and_fail))
    assert sorted(follow(queue, job)[-1].state for job in jobs) == ["failed", "finished"]


def test_a_kill_interrupts_both_and_the_next_start_goes_on_with_both(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest, start_team: Callable[..., Team]
):
    queue = open_queue()
    jobs = [queue.submit(seeded(inputs, seed)) for seed in (1, 2, 3)]
    kill_within_clip_2(queue.folder, workers=2)
    queue, gates = open_queue(), (Gate(at_step(2, 1)), Gate(at_step(2, 1)))
    assert [queue.status(job).position for job in jobs] == [1, 2, 3]
    assert [queue.status(job).clip for job in jobs] == [1, 1, 0]
    scripts = [Script(gate) for gate in gates]
    start_team(queue, *scripts)
    for gate in gates:
        assert gate.reached.wait(30)
    assert states(queue) == ["running", "running", "queued"]
    for gate in gates:
        gate.opened.set()
    for job in jobs:
        assert follow(queue, job)[-1].state == "finished"
    assert sorted(clip for script in scripts for clip in script.resumed) == [0, 1, 1]
    fresh = JobQueue(queue.folder.with_name("unbroken"), 20, 10, 7)
    unbroken = fresh.submit(seeded(inputs, 2))
    start_team(fresh, Script())
    follow(fresh, unbroken)
    assert np.array_equal(decoded(queue.video(jobs[1])), decoded(fresh.video(unbroken)))


def test_a_stop_ends_all_workers_after_their_steps_and_no_try_was_a_failed_one(
    queue: JobQueue, inputs: GenerationRequest, start_team: Callable[..., Team]
):
    gates = Gate(at_step(2, 1)), Gate(at_step(2, 1))
    jobs = [queue.submit(inputs) for _ in gates]
    team = start_team(queue, *map(Script, gates))
    for gate in gates:
        assert gate.reached.wait(30)
    team.stop(timeout_s=0)
    for gate in gates:
        gate.opened.set()
    team.stop(timeout_s=30)
    assert not any(worker._thread.is_alive() for worker in team.workers)
    assert sorted(queue.status(job).position for job in jobs) == [1, 2]
    assert [read_job(queue.folder / job).tries for job in jobs] == [0, 0]


class Taker:
    """A thread that takes a job; once it has `looked`, it has one if there was one to be had."""

    def __init__(self, queue: JobQueue) -> None:
        self.looked, self.job = threading.Event(), None
        self._queue = queue
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()
        assert self.looked.wait(30)
        queue.all()  # waits for the look's end

    def _take(self) -> None:
        self.job = self._queue.take(self._noted)

    def _noted(self) -> bool:
        self.looked.set()
        return False

    def taken(self) -> Job:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.job


@pytest.fixture
def doubtful(open_queue: Callable[..., JobQueue], inputs: GenerationRequest) -> tuple[JobQueue, list[str]]:
    """A queue of two jobs, the first of which was begun in vain as often as a job may be in company."""
    queue = open_queue()
    jobs = [queue.submit(inputs) for _ in range(2)]
    plan = plan_request(inputs, 10).plan
    for _ in range(TRIES_IN_COMPANY):
        JobFolder(queue.folder / jobs[0]).journal.append(Started(plan, DRAWN_SEED), 0.0)
    return open_queue(), jobs


@pytest.mark.parametrize("event", ["a clip", "its end"])
def test_a_job_that_may_have_taken_the_program_down_is_alone_until_it_has_done_a_clip(
    doubtful: tuple[JobQueue, list[str]], event: str
):
    queue, (first, second) = doubtful
    job = queue.take(lambda: False)
    assert job.id == first
    other = Taker(queue)
    assert queue.status(second).state == "queued"
    result = job.folder.result
    queue.record(job, ClipReady(1, 3, result, 5) if event == "a clip" else Finished(result))
    assert other.taken().id == second


def test_it_waits_for_those_who_work_and_nobody_overtakes_it(doubtful: tuple[JobQueue, list[str]]):
    queue, (first, second) = doubtful
    queue._waiting.reverse()
    job = queue.take(lambda: False)
    assert job.id == second
    other = Taker(queue)
    assert queue.status(first).state == "queued"
    queue.record(job, Finished(job.folder.result))
    assert other.taken().id == first


def test_jobs_in_company_are_not_held_up(open_queue: Callable[..., JobQueue], inputs: GenerationRequest):
    queue = open_queue()
    jobs = [queue.submit(inputs) for _ in range(2)]
    assert [queue.take(lambda: False).id for _ in jobs] == jobs


def test_the_first_fetches_the_model_alone_and_the_others_load_in_turn(
    queue: JobQueue, inputs: GenerationRequest, start_team: Callable[..., Team]
):
    told, may_load, all_ready = [], threading.Event(), threading.Barrier(4)

    def prepare_as(number: int) -> Prepare:
        def prepare(report: Callable[[ModelState], None]) -> Script:
            told.append(f"{number} begins")
            if number == 0:
                report(ModelState("asking", "script", bytes_total=100))
                report(ModelState("downloading", "script", 50, 100))
                assert may_load.wait(30)
            report(ModelState("loading", "script", message=f"on card {number}"))
            told.append(f"{number} ends")
            return Script(lambda event: all_ready.wait(30) if at_step(1, 1)(event) else None)

        return prepare

    team = start_team(queue, *map(prepare_as, range(3)))
    team.workers[0].wait_for("asking")
    assert team.model_state.state == "asking"
    team.go_on()
    team.workers[0].wait_for("downloading")
    assert told == ["0 begins"]
    may_load.set()
    for _ in range(3):
        queue.submit(inputs)
    all_ready.wait(30)  # three jobs are within their first step
    assert told[:2] == ["0 begins", "0 ends"]
    assert sorted(told[2:4]) in (["1 begins", "1 ends"], ["2 begins", "2 ends"])
    assert team.model_state == ModelState("ready", "script", message="on card 0; 3 of 3 workers are ready")


def test_the_team_works_without_one_that_has_no_model_and_says_so(
    queue: JobQueue, inputs: GenerationRequest, start_team: Callable[..., Team]
):
    errors = [ModelUnavailable("There is not enough memory.")]

    def prepare(report: Callable[[ModelState], None]) -> Script:
        report(ModelState("loading", "script"))
        for error in errors:
            raise error
        return Script()

    team = start_team(queue, Script(), prepare)
    team.workers[0].wait_for("ready")
    team.workers[1].wait_for("failed")
    state = team.model_state
    assert (state.state, state.model) == ("ready", "script")
    assert state.message == "1 of 2 workers are ready; worker 2: There is not enough memory."
    assert follow(queue, queue.submit(inputs))[-1].state == "finished"
    errors.clear()
    team.go_on()
    team.workers[1].wait_for("ready")
    assert team.model_state.message == "2 of 2 workers are ready"


@pytest.mark.parametrize("failing", [False, True], ids=["while it arrives", "after it failed"])
def test_a_stop_before_there_is_a_model_ends_all_and_the_others_do_not_try(
    queue: JobQueue, start_team: Callable[..., Team], failing: bool
):
    others = []

    def prepare(report: Callable[[ModelState], None]) -> Script:
        if failing:
            raise ModelUnavailable("The network is down.")
        while True:
            report(ModelState("downloading", "script"))

    def prepare_other(report: Callable[[ModelState], None]) -> Script:
        others.append(None)
        return Script()

    team = start_team(queue, prepare, prepare_other)
    team.workers[0].wait_for("failed" if failing else "downloading")
    team.stop(timeout_s=30)
    assert not any(worker._thread.is_alive() for worker in team.workers)
    assert others == []
