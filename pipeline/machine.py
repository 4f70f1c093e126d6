"""What this machine is and what follows from it, found out without torch: cards, the model served, folders."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pipeline.settings import Settings
from pipeline.store.catalogue import DEFAULT_MODEL, ModelEntry, entry_for
from pipeline.store.locations import APPLICATION, can_be_written, standard_places

# Memory of the smallest card that a plan of the 14B model is made for: 32.6 GB of weights and the work on top.
SMALLEST_CARD_BYTES = 40_000_000_000
CARD_QUERY = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Card:
    """An NVIDIA GPU as its driver describes it."""

    name: str
    memory_bytes: int
    driver: str


def cards() -> list[Card]:
    """The NVIDIA GPUs of this machine; none where there is no driver."""
    try:
        listing = subprocess.run(CARD_QUERY, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[field.strip() for field in line.split(",")] for line in listing.splitlines()]
    return [Card(row[0], int(row[1]) * 2**20, row[2]) for row in rows if len(row) == 3 and row[1].isdigit()]


def served_entry(settings: Settings) -> ModelEntry:
    """The model that this machine serves: MODEL, or the 14B model where a card can hold it, or the sample model."""
    model = settings.model
    if model is None:
        large_enough = any(card.memory_bytes >= SMALLEST_CARD_BYTES for card in cards())
        model = DEFAULT_MODEL if large_enough else "sample"
    return entry_for(model, settings.model_variant, settings.model_revision)


def output_folder(settings: Settings) -> Path:
    """Where jobs and results are kept: OUTPUT_DIR, a mounted volume that can be written, or the user's data folder."""
    if settings.output_dir is not None:
        return settings.output_dir.expanduser().absolute()
    for volume in standard_places().volumes:
        if can_be_written(volume):
            return volume / "outputs"
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / APPLICATION / "outputs"
