"""What is found out at a start, before anything is fetched: what this machine is, and what keeps the model from it.

The command `doctor` prints it. A machine that was set up to serve logs it, and goes on where others end: what is wrong
is on the page and in /readyz then, for a program that ends is started again and again, at its owner's cost.
"""

import logging
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path

from pipeline.errors import InvalidSetting, ModelUnavailable, UserError
from pipeline.events import ModelState
from pipeline.idle_stop import this_pod
from pipeline.machine import (
    SMALLEST_CARD_BYTES,
    Gpu,
    cards,
    check_workers,
    is_hosted,
    look_at_gpu,
    output_folder,
    served_entry,
)
from pipeline.settings import Settings, read_settings, usable_settings
from pipeline.store.catalogue import DEFAULT_MODEL, ModelEntry, entry_for
from pipeline.store.disk_space import is_doubtful, nearest_existing
from pipeline.store.locations import can_be_written, find_model, standard_places
from pipeline.store.progress import in_units

PACKAGES = ("torch", "diffusers", "transformers", "huggingface_hub", "gradio")
LARGE_BYTES = 10_000_000_000  # of a model that is not for CPUs
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")  # in bytes, of this container; "max" where there is none
ACTION = "! "  # begins a line that somebody has to do something about

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """What the program starts with. `folder` is for jobs and results; `trouble` keeps the model from being served."""

    settings: Settings
    entry: ModelEntry
    folder: Path
    trouble: UserError | None = None


def plan_start(forgiving: bool) -> Start:
    """What the environment asks for. Raises InvalidSetting, or where it is `forgiving` tells that as the trouble."""
    try:
        settings = read_settings()
        if settings.idle_stop_minutes is not None:
            this_pod()
        check_workers(settings)
        folder = output_folder(settings)
        if not can_be_written(folder):
            raise InvalidSetting(f"OUTPUT_DIR: {folder} cannot be written to: give a folder that can.")
        return Start(settings, served_entry(settings), folder)
    except InvalidSetting as error:
        if not forgiving:
            raise
        return _start_in_spite_of(error)


def elsewhere(start: Start, error: UserError) -> Start:
    """`start` with a new folder among the temporary ones, for `error` says what is wrong with its own."""
    return replace(start, folder=Path(tempfile.mkdtemp(prefix="talking-video-")), trouble=start.trouble or error)


def _start_in_spite_of(error: UserError) -> Start:
    settings = usable_settings()
    try:
        entry = served_entry(settings)
    except InvalidSetting:
        entry = entry_for("sample")
    return Start(settings, entry, output_folder(settings), error)


def require_machine(start: Start, report: Callable[[ModelState], None]) -> None:
    """Raise what keeps the model from being served; on a hosted machine look closely, and log what it is.

    Raises the start's trouble, or ModelUnavailable.
    """
    if not is_hosted():
        require_card(start.entry)
        return
    report(ModelState("checking", start.entry.name, message="looking at this machine"))
    gpu = look_at_gpu()
    for line in findings(start, gpu):
        log.log(logging.WARNING if line.startswith(ACTION) else logging.INFO, "%s", line.strip())
    if start.trouble is not None:
        raise start.trouble
    if (reason := unfit(start.entry, gpu)) is not None:
        raise ModelUnavailable(reason)


def require_card(entry: ModelEntry) -> None:
    """Raise ModelUnavailable where `entry` needs a card and there is none, before anything is fetched for it."""
    if (reason := unfit(entry, Gpu(tuple(cards())))) is not None:
        raise ModelUnavailable(reason)


def unfit(entry: ModelEntry, gpu: Gpu) -> str | None:
    """Why this machine cannot serve `entry`, with what to do; None where nothing is known against it."""
    if not _is_large(entry):
        return None
    if not gpu.cards:
        return (
            f"{entry.title} needs an NVIDIA GPU with at least {in_units(SMALLEST_CARD_BYTES)}, and there is none here: "
            "take a machine with one, or set MODEL=sample to try the program without."
        )
    if gpu.trouble is not None:
        return (
            f"torch (CUDA {_torch_cuda()}) cannot use the GPU with its driver {gpu.cards[0].driver} ({gpu.trouble}): "
            f"redeploy with the CUDA {_torch_cuda()} filter, so that the machine's driver is new enough."
        )
    return None


def _is_large(entry: ModelEntry) -> bool:
    """Whether `entry` is a model for cards alone, as far as that is known before it is there."""
    if entry.folder is not None:
        return sum(path.stat().st_size for path in entry.folder.rglob("*") if path.is_file()) > LARGE_BYTES
    return entry.repository == entry_for(DEFAULT_MODEL).repository


def findings(start: Start, gpu: Gpu) -> Iterator[str]:
    """What this machine is, a line each; those that need action begin with ACTION."""
    yield f"  Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    yield "  " + ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    yield from _about_gpu(gpu)
    yield _about_memory()
    if start.trouble is None:  # else it is not known which one was meant
        yield from _about_model(start)
    yield from _about_disk(start)


def _about_gpu(gpu: Gpu) -> Iterator[str]:
    for card in gpu.cards:
        yield f"  GPU {card.name}, {in_units(card.memory_bytes)}, driver {card.driver}"
        if card.memory_bytes < SMALLEST_CARD_BYTES:
            yield (
                f"{ACTION}It has less than {in_units(SMALLEST_CARD_BYTES)}: the 14B model is served only where MODEL "
                "asks for it, rounded to int8 or block by block."
            )
    cuda = _torch_cuda()
    yield f"  torch is built for CUDA {cuda}" if cuda else f"{ACTION}torch is built without CUDA."
    if not gpu.cards:
        yield (
            f"{ACTION}There is no CUDA GPU here: the sample model runs on the CPU, the 14B model would take days. "
            f"For real videos rent a GPU with at least {in_units(SMALLEST_CARD_BYTES)}."
        )
    elif gpu.trouble is None:
        yield "  torch can use the GPU"
    else:
        yield (
            f"{ACTION}torch cannot use the GPU ({gpu.trouble}): take a machine whose driver is made for CUDA {cuda} "
            "or newer (570 for 12.8)."
        )


def _torch_cuda() -> str | None:
    """The CUDA version that torch is built for, read from its files: to import it takes seconds."""
    place = find_spec("torch").submodule_search_locations[0]
    return run_path(str(Path(place) / "version.py"))["cuda"]


def _about_memory() -> str:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # not in a container, or one without a limit
        total = min(total, int(MEMORY_LIMIT.read_text()))
    return f"  {len(os.sched_getaffinity(0))} CPU cores, {in_units(total)} of memory"


def _about_model(start: Start) -> Iterator[str]:
    yield f"  The model served here is {start.entry.title}"
    try:
        for entry in (start.entry, start.entry.weights):
            if entry is not None:
                yield from (f"  {line}" for line in find_model(entry, start.settings, standard_places()).lines())
    except UserError as error:
        yield f"{ACTION}{error}"


def _about_disk(start: Start) -> Iterator[str]:
    existing = nearest_existing(start.folder)
    if not is_doubtful(existing):
        yield f"  Results go to {start.folder}, {in_units(shutil.disk_usage(existing).free)} free"
        return
    yield f"  Results go to {start.folder}"
    if start.settings.model_volume_gb is None:
        yield (
            f"{ACTION}That file system may not tell the truth about its space: set MODEL_VOLUME_GB to the volume's "
            "size."
        )
