"""Several processes give the numbers of one, whether or not they divide the tokens. On the CPU."""

import atexit
import os
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from pipeline.errors import InvalidSetting
from pipeline.model import placement
from pipeline.model.loading import Changes
from pipeline.model.parallel import lead
from pipeline.model.placement import Placement
from pipeline.model.transformer import SpeechToVideoTransformer

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


def generate_together(tmp_path: Path, run: Callable[..., None] = run_module) -> list[tuple[int, str]]:
    """`generate` in two processes as torchrun starts them, each as `run`: their exit statuses and logs."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in CASES["two_clips"].items()]
    files = ["--device=cpu", f"--output={tmp_path / 'video.mp4'}", f"--frames={tmp_path / 'frames.npy'}"]
    command = ("generate", f"--model={CHECKPOINT}", *files, *options)
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}
    logs, processes = [tmp_path / "log-0", tmp_path / "log-1"], []
    for rank, log in enumerate(logs):
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        processes.append(start_fork(run, "pipeline", command, os.environ | meeting | own, log))
    for process in processes:
        process.join(250)
    return [(process.exitcode, log.read_text()) for process, log in zip(processes, logs, strict=True)]


def require_official_frames(tmp_path: Path) -> None:
    numbers, pixels = expected_video("two_clips")
    levels = (pixels.transpose(1, 2, 3, 0) + 1) * 127.5
    assert np.abs(np.load(tmp_path / "frames.npy")[numbers] - levels).max() <= 1


def test_the_command_line_in_two_processes_as_torchrun_starts_them_writes_the_official_frames(tmp_path: Path) -> None:
    for status, log in generate_together(tmp_path):
        assert status == 0, log
    require_official_frames(tmp_path)


def run_streaming(module: str, options: tuple[str, ...], environment: dict, log: Path) -> None:
    """As run_module by the plan "stream", which the CPU has by no setting; the log tells whether blocks do."""

    def tell(part: torch.nn.Module, _: object) -> None:
        if isinstance(part, SpeechToVideoTransformer):
            print("streams:", hasattr(part.blocks[0].attn1.to_q, "_diffusers_hook"))

    register_module_forward_pre_hook(tell)
    streaming = placement.Placement(torch.device("cpu"), torch.float32, "stream")
    placement.choose_placement = lambda *_, **__: streaming
    run_module(module, options, environment, log)


def test_all_processes_follow_the_plan_that_needs_least_memory(tmp_path: Path) -> None:
    for status, log in generate_together(tmp_path, run_streaming):
        assert status == 0, log
        assert set(re.findall("streams: .*", log)) == {"streams: True"}
    require_official_frames(tmp_path)


def run_greedily(greedy_rank: str, module: str, options: tuple[str, ...], environment: dict, log: Path) -> None:
    """As run_module, and in the process of that rank the third pass needs more memory than there is."""
    passes = []

    def ask_for_too_much(part: torch.nn.Module, _: object) -> None:
        if isinstance(part, SpeechToVideoTransformer) and environment["RANK"] == greedy_rank:
            passes.append(1)
            if len(passes) == 3:
                torch.empty(2**58)

    register_module_forward_pre_hook(ask_for_too_much)
    try:
        run_module(module, options, environment, log)
    finally:
        atexit._run_exitfuncs()  # which forks skip


@pytest.mark.parametrize(("rank", "said"), [("0", "The memory does not suffice"), ("1", "can't allocate memory")])
def test_an_error_in_one_process_ends_both(rank: str, said: str, tmp_path: Path) -> None:
    ended = generate_together(tmp_path, partial(run_greedily, rank))
    assert [status for status, _ in ended] == [1, 1]
    assert said in ended[int(rank)][1]
    assert not (tmp_path / "video.mp4").exists()
