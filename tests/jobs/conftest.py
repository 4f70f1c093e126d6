"""Fixtures: a queue on a fresh folder, a request with real inputs, and workers that end with the test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.jobs.queue import JobQueue
from pipeline.jobs.worker import Worker
from pipeline.request import GenerationRequest

from .scripted import Script, write_inputs


@pytest.fixture
def inputs(tmp_path: Path) -> GenerationRequest:
    return write_inputs(tmp_path / "inputs")


@pytest.fixture
def open_queue(tmp_path: Path) -> Callable[..., JobQueue]:
    """Opens the same folder of jobs each time, as a start of the program does."""

    def open_queue(
        max_queue: int = 20, max_audio_seconds: float = 10, keep_results_days: float = 7, kind: type = JobQueue
    ) -> JobQueue:
        return kind(tmp_path / "jobs", max_queue, max_audio_seconds, keep_results_days)

    return open_queue


@pytest.fixture
def queue(open_queue: Callable[..., JobQueue]) -> JobQueue:
    return open_queue()


@pytest.fixture
def start() -> Iterator[Callable[..., Worker]]:
    """Starts a worker on a queue with a script, or with a `prepare` of one's own."""
    workers = []

    def start(queue: JobQueue, script: Script, prepare: Callable | None = None, kind: type = Worker) -> Worker:
        workers.append(kind(queue, prepare or script.prepare))
        workers[-1].start()
        return workers[-1]

    yield start
    for worker in workers:
        worker.stop(timeout_s=30)
