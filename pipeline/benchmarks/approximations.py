"""What each faster way costs: its time against the exact one's, and how far its video lies from it."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import InvalidSetting
from pipeline.events import ClipFrames, StageChanged
from pipeline.model.loading import load_components
from pipeline.model.placement import Placement
from pipeline.model.speech_to_video import SpeechToVideo
from pipeline.request import GenerationRequest

# bfloat16 is not among them: it draws other noise, as the official program does, and so makes another video.
# Name -> what the request says, and what the placement is, other than usual.
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "exact": ({}, {}),
    "first-block": ({"speed": "first-block"}, {}),
    "magnitude": ({"speed": "magnitude"}, {}),
    "taylor": ({"speed": "taylor"}, {}),
    "guidance in half of the steps": ({"guidance_share": 0.5}, {}),
    "int8": ({}, {"plan": "int8"}),
    "fp8": ({}, {"plan": "fp8"}),
    "fp8-fast": ({}, {"plan": "fp8-fast"}),
}


@dataclass(frozen=True)
class WayFigures:
    """What one way takes for its steps, and how far its video lies from the exact one's."""

    way: str
    steps_s: float
    speed_up: float  # of the steps, against the exact way in the same run
    levels: float  # mean distance of the pixels, of 255
    farthest: int  # level


def measure_ways(folder: Path, placement: Placement, request: GenerationRequest) -> Iterator[WayFigures]:
    """Make the same video in each of the WAYS that the machine can; guidance has to be on for its own to differ."""
    exact_s, exact = 0.0, np.empty(0)
    for way, (asked, placed) in WAYS.items():
        try:
            steps_s, frames = _made(folder, replace(placement, **placed), request.model_copy(update=asked))
        except InvalidSetting:
            continue  # not on this machine
        if way == "exact":
            exact_s, exact = steps_s, frames
        apart = np.abs(frames - exact)
        yield WayFigures(way, steps_s, exact_s / steps_s, float(apart.mean()), int(apart.max()))


def _made(folder: Path, placement: Placement, request: GenerationRequest) -> tuple[float, np.ndarray]:
    """Processor seconds on a CPU (else on the clock) of all steps, and the frames as int16."""
    clock = time.process_time if placement.device.type == "cpu" else time.perf_counter
    model = SpeechToVideo(load_components(folder, placement, lambda _: None), placement)
    spent, since, frames = 0.0, None, []
    for event in model.generate(request):
        if isinstance(event, StageChanged):
            if since is not None:
                spent += clock() - since
            since = clock() if event.stage == "denoise" else None
        if isinstance(event, ClipFrames):
            frames.append(event.frames.astype(np.int16))
    return spent, np.concatenate(frames)
