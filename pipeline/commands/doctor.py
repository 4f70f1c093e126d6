"""`doctor`: what this machine is, what will not work on it, and what to do."""

import argparse
import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.machine import SMALLEST_CARD_BYTES, cards, output_folder, served_entry
from pipeline.settings import Settings, read_settings
from pipeline.store.disk_space import is_doubtful, nearest_existing
from pipeline.store.locations import find_model, standard_places
from pipeline.store.progress import in_units

PACKAGES = ("torch", "diffusers", "transformers", "huggingface_hub", "gradio")


def add_to(commands: Any) -> None:
    """Add this command's parser."""
    parser = commands.add_parser("doctor", help="say what this machine is, what will not work and what to do")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the findings, those that need action marked with an exclamation mark."""
    settings = read_settings()
    for part in (_programs(), _gpu(), _memory(), _model(settings), _disk(settings)):
        for line in part:
            print(line)
    return 0


def _programs() -> Iterator[str]:
    yield f"  Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield "  " + ", ".join(f"{package} {version(package)}" for package in PACKAGES)


def _gpu() -> Iterator[str]:
    import torch

    found = cards()
    for card in found:
        yield f"  GPU {card.name}, {in_units(card.memory_bytes)}, driver {card.driver}"
        if card.memory_bytes < SMALLEST_CARD_BYTES:
            yield f"! It has less than the {in_units(SMALLEST_CARD_BYTES)} that the 14B model needs."
    yield f"  torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "! torch is built without CUDA."
    if torch.cuda.is_available():
        yield "  torch can use the GPU"
    elif found:
        yield "! torch cannot use the GPU: its driver is too old for this CUDA (12.8 needs driver 570 or newer)."
    else:
        yield (
            "! There is no CUDA GPU here: the sample model runs on the CPU, the 14B model would take days. "
            f"For real videos rent a GPU with at least {in_units(SMALLEST_CARD_BYTES)}."
        )


def _memory() -> Iterator[str]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    yield f"  {os.cpu_count()} CPU cores, {in_units(total)} of memory"


def _model(settings: Settings) -> Iterator[str]:
    try:
        entry = served_entry(settings)
        yield f"  The model served here is {entry.title}"
        for line in find_model(entry, settings, standard_places()).lines():
            yield f"  {line}"
    except UserError as error:
        yield f"! {error}"


def _disk(settings: Settings) -> Iterator[str]:
    folder = output_folder(settings)
    existing: Path = nearest_existing(folder)
    yield f"  Results go to {folder}, {in_units(shutil.disk_usage(existing).free)} free"
    if is_doubtful(existing) and settings.model_volume_gb is None:
        yield "! That file system may not tell the truth about its space: set MODEL_VOLUME_GB to the volume's size."
