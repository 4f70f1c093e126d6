"""Several processes give the numbers of one, whether or not they divide the tokens. On the CPU."""

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import InvalidSetting
from pipeline.model.loading import Changes
from pipeline.model.parallel import lead
from pipeline.model.placement import Placement

from ..forked import FORKS
from .golden import CASES, CHECKPOINT, expected_video
from .parallel_passes import compare

ROOT = Path(__file__).parents[2]
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


SHARED = {  # by the number of processes: the case for parallel_passes.py, and the way it goes
    2: {
        "they divide the heads and the tokens": ((4, 8, 8, 1, 4), "Ulysses"),
        "they do not divide the tokens": ((3, 10, 10, 1, 4), "Ulysses"),
        "they do not divide the heads": ((4, 8, 8, 1, 3), "ring"),
        "they divide neither": ((3, 10, 10, 1, 3), "ring"),
        "each has a half of the guidance": ((3, 10, 10, 2, 3), "ring"),
    },
    3: {
        "they divide the heads alone": ((2, 8, 8, 1, 3), "Ulysses"),
        "they divide neither, both halves of the guidance at once": ((3, 10, 10, 2, 4), "ring"),
    },
}


@pytest.mark.parametrize("size", SHARED)
def test_several_processes_give_the_numbers_of_one(size: int, tmp_path: Path) -> None:
    cases = SHARED[size]
    with ProcessPoolExecutor(size, FORKS) as processes:
        compared = partial(compare, tmp_path / "meeting", size, [case for case, _ in cases.values()])
        first, *_ = processes.map(compared, range(size))
    found = dict(zip(cases, first, strict=True))
    assert {name: way for name, (_, way) in found.items()} == {name: way for name, (_, way) in cases.items()}
    assert {name: farthest for name, (farthest, _) in found.items() if not farthest < 1e-5} == {}


def test_weights_that_the_others_would_not_round_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InvalidSetting, match="MEMORY='int8' cannot be used by several processes"):
        lead(None, CHECKPOINT, Placement(torch.device("cpu"), torch.float32, "int8"), Changes())


def test_the_command_line_under_torchrun_writes_the_official_frames(tmp_path: Path) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in CASES["two_clips"].items()]
    files = ["--device=cpu", f"--output={tmp_path / 'video.mp4'}", f"--frames={tmp_path / 'frames.npy'}"]
    told = subprocess.run(
        [*TORCHRUN, "-m", "pipeline", "generate", f"--model={CHECKPOINT}", *files, *options],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert told.returncode == 0, told.stderr[-3000:]
    numbers, pixels = expected_video("two_clips")
    levels = (pixels.transpose(1, 2, 3, 0) + 1) * 127.5
    assert np.abs(np.load(tmp_path / "frames.npy")[numbers] - levels).max() <= 1
