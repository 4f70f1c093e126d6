"""Memory does not grow with the video's length. Measured on processes of their own, at their peak."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from .golden import CHECKPOINT, PORTRAIT

ROOT = Path(__file__).parents[2]
RATE = 16_000
PROGRAM = """
import resource, sys
import torch
from pipeline.__main__ import main
torch.set_num_threads(1)
status = main(sys.argv[1:])
print("PEAK", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
sys.exit(status)
"""


def peak_bytes(folder: Path, seconds: int) -> int:
    """The most memory that the command line takes for a video of `seconds`."""
    audio = folder / f"{seconds}.wav"
    soundfile.write(audio, np.random.default_rng(0).normal(0, 0.1, seconds * RATE).astype(np.float32), RATE)
    options = [f"--portrait={PORTRAIT}", f"--audio={audio}", f"--model={CHECKPOINT}", f"--output={folder / 'v.mp4'}"]
    quick = ["--max-area=4096", "--steps=1", "--guidance=1", "--device=cpu"]
    told = subprocess.run(
        [sys.executable, "-c", PROGRAM, "generate", *options, *quick],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{-(-(seconds * 16 + 3) // 80)} clips" in told.stdout
    return int(told.stdout.split("PEAK")[1])


def test_a_minute_takes_hardly_more_memory_than_ten_seconds(tmp_path: Path) -> None:
    # 22 MB were measured; 50 s of frames as floats are 39 MB at this size, and the official program holds them twice.
    assert peak_bytes(tmp_path, 60) - peak_bytes(tmp_path, 10) < 60e6
