"""Copies of videos: made where the video has changed, and at no other time."""

import os
import time
from pathlib import Path

import pytest

from pipeline.web.served_files import PATIENCE_S, ServedFiles


@pytest.fixture
def uploads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    return tmp_path / "uploads"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    (tmp_path / "result.mp4").write_bytes(b"one clip")
    return tmp_path / "result.mp4"


def grow(video: Path, content: bytes) -> None:
    """Put the next version in the video's place."""
    times = video.stat().st_mtime_ns + 1_000_000
    video.write_bytes(content)
    os.utime(video, ns=(times, times))


def contents(uploads: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in uploads.rglob("*") if path.is_file())


def test_an_unchanged_video_is_neither_read_nor_copied_again(uploads: Path, video: Path) -> None:
    videos, times = ServedFiles(), video.stat().st_mtime_ns
    copy = videos.copy_of(video)
    video.write_bytes(b"unseen")
    os.utime(video, ns=(times, times))

    assert videos.copy_of(video) == copy
    assert contents(uploads) == [b"one clip"]


def test_a_video_that_has_grown_is_copied_and_the_version_before_can_be_fetched_for_a_while(
    uploads: Path, video: Path
) -> None:
    videos = ServedFiles()
    first = videos.copy_of(video)
    grow(video, b"two clips")
    second = videos.copy_of(video)
    assert (first.read_bytes(), second.read_bytes()) == (b"one clip", b"two clips")

    long_ago = time.time() - PATIENCE_S - 1
    os.utime(first, (long_ago, long_ago))
    grow(video, b"three clips")
    videos.copy_of(video)

    assert contents(uploads) == [b"three clips", b"two clips"]
    assert not first.parent.exists()


def test_a_copy_that_was_cleared_away_is_made_again(uploads: Path, video: Path) -> None:
    videos = ServedFiles()
    videos.copy_of(video).unlink()

    assert videos.copy_of(video).read_bytes() == b"one clip"


def test_a_copys_path_is_no_hint_to_the_videos(uploads: Path, video: Path) -> None:
    copy = ServedFiles().copy_of(video)

    assert copy.is_relative_to(uploads)
    assert len(copy.parent.name) == 64
    assert copy != ServedFiles().copy_of(video)
