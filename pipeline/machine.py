"""What this machine is and what follows from it, found out without torch: cards, the model served, folders."""

import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from pipeline.errors import InvalidSetting
from pipeline.settings import Settings
from pipeline.store.catalogue import DEFAULT_MODEL, ModelEntry, entry_for, gguf_entry, with_weights_from
from pipeline.store.locations import APPLICATION, can_be_written, standard_places

# Memory of the smallest card that the 14B model is served on without being asked for: 33 GB of it is the transformer.
SMALLEST_CARD_BYTES = 47_000_000_000
ROUNDING = ("int8", "fp8", "fp8-fast")  # values of MEMORY that have the transformer's weights rounded
OLDEST_DRIVER = 570  # that runs programs made for CUDA 12.8, by NVIDIA's release notes
TORCH_PATIENCE_S = 180
CARD_QUERY = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version,uuid", "--format=csv,noheader,nounits")


@dataclass(frozen=True)
class Card:
    """An NVIDIA GPU as its driver describes it."""

    name: str
    memory_bytes: int
    driver: str
    uuid: str = ""

    @property
    def suits_large_model(self) -> bool:
        """Whether the 14B model may be served on it, as far as its driver tells."""
        version = self.driver.partition(".")[0]
        return self.memory_bytes >= SMALLEST_CARD_BYTES and version.isdigit() and int(version) >= OLDEST_DRIVER


def cards() -> list[Card]:
    """The NVIDIA GPUs of this machine; none where there is no driver."""
    try:
        listing = subprocess.run(CARD_QUERY, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[field.strip() for field in line.split(",")] for line in listing.splitlines()]
    return [Card(row[0], int(row[1]) * 2**20, *row[2:4]) for row in rows if len(row) >= 3 and row[1].isdigit()]


@dataclass(frozen=True)
class Gpu:
    """The cards of this machine, and why torch cannot use them (None where it can, or where there is no card)."""

    cards: tuple[Card, ...]
    trouble: str | None = None


def look_at_gpu() -> Gpu:
    """The cards, and whether torch works on them.

    A process of its own tries that, some seconds long: a broken driver may hold it up or end it, and nothing of torch
    is left in this one.
    """
    found = tuple(cards())
    if not found:
        return Gpu(found)
    trial = (sys.executable, "-c", "import torch; torch.zeros(1, device='cuda').add(1).item()")
    try:
        told = subprocess.run(trial, capture_output=True, text=True, timeout=TORCH_PATIENCE_S)
    except subprocess.TimeoutExpired:
        return Gpu(found, f"it did not answer within {TORCH_PATIENCE_S} s")
    if told.returncode == 0:
        return Gpu(found)
    last_line = (told.stderr.strip().splitlines() or [f"it ended with status {told.returncode}"])[-1]
    return Gpu(found, last_line)


def usable_cards() -> list[Card]:
    """The cards that programs may use here, in the order of use; CUDA_VISIBLE_DEVICES can leave some out."""
    found = cards()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return found
    names = takewhile(lambda name: not name.startswith("-"), named.replace(",", " ").split())
    return list(takewhile(bool, (_card_called(name, place, found) for place, name in enumerate(names))))


def _card_called(name: str, place: int, found: list[Card]) -> Card | None:
    """The one of that number or UUID; by its place in the list where the name tells nothing (a part of a card)."""
    if (card := next((card for card in found if card.uuid and card.uuid.startswith(name)), None)) is not None:
        return card
    number = int(name) if name.isdecimal() else place
    return found[number] if number < len(found) else None


def require_room_for(workers: int, cards: int) -> None:
    """Raise InvalidSetting where so many workers have not a card each; without cards any number works."""
    if 0 < cards < workers:
        raise InvalidSetting(
            f"WORKERS={workers} cannot be used: each worker needs a card of its own, and this machine has {cards}."
        )


def check_workers(settings: Settings) -> None:
    """Raise InvalidSetting where this start cannot have several workers, if it is to have some."""
    workers = settings.workers
    if workers == 1:
        return
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InvalidSetting(
            f"WORKERS={workers} cannot be used under torchrun, which has all cards work on one job: "
            "leave WORKERS out, or start the program without torchrun."
        )
    if settings.compile == "on":
        raise InvalidSetting(
            f"WORKERS={workers} cannot be used with COMPILE=on, for blocks cannot be compiled while others work: "
            "leave one of the two out."
        )
    require_room_for(workers, len(usable_cards()))


def is_follower() -> bool:
    """Whether torchrun started this process beside a first one, to compute along."""
    return int(os.environ.get("RANK", "0")) > 0


def is_hosted() -> bool:
    """Whether this machine was set up to serve (a container, a pod, a Space): nobody sits at its terminal."""
    return any(os.environ.get(name) for name in ("RUNPOD_POD_ID", "RUNPOD_ENDPOINT_ID", "SPACE_ID", "container"))


def asks_first(settings: Settings) -> bool:
    """Whether a person is asked before a model is downloaded: on their own computer, where they named none."""
    return settings.model is None and not is_hosted()


def public_url(settings: Settings) -> str:
    """Where people find the page."""
    if pod := os.environ.get("RUNPOD_POD_ID"):
        return f"https://{pod}-{settings.port}.proxy.runpod.net"
    if space := os.environ.get("SPACE_HOST"):
        return f"https://{space}"
    host = "localhost" if settings.host in ("0.0.0.0", "::") else settings.host
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def served_entry(settings: Settings) -> ModelEntry:
    """The model that this machine serves: MODEL, or the 14B model where its cards hold it, else the sample model."""
    model = settings.model
    if model is None:
        used = usable_cards()[: settings.workers]
        suits = used and all(card.suits_large_model for card in used)
        model = DEFAULT_MODEL if suits else "sample"
    return named_entry(model, settings)


def named_entry(model: str | None, settings: Settings) -> ModelEntry:
    """What `model` names, with the variant, revision and GGUF file of `settings`. Raises InvalidSetting."""
    entry = entry_for(model, settings.model_variant, settings.model_revision)
    if settings.gguf:
        entry = with_weights_from(entry, gguf_entry(settings.gguf))
    if entry.weights is not None and settings.memory in ROUNDING:
        raise InvalidSetting(
            f"MEMORY={settings.memory} cannot be used with weights that are packed already (GGUF, or a MODEL_VARIANT "
            "other than bf16): give auto, resident, offload or stream."
        )
    return entry


def output_folder(settings: Settings) -> Path:
    """Where jobs and results are kept: OUTPUT_DIR, a mounted volume that can be written, or the user's data folder."""
    if settings.output_dir is not None:
        return settings.output_dir
    for volume in standard_places().volumes:
        if can_be_written(volume):
            return volume / "outputs"
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return data / APPLICATION / "outputs"
