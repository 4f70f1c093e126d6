"""The command line, in a process of its own where exit status and streams matter."""

import io
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from pipeline.__main__ import main
from pipeline.commands.generate import FrameFile
from pipeline.errors import DiskFull
from pipeline.media.video import read_note_from
from pipeline.request import ClipPlan

from .forked import run_module, start_fork
from .store.mounts import small_disk

ROOT = Path(__file__).parents[1]
CHECKPOINT = ROOT / "tests" / "golden" / "checkpoint"
PORTRAIT = ROOT / "tests" / "golden" / "portrait.png"
SPEECH = ROOT / "tests" / "golden" / "speech.wav"
QUICK = ["--max-area=4096", "--steps=1", "--guidance=1", "--frames-per-clip=16", "--seed=5"]


def generate(*options: str, portrait: Path = PORTRAIT, audio: Path = SPEECH, output: str = "video.mp4") -> list[str]:
    inputs = [f"--portrait={portrait}", f"--audio={audio}", f"--model={CHECKPOINT}", f"--output={output}"]
    return ["generate", *inputs, *QUICK, *options]


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pipeline", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=110)


def environment(home: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(home), "OMP_NUM_THREADS": "1"}


def test_a_video_is_made_with_an_event_per_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(generate("--json", "--audio-duration=1.5")) == 0
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [e["event"] for e in events][:2] == ["started", "stage_changed"]
    assert [e["event"] for e in events][-2:] == ["clip_ready", "finished"]
    assert events[0]["plan"]["frames"] == 24
    assert events[-1]["video"] == str(tmp_path / "video.mp4")
    assert read_note_from(tmp_path / "video.mp4")["settings"]["seed"] == 5
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".mp4"] == ["video.mp4"]


