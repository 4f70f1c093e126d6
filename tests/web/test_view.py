"""What a browser is shown."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.events import ModelState
from pipeline.jobs.pace import Pace
from pipeline.jobs.queue import JobQueue
from pipeline.jobs.worker import Worker
from pipeline.request import GenerationRequest
from pipeline.web.page import Turns
from pipeline.web.studio import Studio
from pipeline.web.view import (
    BUSY_SECONDS,
    IDLE_SECONDS,
    REMEMBERED_JOBS,
    SLOW_SECONDS,
    KnownJob,
    known_jobs,
    look,
)

from .scripted import ENTRY, PacedModel, write_portrait, write_voice


@pytest.mark.parametrize(
    "stored",
    [None, "x", 5, {}, [None, 5, "x", {}, {"job": 5, "at": 1}]]
    + [[{"job": "a", "at": at}] for at in ("b", None, -1, 10**400, float("nan"), float("inf"))],
)
def test_rubbish_in_the_browsers_storage_is_passed_over(stored: Any) -> None:
    assert known_jobs(stored) == []


def test_a_browser_remembers_its_newest_jobs() -> None:
    stored = [{"job": str(number), "at": number} for number in range(REMEMBERED_JOBS + 5)]

    assert known_jobs(stored)[0] == KnownJob("0", 0.0)
    assert len(known_jobs(stored)) == REMEMBERED_JOBS


def test_the_page_looks_less_often_where_steps_take_long(tmp_path: Path) -> None:
    queue = JobQueue(tmp_path / "jobs", 20, 20, 7)
    studio = Studio(queue, Worker(queue, PacedModel().prepare), ENTRY)
    inputs = {"portrait": write_portrait(tmp_path / "a.png"), "audio": write_voice(tmp_path / "a.wav", 1)}
    known = [KnownJob(queue.submit(GenerationRequest.parse({**ENTRY.defaults, **inputs})), 0.0)]
    studio.worker.model_state = ModelState("loading", "script")
    assert look(studio, known, None).next_look_s == BUSY_SECONDS
    studio.worker.model_state = ModelState("ready", "script")
    assert look(studio, [], None).next_look_s == IDLE_SECONDS
    job = queue.take(lambda: False)
    for step_s, expected in ((0.0, BUSY_SECONDS), (0.2, BUSY_SECONDS), (4.0, 2.0), (100.0, SLOW_SECONDS)):
        job.pace = Pace(step_s=step_s)
        assert look(studio, known, None).next_look_s == expected


def test_only_the_answer_to_the_last_question_counts_whatever_overtook_it() -> None:
    turns = Turns()
    turns.note(5.0)
    turns.note(3.0)
    assert [turns.is_last(asked) for asked in (3.0, 5.0, 6.0)] == [False, True, True]
