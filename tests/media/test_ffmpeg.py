"""ffmpeg: ended when it takes too long and when nobody listens any more."""

import time

import pytest

from pipeline.media import ffmpeg
from pipeline.media.ffmpeg import FfmpegFailed, FfmpegTookTooLong, reading, run

ENDLESS = ["-f", "lavfi", "-i", "anullsrc", "-f", "f32le", "pipe:1"]
NEVER_DONE = ["-f", "lavfi", "-i", "anullsrc", "-f", "null", "-"]


def test_ffmpeg_is_ended_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ffmpeg, "READING_LIMIT_S", 0.3)
    started = time.monotonic()
    with pytest.raises(FfmpegTookTooLong), reading(NEVER_DONE) as pipe:
        assert pipe.read() == b""
    with pytest.raises(FfmpegTookTooLong):
        run(NEVER_DONE, limit_s=0.3)
    assert time.monotonic() - started < 5


def test_ffmpeg_is_ended_when_its_reader_gives_up() -> None:
    pipes = []

    def give_up() -> None:
        with reading(ENDLESS) as pipe:
            pipes.append(pipe)
            raise KeyError

    with pytest.raises(KeyError):
        give_up()
    assert pipes[0].closed


def test_a_failure_is_told_with_ffmpegs_words() -> None:
    with pytest.raises(FfmpegFailed, match="No such file"):
        run(["-i", "file:/nowhere/at/all.wav", "-f", "null", "-"])
    with pytest.raises(FfmpegFailed, match="exit status"), reading(["-i", "file:/nowhere/at/all.wav"]):
        pass
