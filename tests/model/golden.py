"""The runs of the official program whose numbers are in tests/golden."""

from functools import cache
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parents[1] / "golden"
CHECKPOINT = GOLDEN / "checkpoint"
PORTRAIT, WIDE, SPEECH, POSE = (GOLDEN / name for name in ("portrait.png", "wide.png", "speech.wav", "pose.mp4"))

_SMALL = {"portrait": PORTRAIT, "audio": SPEECH, "max_area": 4096, "frames_per_clip": 16, "sync_lead_frames": 0}
CASES = {
    "dpm": _SMALL | {"steps": 4, "seed": 4, "max_clips": 1, "solver": "dpm++"},
    "first_frame": _SMALL | {"steps": 2, "seed": 3, "max_clips": 2, "first_frame": True},
    "no_guidance": _SMALL
    | {"steps": 2, "seed": 1, "max_clips": 1, "guidance": 1.0, "shift": 5.0, "prompt": "the quick brown fox"},
    "pose": _SMALL | {"steps": 2, "seed": 2, "max_clips": 2, "pose_video": POSE},
    "two_clips": _SMALL | {"steps": 3, "seed": 42, "max_clips": 2, "frames_per_clip": 32},
    "wide": _SMALL | {"portrait": WIDE, "steps": 2, "seed": 6, "max_clips": 2, "max_area": 24576},
}


@cache
def _expected() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "expected.npz") as arrays:
        return dict(arrays)


def expected(case: str, name: str) -> np.ndarray:
    """The official program's array `name` for `case`."""
    return _expected()[f"{case}.{name}"]


def expected_video(case: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of some frames, and their pixels (3, frames, H, W) in [-1, 1]."""
    return expected(case, "frames"), expected(case, "video") / 32767
