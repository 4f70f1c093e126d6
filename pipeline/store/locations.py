"""Where the model may be, and where it is to go."""

import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ModelUnavailable
from pipeline.settings import Settings
from pipeline.store.catalogue import ModelEntry
from pipeline.store.disk_space import nearest_existing
from pipeline.store.layout import shortcoming

APPLICATION = "talking-video"
VOLUMES = (Path("/runpod-volume"), Path("/workspace"), Path("/data"))
RUNPOD_CACHE = Path("/runpod-volume/huggingface-cache/hub")  # filled by RunPod before a worker starts; never written

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Places:
    """The folders of this machine that may hold models, best first."""

    hub_caches: tuple[Path, ...]  # Hugging Face caches: looked into, never written
    volumes: tuple[Path, ...]  # mounted disks that outlive the machine; models are in `models/` there
    user_cache: Path  # of this program


def standard_places() -> Places:
    """The places of this machine."""
    from huggingface_hub import constants  # reads HF_HOME and HF_HUB_CACHE

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Places(
        hub_caches=(RUNPOD_CACHE, Path(constants.HF_HUB_CACHE)),
        volumes=tuple(volume for volume in VOLUMES if os.path.ismount(volume)),
        user_cache=cache / APPLICATION,
    )


@dataclass(frozen=True)
class Search:
    """What was found: the folder that holds the model whole, or else the one to download it into.

    `passed_over` are the folders that were looked at and are not it, each with the reason.
    """

    found: Path | None
    destination: Path | None
    passed_over: tuple[tuple[Path, str], ...]

    def lines(self) -> Iterator[str]:
        """The search in words, for the log and for people who wonder."""
        for folder, reason in self.passed_over:
            yield f"passed over {folder}: {reason}"
        if self.found is not None:
            yield f"found the model in {self.found}"
        else:
            yield f"the model is to be downloaded into {self.destination}"


def find_model(entry: ModelEntry, settings: Settings, places: Places) -> Search:
    """Look for `entry`; writes nothing into folders that hold a model. The first place that has it whole wins.

    Raises ModelUnavailable where it is neither there nor can be downloaded to anywhere.
    """
    if entry.folder is not None:
        return _given_folder(entry.folder, entry)
    passed_over = []
    for folder in _candidates(entry, settings, places):
        reason = shortcoming(folder, entry)
        if reason is None:
            return Search(folder, None, tuple(passed_over))
        passed_over.append((folder, reason))
    return Search(None, _destination(settings, places) / entry.subfolder, tuple(passed_over))


def _given_folder(folder: Path, entry: ModelEntry) -> Search:
    reason = shortcoming(folder, entry)
    if reason is not None:
        raise ModelUnavailable(f"The folder {folder} does not hold a whole model in the official layout: {reason}.")
    return Search(folder, None, ())


def _candidates(entry: ModelEntry, settings: Settings, places: Places) -> Iterator[Path]:
    if settings.model_cache_dir is not None:
        yield settings.model_cache_dir / entry.subfolder
    for cache in places.hub_caches:
        yield from _snapshots(cache, entry)
    for parent in (*places.volumes, places.user_cache):
        yield parent / "models" / entry.subfolder


def _snapshots(cache: Path, entry: ModelEntry) -> Iterator[Path]:
    """The folder of the wanted revision in a Hugging Face cache, if there is one."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import IncompleteSnapshotError, LocalEntryNotFoundError

    try:
        snapshot = snapshot_download(
            entry.repository,
            revision=entry.revision,
            cache_dir=cache,
            local_files_only=True,
            allow_patterns=entry.required,
        )
    except IncompleteSnapshotError as error:
        snapshot = error.snapshot_path  # what it lacks is said by whoever looks into it
    except LocalEntryNotFoundError:
        return
    except OSError as error:
        log.warning("The Hugging Face cache %s cannot be read: %s", cache, error)
        return
    yield Path(snapshot)


def _destination(settings: Settings, places: Places) -> Path:
    """The folder of models to write to: MODEL_CACHE_DIR, a volume, or the user's cache."""
    if settings.model_cache_dir is not None:
        wanted = [settings.model_cache_dir]
    else:
        wanted = [parent / "models" for parent in (*places.volumes, places.user_cache)]
    for folder in wanted:
        if can_be_written(folder):
            return folder
    folders = ", ".join(map(str, wanted))
    raise ModelUnavailable(
        f"The model is not on this machine, and {folders} cannot be written: set MODEL_CACHE_DIR to a folder that can."
    )


def can_be_written(folder: Path) -> bool:
    """Try it: permission bits say little on network volumes and to the root user. The trial file has no name."""
    try:
        with tempfile.TemporaryFile(dir=nearest_existing(folder)):
            return True
    except OSError:
        return False
