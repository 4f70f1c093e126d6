"""Every byte of a model compared with what the Hub has, and what is damaged fetched again."""

import logging
import time
from collections.abc import Generator, Iterator
from pathlib import Path

from pipeline.errors import ModelUnavailable
from pipeline.events import ModelState
from pipeline.settings import Settings
from pipeline.store.catalogue import ModelEntry
from pipeline.store.download import Download, Pace
from pipeline.store.hub_process import HubProcess
from pipeline.store.listing import ask_for_listing
from pipeline.store.locations import can_be_written
from pipeline.store.manifest import Manifest, ModelFile, read_manifest, same_content, size_on_disk
from pipeline.store.obtain import folder_troubles_explained, hold_lease
from pipeline.store.progress import Meter, states_of
from pipeline.store.troubles import Interrupted

log = logging.getLogger(__name__)


def verify_model(
    entry: ModelEntry, folder: Path, settings: Settings, pace: Pace | None = None
) -> Generator[ModelState, None, tuple[str, ...]]:
    """Read all files of `entry` in `folder`, repair the damaged ones, and return their names.

    Yields how far it is. Raises ModelUnavailable where there are no hashes to compare with, or damaged files in a
    folder that is not this program's to repair (read-only, or a Hugging Face cache); it names them.
    """
    pace = pace or Pace(stall_s=settings.download_stall_seconds)
    with folder_troubles_explained(folder):
        manifest = read_manifest(folder) or (yield from _ask_for_manifest(entry, folder, pace))
        damaged = yield from _damaged(entry, folder, manifest)
        for path in damaged:
            log.warning("%s is damaged: it is not what %s has.", path, manifest.repository)
        if damaged:
            _require_repairable(folder, damaged)
            yield from _repair(entry, folder, manifest, damaged, settings.model_volume_gb, pace)
    return tuple(str(path.relative_to(folder)) for path in damaged)


def _ask_for_manifest(entry: ModelEntry, folder: Path, pace: Pace) -> Generator[ModelState, None, Manifest]:
    """The Hub's hashes, for a folder that somebody else filled."""
    if entry.repository is None:
        raise ModelUnavailable(f"The files in {folder} cannot be verified: their hashes are not known.")
    state = ModelState("checking", entry.name, message="asking the Hub for the hashes")
    try:
        with HubProcess() as process:
            listing = ask_for_listing(process, entry, folder, pace.poll_s, pace.stall_s)
            return (yield from states_of(listing, lambda waited_s: state))
    except Interrupted as interruption:
        raise ModelUnavailable(
            f"The files in {folder} cannot be verified, their hashes are on the Hub: {interruption}."
        ) from interruption


def _damaged(entry: ModelEntry, folder: Path, manifest: Manifest) -> Generator[ModelState, None, list[Path]]:
    """The files that are missing or not the same. Reads everything."""
    damaged, before, meter = [], 0, Meter()

    def state(file: ModelFile, done: int) -> ModelState:
        meter.note(done, time.monotonic())
        left = meter.seconds_for(manifest.total_bytes - done)
        return ModelState(
            "checking", entry.name, done, manifest.total_bytes, meter.bytes_per_s, left, file.path, message="reading"
        )

    for file in manifest.files:
        path = folder / file.path
        same = size_on_disk(path) == file.size
        if same:
            same = yield from states_of(same_content(path, file), lambda done, f=file, b=before: state(f, b + done))
        if not same:
            damaged.append(path)
        before += file.size
    return damaged


def _require_repairable(folder: Path, damaged: list[Path]) -> None:
    if can_be_written(folder) and not any(path.is_symlink() for path in damaged):
        return
    names = ", ".join(str(path.relative_to(folder)) for path in damaged)
    raise ModelUnavailable(
        f"Damaged files in {folder}: {names}; the folder is read-only or belongs to a Hugging Face cache, so that they "
        "must be replaced by whoever fills it."
    )


def _repair(
    entry: ModelEntry, folder: Path, manifest: Manifest, damaged: list[Path], volume_gb: float | None, pace: Pace
) -> Iterator[ModelState]:
    """Remove the damaged files, from when on the model counts as incomplete for everybody, and fetch them again."""
    while (lease := (yield from hold_lease(entry, folder, pace))) is None:
        pass
    with lease:
        for path in damaged:
            path.unlink(missing_ok=True)
        yield from Download(entry, folder, lease, volume_gb, pace, manifest).run()
