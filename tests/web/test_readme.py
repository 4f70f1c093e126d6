"""The README's clients do what it says: its own lines are run, with nothing changed but the address."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..absent import not_run
from .conftest import Served
from .scripted import write_portrait, write_voice

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A place with the files that the README speaks of (what is in them counts, not what they are called)."""
    (tmp_path / "there").mkdir()
    write_portrait(tmp_path / "face.png").rename(tmp_path / "there" / "me.jpg")
    write_voice(tmp_path / "voice.wav", 1).rename(tmp_path / "there" / "me.mp3")
    return tmp_path / "there"


def code(language: str, served: Served) -> str:
    """The README's lines in that language; the model works as fast as it can."""
    served.model.let_all()
    served.wait_for_model("ready")
    (block,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return block.replace("http://127.0.0.1:7860", served.url)


def run(*command: str, folder: Path) -> str:
    """What the command says; a failure fails the test."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_python_client(served: Served, folder: Path) -> None:
    told = run(sys.executable, "-c", code("python", served), folder=folder).splitlines()

    assert "Clip 1 of 1: step 2 of 3." in told
    assert Path(told[-1]).read_bytes()[4:8] == b"ftyp"


def test_the_javascript_client(served: Served, folder: Path, node_modules: Path) -> None:
    (folder / "client.mjs").write_text(code("javascript", served))
    os.symlink(node_modules, folder / "node_modules")

    told = run("node", "client.mjs", folder=folder).splitlines()

    assert "The video is ready." in told
    assert re.fullmatch(rf"{served.url}/gradio_api/file=\S+\.mp4", told[-1])


def test_curl(served: Served, folder: Path) -> None:
    missing = [program for program in ("bash", "curl", "jq") if not shutil.which(program)]
    if missing:
        not_run(f"The README's lines for curl did not run: {', '.join(missing)} is not here.")
    told = run("bash", "-euo", "pipefail", "-c", code("bash", served), folder=folder)

    assert '"state": "finished"' in told.strip().splitlines()[-1]
    assert (folder / "me.mp4").read_bytes()[4:8] == b"ftyp"
