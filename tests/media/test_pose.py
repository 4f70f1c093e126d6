"""Movement in: the frame that is shown at i/16 s, whatever the video's own rate is."""

import bisect
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InvalidRequest
from pipeline.media import ffmpeg as ffmpeg_module
from pipeline.media.pose import check_pose_video, read_pose_frames

from .samples import ffmpeg, frame_times, noise, numbers, write_movie, write_sound

COUNT = 300
SMOOTH = ("-c:v", "libx264", "-g", 120, "-bf", 3, "-pix_fmt", "yuv420p")
WEBM = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", 8, "-crf", 10, "-b:v", 0)
UNEVEN = ("-vf", "setpts='(floor(N*N*0.06)+N*20+if(gt(N,200),4000,0))/1000/TB'", "-fps_mode", "passthrough")


def shown_at(times: list[float], i: int) -> int:
    """The frame shown at i/16 s: the last one that began by then."""
    return max(0, bisect.bisect_right(times, i / 16 + 1e-6) - 1)


def refusal(path: Path) -> str:
    with pytest.raises(InvalidRequest) as refused:
        check_pose_video(path)
    sentence = str(refused.value)
    assert sentence.startswith("pose_video: ")
    assert sentence.endswith(".")
    assert str(path.parent) not in sentence
    return sentence


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 numbered frames, 30 a second, with B-frames and distant key frames."""
    return write_movie(tmp_path_factory.mktemp("pose") / "film.mp4", COUNT, 30, *SMOOTH)


def test_of_a_video_at_16_a_second_frame_i_is_frame_i(tmp_path: Path) -> None:
    film = write_movie(tmp_path / "film.mp4", COUNT, 16, *SMOOTH)
    assert numbers(read_pose_frames(film, 0, 80)) == list(range(80))
    assert numbers(read_pose_frames(film, 157, 80)) == list(range(157, 237))
    assert numbers(read_pose_frames(film, 280, 80)) == list(range(280, 300))


@pytest.mark.parametrize("rate", ["5", "24", "25", "30", "30000/1001", "60"])
def test_other_rates_are_sampled_by_time(tmp_path: Path, rate: str) -> None:
    film = write_movie(tmp_path / "film.mp4", COUNT, rate, *SMOOTH)
    times = frame_times(film)
    for first in (0, 37, 70):
        shown = numbers(read_pose_frames(film, first, 40))
        assert shown == [shown_at(times, i) for i in range(first, first + len(shown))]
        assert len(shown) == min(40, math.ceil(COUNT / Fraction(rate) * 16) - first)


@pytest.mark.parametrize(("suffix", "encoding"), [("webm", WEBM), ("mkv", SMOOTH), ("mov", SMOOTH)])
def test_every_container_is_read_from_any_frame_on(tmp_path: Path, suffix: str, encoding: tuple) -> None:
    film = write_movie(tmp_path / f"film.{suffix}", COUNT, 30, *encoding)
    times = frame_times(film)
    for first in (0, 1, 77, 157):
        assert numbers(read_pose_frames(film, first, 3)) == [shown_at(times, i) for i in range(first, first + 3)]


def test_a_variable_rate_is_sampled_by_time(tmp_path: Path) -> None:
    film = write_movie(tmp_path / "film.mp4", COUNT, 100, *UNEVEN, *SMOOTH, "-enc_time_base", "1/1000")
    times = frame_times(film)
    assert max(np.diff(times)) > 3.9  # one frame is shown for four seconds
    for first in (0, 77, 140, 170):
        assert numbers(read_pose_frames(film, first, 8)) == [shown_at(times, i) for i in range(first, first + 8)]


def test_time_begins_where_the_file_begins(tmp_path: Path, film: Path) -> None:
    ffmpeg("-i", film, "-c", "copy", "-output_ts_offset", 7, tmp_path / "late.mkv")
    for first in (0, 77):
        expected = numbers(read_pose_frames(film, first, 8))
        assert numbers(read_pose_frames(tmp_path / "late.mkv", first, 8)) == expected


def test_past_the_end_there_is_nothing(film: Path) -> None:
    assert read_pose_frames(film, 10_000, 8).shape == (0, 0, 0, 3)


def test_the_frames_are_upright(tmp_path: Path, film: Path) -> None:
    ffmpeg("-display_rotation", 90, "-i", film, "-c", "copy", tmp_path / "turned.mp4")
    upright = read_pose_frames(film, 9, 1)
    turned = read_pose_frames(tmp_path / "turned.mp4", 9, 1)
    assert turned.shape == (1, 96, 64, 3)
    assert np.abs(np.rot90(turned[0], -1).astype(int) - upright[0]).max() < 30


def test_colours_come_as_they_are(tmp_path: Path) -> None:
    ffmpeg(
        "-f",
        "lavfi",
        "-i",
        "color=0xC86432:s=64x64:d=1",
        "-vf",
        "format=gbrp",
        "-c:v",
        "libx264rgb",
        tmp_path / "c.mkv",
    )
    assert np.abs(read_pose_frames(tmp_path / "c.mkv", 0, 1).astype(int) - [200, 100, 50]).max() <= 2


def test_large_frames_are_scaled_down_on_the_way_in(tmp_path: Path) -> None:
    ffmpeg("-f", "lavfi", "-i", "testsrc=s=3840x2160:d=0.2", "-preset", "ultrafast", tmp_path / "large.mp4")
    _, height, width, _ = read_pose_frames(tmp_path / "large.mp4", 0, 1).shape
    assert height * width <= 1920 * 1088
    assert width / height == pytest.approx(16 / 9, rel=0.01)


def test_a_good_video_passes_the_check(film: Path) -> None:
    check_pose_video(film)


def test_what_is_not_a_video_is_refused(tmp_path: Path, film: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nother.mp4\n#EXT-X-ENDLIST\n")
    assert "holds no video that can be read; give an MP4" in refusal(path)
    write_sound(tmp_path / "voice.m4a", noise(1.0, 16_000), 16_000).rename(path)
    assert "holds no video that can be read" in refusal(path)
    path.write_bytes(film.read_bytes()[:3000])  # its index is at the end
    assert "holds no video that can be read" in refusal(path)
    path.write_bytes(b"")
    assert "is empty" in refusal(path)
    path.unlink()
    assert "there is no file 'film.mp4'" in refusal(path)


def test_a_good_video_that_takes_too_long_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = ("-f", "lavfi", "-i", "testsrc=s=1280x720:d=5:r=30", "-preset", "ultrafast", "-g", 10_000)
    ffmpeg(*long, tmp_path / "film.mp4")
    monkeypatch.setattr(ffmpeg_module, "READING_LIMIT_S", 1e-6)  # ffmpeg decodes 4 s on the way
    with pytest.raises(InvalidRequest, match=r"reading 'film.mp4' takes more than .* give a shorter or smaller video"):
        read_pose_frames(tmp_path / "film.mp4", 64, 4)


def test_a_cover_picture_is_not_a_video(tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "voice.m4a", noise(1.0, 16_000), 16_000)
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", 1, tmp_path / "cover.jpg")
    both = ("-i", sound, "-i", tmp_path / "cover.jpg", "-map", 0, "-map", 1, "-c", "copy")
    ffmpeg(*both, "-disposition:v", "attached_pic", tmp_path / "song.m4a")
    assert "holds no video" in refusal(tmp_path / "song.m4a")
