"""Three ways to make a video, from a quick look to the best that the model can do."""

import math
from collections.abc import Mapping
from typing import Any

from pipeline.request import SIZES

PREVIEW, STANDARD, HIGH = "Preview", "Standard", "High"
SMALLEST_AREA, LARGEST_AREA = 4096, max(SIZES.values())
LARGER = SIZES["720p"] / SIZES["480p"]


def presets(defaults: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The values of size (pixels or a name), steps and max_clips for each preset, about the model's `defaults`.

    A preview is the first clip alone, with half the pixels and a third of the steps.
    """
    size, steps = defaults["size"], defaults["steps"]
    area = SIZES.get(size, size)
    larger = min(LARGEST_AREA, round(area * LARGER))
    return {
        PREVIEW: {"size": max(SMALLEST_AREA, area // 2), "steps": math.ceil(steps / 3), "max_clips": 1},
        STANDARD: {"size": size, "steps": steps, "max_clips": None},
        HIGH: {"size": _named(larger), "steps": math.ceil(steps * 1.25), "max_clips": None},
    }


def _named(area: int) -> str | int:
    return next((name for name, pixels in SIZES.items() if pixels == area), area)
