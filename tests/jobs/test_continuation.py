"""A finished video and more audio give a longer one."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InvalidRequest, QueueFull
from pipeline.jobs.journal import Maker
from pipeline.jobs.queue import JobQueue
from pipeline.jobs.worker import Worker
from pipeline.media.audio import measure_audio, read_speech
from pipeline.media.video import read_note_from
from pipeline.request import GenerationRequest

from .scripted import DRAWN_SEED, Gate, Script, at_step, decoded, follow, write_inputs


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """1.2 s."""
    return write_inputs(tmp_path / "more").audio


def finish(queue: JobQueue, job: str) -> None:
    assert follow(queue, job)[-1].state == "finished"


def test_a_longer_video_keeps_the_clips_before_the_last_and_goes_on_from_their_memory(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker], more: Path
):
    script = Script()
    start(queue, script)
    first = queue.submit(inputs)
    finish(queue, first)

    longer = queue.continue_with(first, more)

    finish(queue, longer)
    assert script.resumed == [0, 2]  # after the second of three clips
    frames, before = decoded(queue.video(longer)), decoded(queue.video(first))
    assert (len(before), len(frames)) == (20, 40)  # 20 / 16 s and 1.2 s
    assert np.array_equal(frames[:13], before[:13])  # two clips
    assert np.abs(frames[13:20].astype(int) - before[13:]).mean() < 3  # made again, and encoded with what follows
    assert queue.status(longer).seed == DRAWN_SEED
    sound = read_speech(queue.request(longer).audio)
    assert np.abs(sound[:19200] - read_speech(inputs.audio)).max() < 1e-4
    assert np.abs(sound[20000:39200] - read_speech(more)).max() < 1e-4


def test_a_continuation_that_is_cancelled_has_the_clips_it_began_with_as_a_video(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker], more: Path
):
    start(queue, script := Script())
    first = queue_finished(queue, inputs)
    script.before = gate = Gate(at_step(1, 1))
    queue.submit(inputs)
    assert gate.reached.wait(30)

    longer = queue.continue_with(first, more)

    assert len(decoded(queue.video(longer))) == 13
    assert queue.cancel(longer).state == "cancelled"
    assert np.array_equal(decoded(queue.video(longer)), decoded(queue.video(first))[:13])
    assert read_note_from(queue.video(longer))["partial"]
    gate.opened.set()


def test_a_longer_video_can_itself_be_continued_after_a_restart(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest, start: Callable[..., Worker], more: Path
):
    queue = open_queue()
    worker = start(queue, Script())
    job = queue.continue_with(queue_finished(queue, inputs), more)
    finish(queue, job)
    worker.stop(30)
    queue = open_queue()
    start(queue, script := Script())
    assert len(decoded(queue.video(longer_of(queue, job, more)))) == 60
    assert script.resumed == [5]


def queue_finished(queue: JobQueue, inputs: GenerationRequest) -> str:
    job = queue.submit(inputs)
    finish(queue, job)
    return job


def longer_of(queue: JobQueue, job: str, more: Path) -> str:
    longer = queue.continue_with(job, more)
    finish(queue, longer)
    return longer


def test_a_video_of_one_clip_is_made_again_with_its_seed(
    queue: JobQueue, tmp_path: Path, start: Callable[..., Worker], more: Path
):
    start(queue, script := Script())
    short = queue_finished(queue, write_inputs(tmp_path / "short", seconds=0.3))

    longer = longer_of(queue, short, more)

    assert script.resumed == [0, 0]
    assert queue.request(longer).seed == DRAWN_SEED
    assert len(decoded(queue.video(longer))) == 25


def test_only_the_chosen_part_of_the_first_audio_is_kept(
    queue: JobQueue, inputs: GenerationRequest, start: Callable[..., Worker], more: Path
):
    start(queue, Script())
    job = queue_finished(queue, inputs.model_copy(update={"audio_start": 0.5, "audio_duration": 0.5, "max_clips": 1}))

    longer = longer_of(queue, job, more)

    assert measure_audio(queue.request(longer).audio).seconds == pytest.approx(5 / 16 + 1.2)


def test_where_no_more_jobs_may_wait_the_new_audio_is_not_even_read(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest, start: Callable[..., Worker]
):
    queue = open_queue(max_queue=1)
    start(queue, Script())
    job = queue_finished(queue, inputs)
    queue.max_queue = 0
    with pytest.raises(QueueFull):
        queue.continue_with(job, inputs.portrait)  # which is no audio


def test_audio_that_is_longer_than_a_video_may_be_is_refused_for_that_alone(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest, start: Callable[..., Worker], tmp_path: Path
):
    queue = open_queue(max_audio_seconds=2)
    start(queue, Script())
    job = queue_finished(queue, inputs)
    with pytest.raises(InvalidRequest, match=r"has 1\.2 s and the new audio more than 2 s; together at most 2 s"):
        queue.continue_with(job, write_inputs(tmp_path / "long", seconds=2.5).audio)


def test_what_cannot_be_continued_is_told_in_a_sentence(
    open_queue: Callable[..., JobQueue], inputs: GenerationRequest, start: Callable[..., Worker], more: Path
):
    queue = open_queue(max_audio_seconds=2)
    gate = Gate(at_step(1, 1))
    start(queue, Script(gate))
    job = queue.submit(inputs)
    with pytest.raises(InvalidRequest, match="Only a finished video can be continued, and this job is"):
        queue.continue_with(job, more)
    gate.opened.set()
    finish(queue, job)
    with pytest.raises(InvalidRequest, match=r"has 1\.2 s and the new audio 1\.2 s; together at most 2 s"):
        queue.continue_with(job, more)
    with pytest.raises(InvalidRequest, match="cannot be read as audio"):
        queue.continue_with(job, inputs.portrait)
    queue.makers = frozenset()
    with pytest.raises(InvalidRequest, match="The model is not ready yet"):
        queue.continue_with(job, more)
    queue.makers = {Maker("another model")}
    with pytest.raises(InvalidRequest, match="another model"):
        queue.continue_with(job, more)
    assert len(queue.all()) == 1
