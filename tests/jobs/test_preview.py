"""Previews: for those who look, at every second step, and never in the job's way."""

import io
from collections.abc import Callable

import pytest
from PIL import Image

from pipeline.events import StepDone
from pipeline.jobs import queue as queue_module
from pipeline.jobs.queue import JobQueue
from pipeline.jobs.worker import Worker, preview_of
from pipeline.request import GenerationRequest

from .scripted import Gate, Script, at_step, follow


def test_a_job_that_is_looked_at_draws_every_second_step(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker]
):
    gate = Gate(at_step(2, 3))
    script = Script(gate)
    job = queue.submit(inputs)
    assert queue.look_at(job) is None
    start(queue, script)
    assert gate.reached.wait(30)
    preview = queue.look_at(job)
    assert (preview.clip, preview.step) == (2, 2)
    assert Image.open(io.BytesIO(preview.jpeg)).size == (8, 8)
    follow(queue, job, then=gate.opened.set)
    assert script.drawn == 3  # of nine steps, three to a clip
    assert queue.look_at(job) is None


def test_where_nobody_looks_nothing_is_drawn(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(queue_module, "WATCHED_S", 0.0)
    script, job = Script(), queue.submit(inputs)
    queue.look_at(job)  # long ago
    start(queue, script)
    follow(queue, job)
    assert script.drawn == 0


def test_a_preview_that_fails_is_logged_and_the_job_goes_on(caplog: pytest.LogCaptureFixture):
    def fail() -> None:
        raise RuntimeError("no colours")

    assert preview_of(StepDone(1, 2, 3, fail)) is None
    assert "no colours" in caplog.text


def test_a_thumbnail_shows_what_has_become_of_a_job(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker]
):
    job = queue.submit(inputs)
    assert queue.thumbnail(job) is None
    start(queue, Script())
    follow(queue, job)
    with Image.open(queue.thumbnail(job)) as picture:
        assert (picture.format, picture.size) == ("JPEG", (64, 64))
