"""Three ways to make a video, from a quick look to the best that the model can do."""

import math
from collections.abc import Mapping
from typing import Any

from pipeline.request import SIZES

PREVIEW, STANDARD, HIGH = "Preview", "Standard", "High"
LARGEST_AREA = max(SIZES.values())
CLEAR_AREA, CLEAR_STEPS = 256 * 256, 4  # with less than this there is nothing to be seen
LARGER = SIZES["720p"] / SIZES["480p"]


def presets(defaults: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The values of size (pixels or a name), steps and max_clips for each preset, about the model's `defaults`.

    A preview is the first clip alone, with half the pixels and a third of the steps, as far as that is still clear.
    """
    size, steps = defaults["size"], defaults["steps"]
    area = SIZES.get(size, size)
    half = area // 2 if area // 2 >= CLEAR_AREA else size
    larger = min(LARGEST_AREA, round(area * LARGER))
    return {
        PREVIEW: {"size": half, "steps": max(min(CLEAR_STEPS, steps), math.ceil(steps / 3)), "max_clips": 1},
        STANDARD: {"size": size, "steps": steps, "max_clips": None},
        HIGH: {"size": _named(larger), "steps": math.ceil(steps * 1.25), "max_clips": None},
    }


def _named(area: int) -> str | int:
    return next((name for name, pixels in SIZES.items() if pixels == area), area)
