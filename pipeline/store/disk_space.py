"""How much still fits on a disk, where the file system may not tell the truth.

Network volumes of rented machines (MooseFS and others, through FUSE) report the size of the whole cluster, while a
quota ends the writing much earlier. What they report is an upper bound and no more; MODEL_VOLUME_GB says the truth.
"""

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import DiskFull
from pipeline.store.progress import in_units

MOUNTS = Path("/proc/self/mounts")
ABSURD_TOTAL_BYTES = 50 * 10**12  # no disk that is bought or rented for this is larger: it is a cluster's size
SPARE_SHARE = 0.01  # for the file system's own records
DOUBT = (
    "The file system of %s does not say how much fits on this volume (it reports %s free): set MODEL_VOLUME_GB to the "
    "volume's size to have the space checked before the download."
)

log = logging.getLogger(__name__)


def require_space(folder: Path, needed: int, volume_gb: float | None) -> Iterator[int]:
    """Raise DiskFull if it is known that `needed` bytes more do not fit into `folder`.

    Where `volume_gb` (MODEL_VOLUME_GB) gives the volume's size, what is on the volume is taken off it. On a doubtful
    file system that means to add up its files, which may take minutes: yields the bytes counted so far.
    """
    existing = nearest_existing(folder)
    disk = shutil.disk_usage(existing)
    free = disk.free
    if volume_gb is not None:
        used = disk.used
        if is_doubtful(existing):
            for used in used_bytes(volume_of(existing)):
                yield used
        free = min(free, max(0, int(volume_gb * 10**9) - used))
    wanted = int(needed * (1 + SPARE_SHARE))
    if free < wanted:
        raise DiskFull(
            f"The model needs {in_units(wanted)} more in {folder}, but only {in_units(free)} are free there: make "
            "room, use a larger volume, or set MODEL_CACHE_DIR to a folder on another disk."
        )
    if volume_gb is None and is_doubtful(existing):
        log.warning(DOUBT, folder, in_units(free))


def is_doubtful(folder: Path) -> bool:
    """Whether the free space that the file system of `folder` reports may be another's than the volume's own."""
    existing = nearest_existing(folder)
    return shutil.disk_usage(existing).total >= ABSURD_TOTAL_BYTES or file_system_of(existing).startswith("fuse")


def file_system_of(folder: Path, mounts: Path = MOUNTS) -> str:
    """The kind of file system that holds `folder` ("ext4", "fuse", "fuse.geesefs"), "" where that cannot be told."""
    try:
        lines = [line.split() for line in mounts.read_text().splitlines()]
    except OSError:  # not Linux
        return ""
    volume = str(volume_of(folder))
    return next((kind for _, point, kind, *_ in reversed(lines) if point.replace("\\040", " ") == volume), "")


def nearest_existing(folder: Path) -> Path:
    """`folder`, or the closest folder above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def volume_of(folder: Path) -> Path:
    """The mount point that holds `folder`."""
    folder = folder.resolve()
    return next(path for path in (folder, *folder.parents) if os.path.ismount(path) or path == path.parent)


def used_bytes(volume: Path) -> Iterator[int]:
    """Add up the lengths of all files under `volume`, other file systems mounted there left out.

    Yields the sum so far, every thousand files and at the end.
    """
    total = 0
    for number, length in enumerate(_lengths(volume, volume.stat().st_dev), 1):
        total += length
        if number % 1000 == 0:
            yield total
    yield total


def _lengths(folder: Path, device: int) -> Iterator[int]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # not ours to read, or gone meanwhile
        return
    for entry in entries:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            continue
        if status.st_dev == device:
            yield status.st_size
            if entry.is_dir(follow_symlinks=False):
                yield from _lengths(Path(entry.path), device)
