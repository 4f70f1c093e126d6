"""Memory does not grow with the video's length. Measured on processes of their own, at their peak."""

import io
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import soundfile
import torch

from pipeline.__main__ import main

from ..forked import in_fork, peak_bytes
from .golden import CHECKPOINT, PORTRAIT

RATE = 16_000


def peak_of_video(folder: Path, seconds: int) -> int:
    """The most memory that this process has taken, in bytes, once the command line has made a video of `seconds`."""
    torch.set_num_threads(1)
    audio = folder / f"{seconds}.wav"
    soundfile.write(audio, np.random.default_rng(0).normal(0, 0.1, seconds * RATE).astype(np.float32), RATE)
    options = [f"--portrait={PORTRAIT}", f"--audio={audio}", f"--model={CHECKPOINT}", f"--output={folder / 'v.mp4'}"]
    quick = ["--max-area=4096", "--steps=1", "--guidance=1", "--device=cpu"]
    with redirect_stdout(io.StringIO()) as told:
        assert main(["generate", *options, *quick]) == 0
    assert f"{-(-(seconds * 16 + 3) // 80)} clips" in told.getvalue()
    return peak_bytes()


def test_forty_seconds_take_hardly_more_memory_than_ten(tmp_path: Path) -> None:
    ten, forty = (in_fork(peak_of_video, tmp_path, seconds) for seconds in (10, 40))
    # -18 to 24 MB were measured; the frames between are 24 MB as floats, and the official program holds them twice.
    assert forty - ten < 35e6
