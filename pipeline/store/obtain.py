"""From "this model is wanted" to the folder that holds it whole: found, waited for, or downloaded."""

import logging
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import ModelUnavailable, disk_full_explained
from pipeline.events import ModelState
from pipeline.settings import Settings
from pipeline.store.catalogue import ModelEntry
from pipeline.store.download import Download, Pace
from pipeline.store.layout import shortcoming
from pipeline.store.lease import Holder, Lease, LeaseLost, LeaseWatch, acquire
from pipeline.store.locations import Places, find_model, standard_places
from pipeline.store.progress import ProgressLog, in_units

QUIET_S = 5.0  # without a sign of life from who downloads, before people are told

log = logging.getLogger(__name__)


def obtain_model(
    entry: ModelEntry,
    settings: Settings,
    places: Places | None = None,
    pace: Pace | None = None,
    ask_first: bool = False,
) -> Generator[ModelState, None, Path]:
    """Yield how far the model is, about every second, and return the folder that holds it whole.

    The same for the program, the command line and for whoever waits for another program's download. Closing the
    generator stops the download and leaves finished files. With `ask_first` a state "asking" comes before a download,
    and to go on is to agree. Raises ModelUnavailable or DiskFull.
    """
    pace = pace or Pace(stall_s=settings.download_stall_seconds)
    yield ModelState("checking", entry.name, message="looking for the model's files")
    search = find_model(entry, settings, places or standard_places())
    for line in search.lines():
        log.info("%s: %s", entry.name, line)
    if search.found is not None:
        return search.found
    if ask_first:
        yield _question(entry, search.destination)
    with folder_troubles_explained(search.destination):
        search.destination.mkdir(parents=True, exist_ok=True)
        while shortcoming(search.destination, entry) is not None:
            yield from _download_or_wait(entry, search.destination, settings, pace)
    log.info("%s: the model is whole in %s", entry.name, search.destination)
    return search.destination


@dataclass(frozen=True)
class Files:
    """Where a model lies: its folder and, where the transformer's weights come from elsewhere, that file."""

    folder: Path
    gguf: Path | None = None


def obtain_files(entry: ModelEntry, settings: Settings, ask_first: bool = False) -> Generator[ModelState, None, Files]:
    """As `obtain_model`, and then the file with the transformer's weights where `entry` has them from elsewhere."""
    folder = yield from obtain_model(entry, settings, ask_first=ask_first)
    weights = entry.weights
    if weights is None:
        return Files(folder)
    return Files(folder, (weights.folder or (yield from obtain_model(weights, settings))) / weights.title)


def _question(entry: ModelEntry, destination: Path) -> ModelState:
    size = in_units(entry.total_bytes)
    message = f"{entry.title} is not on this machine yet: it is a download of {size} into {destination}."
    return ModelState("asking", entry.name, bytes_total=entry.total_bytes, message=message)


def _download_or_wait(
    entry: ModelEntry, folder: Path, settings: Settings, pace: Pace
) -> Generator[ModelState, None, None]:
    lease = yield from hold_lease(entry, folder, pace)
    if lease is None:
        return
    try:
        with lease:
            if shortcoming(folder, entry) is not None:  # the one before may have ended just now
                yield from Download(entry, folder, lease, settings.model_volume_gb, pace).run()
    except LeaseLost:
        log.warning("%s: another program has taken over the download into %s.", entry.name, folder)


def hold_lease(entry: ModelEntry, folder: Path, pace: Pace) -> Generator[ModelState, None, Lease | None]:
    """The lease of `folder`; None after another held it and went, or was faster: all is to be looked at anew then.

    Waits as long as the other shows signs of life, and yields how far it is.
    """
    if (lease := acquire(folder)) is not None:
        return lease
    watch, told = LeaseWatch(folder), ProgressLog()
    while True:
        holder = watch.look()
        if watch.is_free:
            return None
        if watch.silent_s >= pace.lease_stale_s:
            log.warning("%s: who downloads into %s is gone, taking over.", entry.name, folder)
            return watch.take_over()
        state = _waiting(entry, holder, watch.silent_s)
        told.note(state, time.monotonic())
        yield state
        time.sleep(pace.poll_s)


def _waiting(entry: ModelEntry, holder: Holder | None, silent_s: float) -> ModelState:
    """The state of who downloads, as seen by one who waits."""
    message = "another program downloads the model"
    if holder is not None:
        message += f" ({holder.host})"
    if silent_s >= QUIET_S:
        message += f"; no sign of life from it for {silent_s:.0f} s"
    state = holder.state if holder is not None else None
    if state is None:
        return ModelState("waiting", entry.name, message=message)
    said = f"{message}: {state.message}" if state.message else message
    return replace(state, state="waiting", model=entry.name, message=said)


@contextmanager
def folder_troubles_explained(folder: Path) -> Iterator[None]:
    """Turn what the file system says against `folder` into DiskFull or ModelUnavailable."""
    try:
        with disk_full_explained(folder):
            yield
    except OSError as error:
        log.warning("%s: %r", folder, error)
        raise ModelUnavailable(
            f"The folder {folder} cannot be used for the model ({error.strerror or error}): set MODEL_CACHE_DIR to "
            "another one."
        ) from error
