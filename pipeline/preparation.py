"""From the settings to a model that can generate: its files are found or fetched, then loaded."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.events import ModelState
from pipeline.settings import Settings
from pipeline.store.catalogue import ModelEntry
from pipeline.store.obtain import obtain_model
from pipeline.store.progress import follow

if TYPE_CHECKING:
    from pipeline.model.speech_to_video import SpeechToVideo


def prepare_model(
    entry: ModelEntry,
    settings: Settings,
    report: Callable[[ModelState], None],
    device: str | None = None,
    dtype: str | None = None,
) -> "SpeechToVideo":
    """Get `entry` ready to generate, telling `report` how far it is, "ready" last.

    `device` ("cpu", "cuda") and `dtype` ("float32", "bfloat16") are by default what the machine has and what suits it.
    Raises ModelUnavailable and DiskFull.
    """
    folder: Path = follow(obtain_model(entry, settings), report)

    def loading(message: str) -> None:
        report(ModelState("loading", entry.name, message=message))

    loading("Starting PyTorch")
    # Threads that wait for each other by spinning take the cores from the rest of a busy machine, and from themselves:
    # a video of the sample model took up to ten times as long beside other work. OpenMP reads this when torch comes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Imported here, on the thread that works: seconds that the page must not wait for.
    from pipeline.model.loading import load_components
    from pipeline.model.placement import choose_placement
    from pipeline.model.speech_to_video import SpeechToVideo

    placement = choose_placement(settings.memory, device, dtype)
    model = SpeechToVideo(load_components(folder, placement, loading), placement)
    report(ModelState("ready", entry.name, message=placement.describe()))
    return model
