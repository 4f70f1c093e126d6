"""From the settings to a model that can generate: its files are found or fetched, then loaded."""

import os
import shlex
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ModelUnavailable
from pipeline.events import ModelState
from pipeline.importing import importing
from pipeline.media.audio import load_resampler
from pipeline.settings import Settings
from pipeline.store.catalogue import DEFAULT_MODEL, DEFAULT_VARIANT, ModelEntry
from pipeline.store.obtain import Files, obtain_files
from pipeline.store.progress import Meter, ProgressLog, follow

if TYPE_CHECKING:
    from pipeline.model.loading import Reading
    from pipeline.model.speech_to_video import SpeechToVideo

Report = Callable[[ModelState], None]


def prepare_model(
    entry: ModelEntry,
    settings: Settings,
    report: Report,
    device: str | None = None,
    dtype: str | None = None,
    ask_first: bool = False,
    worker: int = 0,
    workers: int = 1,
) -> "SpeechToVideo":
    """Get `entry` ready to generate, telling `report` how far it is, "ready" last.

    `device` ("cpu", "cuda") and `dtype` ("float32", "bfloat16") are by default what the machine has and what suits it.
    Of several `workers` this is number `worker` (from 0): on the card of that number, or with its share of the cores.
    With `ask_first` the state "asking" comes before a download: the download begins when `report` returns from it.
    To be called on the thread that will generate. Raises ModelUnavailable, DiskFull, and InvalidSetting for a LoRA or a
    GGUF file that cannot be used and for more workers than cards.
    """
    _set_before_torch()
    lora_file = None
    if settings.lora is not None:
        from pipeline.model.hub_file import find_file

        lora_file = find_file("LORA", settings.lora, ".safetensors")  # one that is not there is told before a download
    files: Files = follow(obtain_files(entry, settings, ask_first=ask_first), report)
    report(ModelState("loading", entry.name, message="Starting PyTorch"))
    # Imported here, on the thread that works: seconds that the page must not wait for.
    with importing():
        from pipeline.model.compiling import compile_blocks
        from pipeline.model.loading import Changes, load_components
        from pipeline.model.lora import Lora
        from pipeline.model.parallel import lead
        from pipeline.model.placement import choose_placement
        from pipeline.model.speech_to_video import SpeechToVideo

    threading.Thread(target=load_resampler, name="resampler", daemon=True).start()  # while the model is read
    placement = choose_placement(settings.memory, device, dtype, worker, workers, packed=files.gguf is not None)
    try:
        changes = Changes(
            lora=None if lora_file is None else Lora(str(lora_file), settings.lora_strength),
            gguf=files.gguf,
        )
        parts = load_components(files.folder, placement, _loading(entry, report), changes)
        if settings.compile == "on":
            compile_blocks(parts.transformer, placement)
        model = SpeechToVideo(parts, placement, lead(parts.transformer, files.folder, placement, changes))
    except ModelUnavailable as error:
        raise ModelUnavailable(f"{str(error).rstrip('.')}; {_remedy(entry, files.folder)}.") from error
    report(ModelState("ready", entry.name, message=placement.describe()))
    return model


def _set_before_torch() -> None:
    """Set what torch's libraries read when they are imported."""
    # Threads that wait for each other by spinning take the cores from the rest of a busy machine, and from themselves:
    # a video of the sample model took up to ten times as long beside other work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # that of nvidia-smi, by which the cards were judged


def _loading(entry: ModelEntry, report: Report) -> "Callable[[Reading], None]":
    """What turns how far the reading is into states, for `report` and for the log."""
    meter, log = Meter(), ProgressLog()

    def tell(reading: "Reading") -> None:
        now = time.monotonic()
        meter.note(reading.bytes_done, now)
        state = ModelState(
            state="loading",
            model=entry.name,
            bytes_done=reading.bytes_done,
            bytes_total=reading.bytes_total,
            bytes_per_s=meter.bytes_per_s,
            eta_s=meter.seconds_for(reading.bytes_total - reading.bytes_done),
            file=reading.file,
            message=reading.message,
        )
        log.note(state, now)
        report(state)

    return tell


def _remedy(entry: ModelEntry, folder: Path) -> str:
    """What to do where a file of the model may be damaged."""
    if entry.repository is None:
        return f"if a file is damaged, put a whole copy of the model into {folder}"
    command = "python -m pipeline download --verify"
    if entry.name != DEFAULT_MODEL:
        command += f" --model {shlex.quote(entry.name)}"
    elif entry.variant != DEFAULT_VARIANT:
        command += f" --variant {entry.variant}"
    return f"if a file is damaged, `{command}` finds it and fetches it again"