def test_a_stop_signal_leaves_nothing_behind(tmp_path: Path) -> None:
    log, output = tmp_path / "log", str(tmp_path / "video.mp4")
    log.touch()
    options = tuple(generate("--json", output=output))
    program = start_fork(run_module, "pipeline", options, environment(tmp_path), log)
    pause = threading.Event()
    while "started" not in log.read_text():
        assert program.is_alive(), log.read_text()
        pause.wait(0.05)
    assert list(tmp_path.glob(".video-*"))

    program.terminate()
    program.join(60)

    assert program.exitcode == 1
    assert log.read_text().splitlines()[-1] == "Stopped."
    assert not list(tmp_path.glob("*video*"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--steps=0"], "steps: '0' is not accepted"),
        (["--guidance=-1"], "guidance: '-1' is not accepted"),
        (["--seed=abc"], "seed: 'abc' is not accepted"),
        (["--frames-per-clip=79"], "frames_per_clip: '79' is not accepted"),
        (["--audio-duration=0.05"], "audio_duration: '0.05' is not accepted"),
        (["--audio-start=60"], "speech.wav"),
        (["--output=video.avi"], "video.avi is not accepted"),
        (["--output=nowhere/video.mp4"], "cannot be written"),
        (["--model=nothing"], "MODEL='nothing' cannot be used"),
        (["--device=cuda"], "no usable CUDA card"),
    ],
)
def test_a_wrong_option_is_one_sentence_and_leaves_nothing(
    options: list[str], said: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(generate(*options)) == 2
    assert said in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def bad_inputs(folder: Path) -> dict[str, dict[str, Path]]:
    text, empty, short, dot, cut = (
        folder / name for name in ("text.wav", "empty.wav", "short.wav", "dot.png", "cut.jpg")
    )
    text.write_text("this is not a sound\n" * 100)
    empty.touch()
    soundfile.write(short, np.zeros(800, np.float32), 16_000)
    Image.new("RGB", (1, 1)).save(dot)
    Image.open(PORTRAIT).save(folder / "whole.jpg")
    cut.write_bytes((folder / "whole.jpg").read_bytes()[:5000])
    video = ROOT / "tests" / "golden" / "pose.mp4"
    return {
        "text": {"audio": text},
        "empty": {"audio": empty},
        "short": {"audio": short},
        "dot": {"portrait": dot},
        "cut": {"portrait": cut},
        "video": {"portrait": video},
        "missing": {"portrait": folder / "missing.png"},
    }


@pytest.mark.parametrize("name", ["text", "empty", "short", "dot", "cut", "video", "missing"])
def test_a_bad_input_is_one_sentence_and_leaves_nothing(name: str, tmp_path: Path, capsys) -> None:
    inputs = bad_inputs(tmp_path)[name]
    before = sorted(tmp_path.rglob("*"))
    assert main(generate(output=str(tmp_path / "video.mp4"), **inputs)) == 2
    said = capsys.readouterr().err.strip()
    assert said.count("\n") == 0
    assert next(iter(inputs.values())).name in said
    assert sorted(tmp_path.rglob("*")) == before


def test_silence_is_made_into_a_video_with_a_hint(tmp_path: Path, capsys) -> None:
    soundfile.write(tmp_path / "silence.wav", np.zeros(8000, np.float32), 16_000)
    assert main(generate(audio=tmp_path / "silence.wav", output=str(tmp_path / "video.mp4"))) == 0
    assert "silent" in capsys.readouterr().err
    assert (tmp_path / "video.mp4").stat().st_size > 0


def test_doctor_says_that_there_is_no_card_and_what_that_means(capsys) -> None:
    assert main(["doctor"]) == 0
    told = capsys.readouterr().out
    assert "! There is no CUDA GPU here: the sample model runs on the CPU" in told
    assert "The model served here is Sample model" in told
    assert "Results go to" in told


@pytest.mark.parametrize(("variable", "value"), [("OUTPUT_DIR", "/proc/x"), ("MODEL", "no such model"), ("PORT", "x")])
def test_doctor_says_what_keeps_the_program_from_starting(variable: str, value: str, monkeypatch, capsys) -> None:
    monkeypatch.setenv(variable, value)
    assert main(["doctor"]) == 2
    told = capsys.readouterr().out
    assert f"! {variable}" in told
    assert "The model served here" not in told


def test_jobs_says_where_there_are_none(tmp_path: Path, capsys) -> None:
    assert main(["jobs"]) == 0
    assert "There are no jobs in" in capsys.readouterr().out


def test_an_error_inside_is_one_line_without_a_traceback(tmp_path: Path) -> None:
    broken = tmp_path / "checkpoint"
    broken.mkdir()
    told = run(
        ["generate", f"--portrait={PORTRAIT}", f"--audio={SPEECH}", f"--model={broken}", "--output=v.mp4"], tmp_path
    )
    assert told.returncode == 1
    assert "does not hold a whole model" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("verbose", [False, True])
def test_an_error_that_nobody_expected_is_one_line_and_its_traceback_is_for_those_who_ask(
    verbose: bool, monkeypatch, capsys, caplog
) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    assert main([*(["--verbose"] if verbose else []), "jobs"]) == 1
    said = capsys.readouterr().err
    assert "Something went wrong inside the program (ValueError" in said
    assert "Traceback" not in said
    assert ("Traceback" in caplog.text) == verbose


PLAN = ClipPlan(height=64, width=64, frames=77, clips=1, frames_per_clip=80, warm_up_frames=3, lead_frames=3)


def test_the_file_of_frames_is_what_numpy_reads(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (77, 64, 64, 3), np.uint8)
    file = FrameFile(tmp_path / "frames.npy")
    file.begin(PLAN)
    file.add(frames[:40])
    file.add(frames[40:])
    assert np.array_equal(np.load(file.path), frames)


def test_a_disk_that_the_frames_fill_is_one_sentence(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 500_000) as disk:
        file = FrameFile(disk / "frames.npy")
        file.begin(PLAN)
        with pytest.raises(DiskFull, match="disk is full: free some space"):
            file.add(np.ones((77, 64, 64, 3), np.uint8))


def test_a_disk_without_room_for_the_frames_is_one_sentence() -> None:
    with pytest.raises(DiskFull):
        FrameFile(Path("/dev/full")).begin(PLAN)
