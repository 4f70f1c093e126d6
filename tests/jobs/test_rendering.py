"""Clips become files."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.events import ClipFrames, ClipReady, Finished, Resume, StageChanged
from pipeline.jobs.folder import JobFolder
from pipeline.jobs.rendering import render
from pipeline.media.video import read_note_from
from pipeline.request import GenerationRequest

from .scripted import DRAWN_SEED, Script, decoded, files_of, first_motion, make_clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "render").mkdir()
    return tmp_path / "render"


def test_each_clip_is_written_and_then_ready_and_the_video_so_far_grows(inputs: GenerationRequest, folder: Path):
    told, lengths = [], []
    for event in render(Script().generate, inputs, folder):
        assert not isinstance(event, ClipFrames)
        if isinstance(event, ClipReady | Finished) or event == StageChanged("encode", 2):
            told.append(event)
        if isinstance(event, ClipReady):
            lengths.append(len(decoded(event.video)))
    result = folder / "result.mp4"
    ready = [ClipReady(1, 3, result, 5), ClipReady(2, 3, result, 13), ClipReady(3, 3, result, 20)]
    assert told == [ready[0], StageChanged("encode", 2), *ready[1:], Finished(result)]
    assert lengths == [5, 13, 20]
    assert files_of(folder) == {"clip-0001.mp4", "clip-0002.mp4", "clip-0003.mp4", "motion-0002.npz", "result.mp4"}


def test_raw_frames_are_handed_over_before_the_cut(inputs: GenerationRequest, folder: Path):
    frames: list[np.ndarray] = []
    events = list(render(Script().generate, inputs, folder, on_frames=frames.append))
    plan = events[0].plan
    motion, expected = first_motion(), []
    for clip in (1, 2, 3):
        made, motion = make_clip(clip, plan, DRAWN_SEED, motion)
        expected.append(made)
    assert [len(clip) for clip in frames] == [5, 8, 8]
    assert np.array_equal(np.concatenate(frames), np.concatenate(expected))


def test_the_older_memory_stays_until_the_newer_clip_was_told(inputs: GenerationRequest, folder: Path):
    events = render(Script().generate, inputs, folder)
    memories = [{n for n in files_of(folder) if "motion" in n} for event in events if isinstance(event, ClipReady)]
    assert memories == [{"motion-0001.npz"}, {"motion-0001.npz", "motion-0002.npz"}, {"motion-0002.npz"}]


def test_going_on_after_a_clip_gives_the_same_video(inputs: GenerationRequest, folder: Path, tmp_path: Path):
    *_, finished = render(Script().generate, inputs, folder)
    (tmp_path / "again").mkdir()
    events = render(Script().generate, inputs, tmp_path / "again")
    assert next(event for event in events if isinstance(event, ClipReady)).clip == 1
    events.close()
    request = inputs.model_copy(update={"seed": DRAWN_SEED})
    resume = JobFolder(tmp_path / "again").resume(1)
    *_, again = render(Script().generate, request, tmp_path / "again", resume)
    assert np.array_equal(decoded(again.video), decoded(finished.video))


def test_the_video_carries_the_settings_and_the_seed_but_no_paths(inputs: GenerationRequest, folder: Path):
    *_, finished = render(Script().generate, inputs, folder)
    settings = read_note_from(finished.video)["settings"]
    assert settings["seed"] == DRAWN_SEED
    assert settings["frames_per_clip"] == 8
    assert not {"portrait", "audio", "pose_video"} & set(settings)
    assert "my face" not in json.dumps(settings)
    assert str(inputs.audio.parent).encode() not in finished.video.read_bytes()


def test_closing_ends_the_generation_at_once(inputs: GenerationRequest, folder: Path):
    script = Script()
    events = render(script.generate, inputs, folder, resume=Resume(0, first_motion()))
    next(events)
    assert not script.closed.is_set()
    events.close()
    assert script.closed.is_set()
    assert files_of(folder) == set()
