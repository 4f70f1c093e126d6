"""One job on disk."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.events import Cancelled, ClipReady, Failed, Finished, MotionMemory, StageChanged, Started
from pipeline.jobs.folder import StoredJob, create_job, read_job, stored_jobs, sweep_leftovers
from pipeline.jobs.journal import StopAsked
from pipeline.request import GenerationRequest, plan_clips

from .scripted import files_of


@pytest.fixture
def stored(tmp_path: Path, inputs: GenerationRequest) -> StoredJob:
    (tmp_path / "jobs").mkdir()
    return create_job(tmp_path / "jobs", inputs, plan_clips(inputs, (80, 80), 1.2))


def test_a_job_keeps_copies_by_fixed_names_and_nothing_of_the_users_paths(stored: StoredJob, tmp_path: Path):
    assert files_of(stored.folder.path) == {"request.json", "events.jsonl", "portrait.png", "audio.wav"}
    text = (stored.folder.path / "request.json").read_text() + (stored.folder.path / "events.jsonl").read_text()
    assert "my face" not in text
    assert str(tmp_path) not in text
    assert stored.request.portrait.read_bytes() == (tmp_path / "inputs" / "my face.PNG").read_bytes()


def test_an_ending_that_is_no_plain_one_is_dropped(tmp_path: Path, inputs: GenerationRequest):
    odd = inputs.audio.rename(inputs.audio.with_name("voice.w$av; rm"))
    pose = odd.with_name("POSE.MP4")
    pose.write_bytes(b"0")
    request = inputs.model_copy(update={"audio": odd, "pose_video": pose})
    stored = create_job(tmp_path, request, plan_clips(inputs, (80, 80), 1.2))
    assert {"audio", "pose.mp4", "portrait.png"} <= files_of(stored.folder.path)


def test_an_input_that_cannot_be_copied_leaves_nothing_behind(tmp_path: Path, inputs: GenerationRequest):
    (tmp_path / "jobs").mkdir()
    inputs.audio.unlink()
    with pytest.raises(FileNotFoundError):
        create_job(tmp_path / "jobs", inputs, plan_clips(inputs, (80, 80), 1.2))
    assert files_of(tmp_path / "jobs") == set()


def test_a_job_that_was_moved_finds_its_inputs(stored: StoredJob, tmp_path: Path):
    moved = stored.folder.path.rename(tmp_path / ("0" * 32))
    assert read_job(moved).request.audio == moved / "audio.wav"


def test_what_happened_is_read_as_it_was_written(stored: StoredJob):
    plan = plan_clips(stored.request, (80, 80), 1.2)
    result = stored.folder.result
    events = [Started(plan, 5), StageChanged("text", 0), ClipReady(1, 3, result, 5), Failed("Größe."), Cancelled()]
    for second, event in enumerate([*events, Finished(result)]):
        stored.folder.journal.append(event, second)
    job = read_job(stored.folder.path)
    assert [line.event for line in job.lines] == [*events, Finished(result)]
    assert [line.elapsed_s for line in job.lines] == [0, 1, 2, 3, 4, 5]
    assert (job.ready, job.status.clips, job.status.seed) == (1, 3, 5)


def test_tries_at_a_clip_are_counted_from_the_last_one_that_is_ready(stored: StoredJob):
    plan = plan_clips(stored.request, (80, 80), 1.2)
    started, ready = Started(plan, 5), ClipReady(1, 3, stored.folder.result, 5)
    for event in (started, started, ready, StageChanged("denoise", 2), started):
        stored.folder.journal.append(event, 0)
    assert read_job(stored.folder.path).tries == 1
    for event in (StopAsked(), started, started):
        stored.folder.journal.append(event, 0)
    assert read_job(stored.folder.path).tries == 2


def test_a_torn_last_line_is_passed_over_and_then_written_over(stored: StoredJob):
    events = stored.folder.path / "events.jsonl"
    stored.folder.journal.append(StageChanged("text", 0), 1)
    whole = events.read_bytes()
    events.write_bytes(whole + b'{"at": 12.5, "event": "clip_ready", "clip": 1, "clips": 3, "frames": 17, "and": "so o')
    assert [line.event for line in read_job(stored.folder.path).lines] == [StageChanged("text", 0)]
    stored.folder.journal.append(Cancelled(), 2)
    assert events.read_bytes().startswith(whole)
    assert [line.event for line in read_job(stored.folder.path).lines] == [StageChanged("text", 0), Cancelled()]


def test_motion_comes_back_bit_for_bit(stored: StoredJob):
    random = np.random.default_rng(0)
    motion = MotionMemory(*(random.standard_normal(s).astype(np.float32) for s in ((16, 19, 8, 8), (3, 0, 64, 64))))
    stored.folder.save_motion(1, motion)
    stored.folder.clips(1)[0].write_bytes(b"a clip")
    resume = stored.folder.resume(1)
    assert resume.clip == 1
    for kept, read in ((motion.latents, resume.motion.latents), (motion.frames, resume.motion.frames)):
        assert (read.dtype, read.shape, read.tobytes()) == (np.float32, kept.shape, kept.tobytes())


def test_where_a_file_is_missing_or_broken_a_job_starts_over(stored: StoredJob, caplog: pytest.LogCaptureFixture):
    folder = stored.folder
    assert folder.resume(1) is None
    folder.save_motion(1, MotionMemory(np.zeros(3, np.float32), np.zeros(3, np.float32)))
    assert folder.resume(1) is None  # the clip is missing
    folder.clips(1)[0].touch()
    assert folder.resume(1) is None  # it is empty
    folder.clips(1)[0].write_bytes(b"a clip")
    assert folder.resume(1).clip == 1
    whole = folder.motion(1).read_bytes()
    for broken in (b"", whole[: len(whole) // 2], b"\x80\x04N."):  # the last is a pickle
        folder.motion(1).write_bytes(broken)
        assert folder.resume(1) is None
    assert caplog.text.count("starts over") == 6
    assert folder.path.name not in caplog.text


def test_sweeping_keeps_what_counts(stored: StoredJob):
    folder = stored.folder
    for name in ("clip-0001.mp4", "clip-0002.mp4", ".clip-0002.part", "motion-0001.npz", "motion-0002.npz"):
        (folder.path / name).write_bytes(b"0")
    folder.result.write_bytes(b"0")
    always = {"request.json", "events.jsonl", "portrait.png", "audio.wav"}
    folder.sweep(1, ended=False)
    assert files_of(folder.path) == always | {"clip-0001.mp4", "motion-0001.npz", "result.mp4"}
    (folder.path / "motion-0000.npz").write_bytes(b"0")
    folder.sweep(1, ended=True)
    assert files_of(folder.path) == always | {"clip-0001.mp4", "motion-0000.npz", "result.mp4"}
    (folder.path / "motion-0000.npz").unlink()
    folder.sweep(0, ended=False)
    assert files_of(folder.path) == always
    folder.sweep(0, ended=True)
    assert files_of(folder.path) == {"request.json", "events.jsonl"}


def test_what_is_no_job_is_told_and_passed_over(
    stored: StoredJob, tmp_path: Path, caplog: pytest.LogCaptureFixture, inputs: GenerationRequest
):
    jobs = tmp_path / "jobs"
    (jobs / "lost+found").mkdir()
    (jobs / "notes.txt").write_text("mine")
    for name, file in {"a": "request.json", "b": "events.jsonl"}.items():
        broken = create_job(jobs, inputs, plan_clips(inputs, (80, 80), 1.2)).folder.path.rename(jobs / (name * 32))
        (broken / file).write_text('["no", "job"]\n')
    odd_lines = ("[]", '"started"', "7", "null", '{"at": "yesterday", "elapsed_s": 1, "event": "cancelled"}')
    for number, line in enumerate(odd_lines):
        odd = create_job(jobs, inputs, plan_clips(inputs, (80, 80), 1.2)).folder.path.rename(jobs / f"{number:032}")
        with (odd / "events.jsonl").open("a") as events:
            events.write(line + "\n")
    assert [job.folder for job in stored_jobs(jobs)] == [stored.folder]
    assert caplog.text.count("passed over") == 4 + len(odd_lines)
    assert len(files_of(jobs)) == 5 + len(odd_lines)


def test_jobs_are_read_in_order_of_submission(tmp_path: Path, inputs: GenerationRequest):
    plan = plan_clips(inputs, (80, 80), 1.2)
    made = [create_job(tmp_path / ".", inputs, plan).folder for _ in range(5)]
    assert [job.folder.path.name for job in stored_jobs(tmp_path) if job] == [folder.path.name for folder in made]


def test_an_interrupted_creation_or_removal_is_no_job_and_is_swept(stored: StoredJob, tmp_path: Path):
    jobs = tmp_path / "jobs"
    (jobs / f".new-{'a' * 32}").mkdir()
    stored.folder.path.rename(jobs / f".old-{'b' * 32}")
    assert stored_jobs(jobs) == []
    sweep_leftovers(jobs)
    assert files_of(jobs) == set()
