"""The folder of uploads goes with its process, however that ends."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.uploads import NEW_S, PREFIX, uploads_folder

ROOT = Path(__file__).parents[1]
HOLD = """
import sys
from pipeline.uploads import uploads_folder
with uploads_folder() as folder:
    (folder / "upload").touch()
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Another process with a folder, as old as one that counts."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    folder = process.stdout.readline().strip()
    os.utime(folder, (time.time() - NEW_S - 1,) * 2)
    yield process
    process.kill()
    process.communicate()


def folders(temporary: Path) -> list[Path]:
    return list(temporary.glob(f"{PREFIX}*"))


def test_a_folder_is_gone_at_the_end(temporary: Path) -> None:
    with uploads_folder() as folder:
        (folder / "upload").touch()
    assert folders(temporary) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(
    temporary: Path, other: subprocess.Popen
) -> None:
    with uploads_folder() as own:
        assert len(folders(temporary)) == 2
    other.kill()
    other.wait()
    with uploads_folder() as own:
        assert folders(temporary) == [own]


def test_a_folder_that_was_just_made_stays(temporary: Path) -> None:
    new = temporary / f"{PREFIX}new"
    new.mkdir()
    with uploads_folder():
        assert new.is_dir()
