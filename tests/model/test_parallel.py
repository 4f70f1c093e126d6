"""Several processes give the numbers of one, whether or not they divide the tokens. On the CPU, through torchrun."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import InvalidSetting
from pipeline.model.loading import Changes
from pipeline.model.parallel import lead
from pipeline.model.placement import Placement

from .golden import CASES, CHECKPOINT, expected_video

ROOT = Path(__file__).parents[2]


def torchrun(processes: int, *arguments: str) -> str:
    told = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert told.returncode == 0, told.stderr[-3000:]
    return told.stdout


@pytest.mark.parametrize(
    ("processes", "heads", "way", "latents", "samples"),
    [
        (2, 4, "Ulysses", "4x8x8", 1),
        (2, 4, "Ulysses", "3x10x10", 1),
        (3, 3, "Ulysses", "2x8x8", 1),
        (2, 3, "ring", "4x8x8", 1),
        (2, 3, "ring", "3x10x10", 1),
        (3, 4, "ring", "3x10x10", 2),
        (2, 3, "ring", "3x10x10", 2),
    ],
    ids=[
        "they divide the heads and the tokens",
        "they do not divide the tokens",
        "three that divide the heads alone",
        "they do not divide the heads",
        "they divide neither",
        "three that divide neither, both halves of the guidance at once",
        "each has a half of the guidance",
    ],
)
def test_several_processes_give_the_numbers_of_one(
    processes: int, heads: int, way: str, latents: str, samples: int
) -> None:
    numbers = [*latents.split("x"), str(samples), str(heads)]
    told = torchrun(processes, "tests/model/parallel_program.py", *numbers)
    assert float(told.split("FARTHEST")[1].split()[0]) < 1e-5
    assert told.split("WAY")[1].split() == [way]


def test_weights_that_the_others_would_not_round_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidSetting, match="MEMORY='int8' cannot be used by several processes"):
        lead(None, CHECKPOINT, Placement(torch.device("cpu"), torch.float32, "int8"), Changes())


def test_the_command_line_under_torchrun_writes_the_official_frames(tmp_path: Path) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in CASES["two_clips"].items()]
    files = ["--device=cpu", f"--output={tmp_path / 'video.mp4'}", f"--frames={tmp_path / 'frames.npy'}"]
    torchrun(2, "-m", "pipeline", "generate", f"--model={CHECKPOINT}", *files, *options)
    numbers, pixels = expected_video("two_clips")
    levels = (pixels.transpose(1, 2, 3, 0) + 1) * 127.5
    assert np.abs(np.load(tmp_path / "frames.npy")[numbers] - levels).max() <= 1
