"""A disk that fills up."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.errors import DiskFull, InvalidSetting
from pipeline.events import ClipFrames, Started
from pipeline.jobs.queue import JobQueue
from pipeline.jobs.worker import Worker
from pipeline.request import GenerationRequest

from ..store.mounts import small_disk
from .scripted import Gate, Script, at_step, decoded, files_of, follow

DISK_BYTES = 2_000_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real small file system."""
    with small_disk(tmp_path / "disk", DISK_BYTES) as disk:
        yield disk


def fill(disk: Path) -> Path:
    """Write a file that takes all space that is left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"0" * 4096)
        except OSError:
            return ballast


def leave(free: int, ballast: Path) -> None:
    """Make the ballast so many bytes smaller."""
    with ballast.open("r+b") as file:
        file.truncate(ballast.stat().st_size - free)


def test_a_disk_that_fills_up_fails_that_job_keeps_its_clips_and_spares_the_others(
    disk: Path, inputs: GenerationRequest, start: Callable[..., Worker]
):
    queue = JobQueue(disk / "jobs", 20, 10, 7)
    within_first = Gate(lambda event: isinstance(event, ClipFrames) and event.clip == 2)
    within_second = Gate(lambda event: isinstance(event, Started) and event.seed == 2)
    start(queue, Script(lambda event: (within_first(event), within_second(event))))
    first, second = (queue.submit(inputs.model_copy(update={"seed": seed})) for seed in (1, 2))
    assert within_first.reached.wait(30)
    ballast = fill(disk)
    failed = follow(queue, first, then=within_first.opened.set)[-1]
    assert failed.state == "failed"
    assert "full" in failed.message
    assert str(disk) not in failed.message
    assert len(decoded(queue.video(first))) == 5
    assert "motion-0001.npz" not in files_of(queue.folder / first)
    ballast.unlink()
    assert follow(queue, second, then=within_second.opened.set)[-1].state == "finished"
    again = JobQueue(queue.folder, 20, 10, 7)
    assert (again.status(first).state, again.status(first).message) == ("failed", failed.message)
    assert again.status(second).state == "finished"


def test_a_disk_without_room_for_the_memory_of_the_first_clip_leaves_nothing_of_it(
    disk: Path, inputs: GenerationRequest, start: Callable[..., Worker]
):
    queue, gate = JobQueue(disk / "jobs", 20, 10, 7), Gate(at_step(1, 1))
    job = queue.submit(inputs)
    start(queue, Script(gate))
    assert gate.reached.wait(30)
    leave(100_000, fill(disk))
    assert follow(queue, job, then=gate.opened.set)[-1].state == "failed"
    assert queue.video(job) is None
    assert files_of(queue.folder / job) == {"request.json", "events.jsonl"}


def test_a_submission_to_a_full_disk_leaves_nothing_behind(disk: Path, inputs: GenerationRequest):
    queue = JobQueue(disk / "jobs", 20, 10, 7)
    ballast = fill(disk)
    leave(12_000, ballast)  # room for the portrait, not for the sound
    with pytest.raises(DiskFull):
        queue.submit(inputs)
    assert files_of(queue.folder) == set()
    assert queue.all() == []
    ballast.unlink()
    assert queue.status(queue.submit(inputs)).position == 1


def test_a_disk_that_cannot_be_written_to_is_a_wrong_setting(disk: Path):
    (disk / "jobs").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(InvalidSetting, match="cannot be written to"):
        JobQueue(disk / "jobs", 20, 10, 7)


def test_an_end_that_cannot_be_written_down_is_told_all_the_same(
    disk: Path, inputs: GenerationRequest, caplog: pytest.LogCaptureFixture
):
    queue = JobQueue(disk / "jobs", 20, 10, 7)
    job = queue.submit(inputs)
    events = queue.folder / job / "events.jsonl"
    lines = events.read_bytes()
    events.write_bytes(
        lines + b" " * (-len(lines) % 4096 - 1) + b"\n"
    )  # to the end of its page: the next line needs one
    for number, copy in enumerate((queue.request(job).portrait, queue.request(job).audio)):
        os.link(copy, disk / f"second name {number}")  # so that the removal of the copies makes no room
    fill(disk)
    assert queue.cancel(job).state == "cancelled"
    assert "could not be written down" in caplog.text
