"""Video out: clips, joined to the frame, with their sound to the sample, and nothing half-written."""

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import DiskFull, InvalidRequest
from pipeline.media.ffmpeg import FfmpegFailed
from pipeline.media.video import join_clips, read_note_from, write_clip

from .samples import ffmpeg, frames_of, noise, numbered, numbers, packet_times, sound_of, streams_of, write_movie
from .samples import write_sound as write_audio

LENGTHS = (77, 80, 42)
FRAMES = sum(LENGTHS)
SECONDS = FRAMES / 16
SETTINGS = {"prompt": "a 'quoted' = ; # \\ text\nin 中文", "seed": 7, "guidance": 4.5, "max_clips": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an awkward name, three clips and a voice that is longer than they are."""
    folder = tmp_path_factory.mktemp("video") / 'it\'s a "job" 100%d ü'
    folder.mkdir()
    for number, first in enumerate(np.cumsum([0, *LENGTHS[:-1]])):
        write_clip(numbered(LENGTHS[number], int(first)), folder / f"clip-{number}.mp4")
    smooth = np.apply_along_axis(np.convolve, 0, noise(SECONDS + 2, 44_100, 2), np.full(8, 1 / 4), "same")
    write_audio(folder / "voice.wav", smooth, 44_100)
    return folder


@pytest.fixture(scope="module")
def clips(folder: Path) -> list[Path]:
    return [folder / f"clip-{number}.mp4" for number in range(len(LENGTHS))]


@pytest.fixture(scope="module")
def result(folder: Path, clips: list[Path]) -> Path:
    join_clips(clips, folder / "voice.wav", 0.5, SECONDS, folder / "result.mp4", SETTINGS)
    return folder / "result.mp4"


def test_a_clip_is_h264_yuv420p_at_16_a_second_and_says_how_its_colours_are_meant(clips: list[Path]) -> None:
    told = streams_of(clips[0])
    assert "Video: h264" in told
    assert "yuv420p(tv, bt709," in told
    assert "96x64" in told
    assert "16 fps" in told


@pytest.mark.parametrize("colour", [(128, 128, 128), (255, 0, 0), (0, 0, 255), (0, 255, 0), (200, 100, 50)])
def test_colours_come_back(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    frames = np.broadcast_to(np.array(colour, np.uint8), (3, 64, 96, 3))
    write_clip(frames, tmp_path / "clip.mp4")
    shown = frames_of(tmp_path / "clip.mp4")
    assert len(shown) == 3
    assert np.abs(shown.astype(int) - frames).max() <= 3


def test_detail_comes_back_nearly_whole(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:128, :192]
    grey = 128 + 60 * np.sin(rows / 3) + 60 * np.sin(columns / 4)
    frames = np.repeat(np.roll(grey, 3, 1)[None, ..., None], 3, -1).astype(np.uint8).repeat(8, 0)
    write_clip(frames, tmp_path / "clip.mp4")
    error = frames_of(tmp_path / "clip.mp4", 128, 192).astype(float) - frames
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 40  # dB


def test_the_same_frames_give_the_same_video(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (20, 64, 96, 3), np.uint8)
    for name in ("one.mp4", "two.mp4"):
        write_clip(frames, tmp_path / name)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()


def test_the_joined_frames_are_exactly_the_clips_frames(clips: list[Path], result: Path) -> None:
    joined = frames_of(result)
    assert numbers(joined) == list(range(FRAMES))
    assert np.array_equal(joined, np.concatenate([frames_of(clip) for clip in clips]))


def test_every_joined_frame_is_shown_at_its_sixteenth(result: Path) -> None:
    assert packet_times(result) == [(i / 16, i / 16) for i in range(FRAMES)]  # none waits for a later one


def test_the_sound_is_the_chosen_part_to_the_sample(folder: Path, result: Path) -> None:
    source, sound = sound_of(folder / "voice.wav", 2), sound_of(result, 2)
    assert abs(len(sound) - SECONDS * 44_100) <= 1
    begin = round(0.5 * 44_100)
    agreement = {shift: _agreement(source[begin + shift :], sound) for shift in range(-3, 4)}
    assert max(agreement, key=agreement.get) == 0
    assert agreement[0] > 0.9


def _agreement(source: np.ndarray, sound: np.ndarray) -> float:
    length = 5 * 44_100
    return float(np.corrcoef(source[:length, 0], sound[:length, 0])[0, 1])


def test_the_result_has_aac_of_the_sources_rate_and_can_be_played_while_it_loads(result: Path) -> None:
    told, data = streams_of(result), result.read_bytes()
    assert "Audio: aac (LC)" in told
    assert "44100 Hz, stereo" in told
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(
    ("rate", "channels", "carried"),
    [(8_000, 1, "8000 Hz, mono"), (16_000, 2, "16000 Hz, stereo"), (96_000, 6, "48000 Hz, stereo")],
)
def test_sound_and_video_are_equally_long_at_every_rate(
    tmp_path: Path, clips: list[Path], rate: int, channels: int, carried: str
) -> None:
    voice = write_audio(tmp_path / "voice.wav", noise(6, rate, channels), rate)
    join_clips(clips[:1], voice, 0.25, LENGTHS[0] / 16, tmp_path / "result.mp4", {})
    assert carried in streams_of(tmp_path / "result.mp4")
    carried_rate, carried_channels = min(rate, 48_000), min(channels, 2)
    assert len(sound_of(tmp_path / "result.mp4", carried_channels)) == pytest.approx(
        LENGTHS[0] / 16 * carried_rate, abs=2
    )
    assert len(frames_of(tmp_path / "result.mp4")) == LENGTHS[0]


def test_where_the_sound_ends_early_silence_follows(tmp_path: Path, clips: list[Path]) -> None:
    voice = write_audio(tmp_path / "voice.mp3", noise(3, 48_000), 48_000)
    join_clips(clips[:1], voice, 1.0, LENGTHS[0] / 16, tmp_path / "result.mp4", {})
    sound = sound_of(tmp_path / "result.mp4", 1)
    assert len(sound) == LENGTHS[0] * 3_000
    assert np.abs(sound[: 48_000 * 19 // 10]).max() > 0.1
    assert np.abs(sound[48_000 * 21 // 10 :]).max() < 0.001


def test_the_settings_can_be_read_back(result: Path) -> None:
    assert read_note_from(result)["settings"] == SETTINGS


def test_long_settings_can_be_read_back(tmp_path: Path, folder: Path, clips: list[Path]) -> None:
    settings = {"prompt": "画" * 4000, "negative_prompt": "\ud800\0\r\n" * 1000}
    join_clips(clips[:1], folder / "voice.wav", 0, 1, tmp_path / "result.mp4", settings)
    assert read_note_from(tmp_path / "result.mp4")["settings"] == settings


def test_the_result_says_that_ai_made_it(result: Path) -> None:
    told = streams_of(result)
    assert "title           : AI-generated video" in told
    assert "description     : Made by AI" in told


def test_a_partial_video_says_so(tmp_path: Path, folder: Path, clips: list[Path], result: Path) -> None:
    join_clips(clips[:1], folder / "voice.wav", 0, 1, tmp_path / "part.mp4", {}, partial=True)
    assert "title           : AI-generated video (partial)" in streams_of(tmp_path / "part.mp4")
    assert [read_note_from(video)["partial"] for video in (tmp_path / "part.mp4", result)] == [True, False]


def test_nothing_is_taken_over_from_the_sounds_own_tags(tmp_path: Path, clips: list[Path]) -> None:
    tags = ("-metadata", "artist=Secret Person", "-metadata", "comment=secret place")
    voice = write_audio(tmp_path / "voice.m4a", noise(6, 44_100), 44_100, *tags)
    join_clips(clips[:1], voice, 0, LENGTHS[0] / 16, tmp_path / "result.mp4", {})
    assert b"ecret" not in (tmp_path / "result.mp4").read_bytes()


@pytest.mark.parametrize(
    "comment", ["", "plain", "[1, 2]", '{"maker": "talking portrait"}', '{"settings": {}}', "[" * 100_000, "NaN"]
)
def test_other_videos_have_no_settings(tmp_path: Path, comment: str) -> None:
    write_movie(tmp_path / "film.mp4", 3, 16, "-metadata", f"comment={comment}")
    assert read_note_from(tmp_path / "film.mp4") is None


def test_settings_of_what_is_not_a_video_are_refused(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_text("no film")
    with pytest.raises(InvalidRequest, match=r"^video: 'film.mp4' is not an MP4 video that can be read"):
        read_note_from(tmp_path / "film.mp4")
    with pytest.raises(InvalidRequest, match="there is no file"):
        read_note_from(tmp_path / "gone.mp4")


def test_nothing_temporary_remains(folder: Path, result: Path, clips: list[Path]) -> None:
    assert set(folder.iterdir()) == {*clips, result, folder / "voice.wav"}


def fill(folder: Path, name: str) -> None:
    """Let the temporary file of `name` lie on a full device."""
    (folder / f".{name}.part").symlink_to("/dev/full")


def test_a_full_disk_is_noticed_while_a_clip_is_written(tmp_path: Path) -> None:
    fill(tmp_path, "clip.mp4")
    with pytest.raises(DiskFull, match=r"^The disk that holds 'clip.mp4' is full"):
        write_clip(np.random.default_rng(0).integers(0, 256, (80, 256, 256, 3), np.uint8), tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_noticed_when_the_last_bytes_of_a_clip_are_written(tmp_path: Path) -> None:
    fill(tmp_path, "clip.mp4")
    with pytest.raises(DiskFull):
        write_clip(numbered(1), tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_spares_the_video_so_far(tmp_path: Path, folder: Path, clips: list[Path]) -> None:
    join_clips(clips[:1], folder / "voice.wav", 0, LENGTHS[0] / 16, tmp_path / "result.mp4", {"seed": 1})
    fill(tmp_path, "result.mp4")
    with pytest.raises(DiskFull, match=r"'result\.mp4' is full"):
        join_clips(clips, folder / "voice.wav", 0, SECONDS, tmp_path / "result.mp4", {"seed": 2})
    assert list(tmp_path.iterdir()) == [tmp_path / "result.mp4"]
    assert read_note_from(tmp_path / "result.mp4")["settings"] == {"seed": 1}


def test_a_failing_encoder_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(FfmpegFailed, match="not divisible by 2"):
        write_clip(np.zeros((4, 63, 95, 3), np.uint8), tmp_path / "clip.mp4")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".clip.mp4.part").write_bytes(b"half of a clip")
    write_clip(numbered(4), tmp_path / "clip.mp4")
    assert os.listdir(tmp_path) == ["clip.mp4"]
    assert numbers(frames_of(tmp_path / "clip.mp4")) == [0, 1, 2, 3]


def test_sound_that_cannot_be_read_is_told_and_leaves_nothing(tmp_path: Path, clips: list[Path]) -> None:
    (tmp_path / "voice.wav").write_text("no sound")
    with pytest.raises(InvalidRequest, match=r"'voice\.wav' cannot be read as audio"):
        join_clips(clips, tmp_path / "voice.wav", 0, SECONDS, tmp_path / "result.mp4", {})
    assert os.listdir(tmp_path) == ["voice.wav"]


def test_a_clip_that_was_cut_off_is_not_passed_over(tmp_path: Path, folder: Path, clips: list[Path]) -> None:
    (tmp_path / "broken.mp4").write_bytes(clips[1].read_bytes()[:500])
    with pytest.raises(FfmpegFailed, match=r"broken\.mp4"):
        join_clips([clips[0], tmp_path / "broken.mp4"], folder / "voice.wav", 0, 9, tmp_path / "result.mp4", {})
    assert os.listdir(tmp_path) == ["broken.mp4"]


def test_clips_at_the_real_size_join_as_well(tmp_path: Path, folder: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (6, 448 // 8, 832 // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    clips = [tmp_path / "one.mp4", tmp_path / "two.mp4"]
    for clip, part in zip(clips, (frames[:4], frames[4:]), strict=True):
        write_clip(part, clip)
    join_clips(clips, folder / "voice.wav", 0, 6 / 16, tmp_path / "result.mp4", {})
    joined = frames_of(tmp_path / "result.mp4", 448, 832)
    assert np.array_equal(joined, np.concatenate([frames_of(clip, 448, 832) for clip in clips]))
    ffmpeg("-xerror", "-err_detect", "explode", "-i", tmp_path / "result.mp4", "-f", "null", "-")  # and is flawless
