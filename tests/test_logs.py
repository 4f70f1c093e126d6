"""What is written of a job's id."""

import logging
from pathlib import Path

import pytest

from pipeline.logs import KeylessFormatter, log_to_stderr

KEY = "0123456789abcdef" * 2


def formatted(message: str) -> str:
    return KeylessFormatter("%(message)s").format(logging.makeLogRecord({"msg": message}))


def test_a_key_is_cut_wherever_it_stands() -> None:
    assert formatted(f"{KEY} in /jobs/{KEY}/clip.mp4, /jobs/.old-{KEY}") == (
        "01234567 in /jobs/01234567/clip.mp4, /jobs/.old-01234567"
    )


def test_what_is_no_key_stays_whole() -> None:
    assert formatted(f"/uploads/{2 * KEY}/video.mp4") == f"/uploads/{KEY[:8]}/video.mp4"
    for text in (KEY[:-1], KEY + "0", KEY[:-1] + "g", "dab4e9c55bbe4c8c4d03db1c2c98c7f0ac9c454b"):
        assert formatted(text) == text


def test_a_traceback_tells_no_key(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    log_to_stderr(logging.INFO, "%(levelname)s: %(message)s")
    try:
        Path(f"/nowhere/{KEY}/events.jsonl").read_text()
    except OSError:
        logging.exception("Job %s", KEY)

    said = capsys.readouterr().err
    assert "Traceback" in said
    assert "/nowhere/01234567/events.jsonl" in said
    assert KEY not in said
