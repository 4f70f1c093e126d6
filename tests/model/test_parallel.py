"""Several processes give the numbers of one, whether or not they divide the tokens. On the CPU."""

import os
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

from ..forked import FORKS, run_module, start_fork
from ..web.program import free_port
from .golden import CASES, CHECKPOINT, expected_video
from .parallel_passes import compare

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


def test_the_command_line_in_two_processes_as_torchrun_starts_them_writes_the_official_frames(tmp_path: Path) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in CASES["two_clips"].items()]
    files = ["--device=cpu", f"--output={tmp_path / 'video.mp4'}", f"--frames={tmp_path / 'frames.npy'}"]
    command = ("generate", f"--model={CHECKPOINT}", *files, *options)
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    logs, processes = [tmp_path / "log-0", tmp_path / "log-1"], []
    for rank, log in enumerate(logs):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(start_fork(run_module, "pipeline", command, os.environ | meeting | own, log))
    for process, log in zip(processes, logs, strict=True):
        process.join(250)
        assert process.exitcode == 0, log.read_text()
    numbers, pixels = expected_video("two_clips")
    levels = (pixels.transpose(1, 2, 3, 0) + 1) * 127.5
    assert np.abs(np.load(tmp_path / "frames.npy")[numbers] - levels).max() <= 1
