"""Where uploads and what is served lie while the program runs: a folder of its own among the temporary ones."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

PREFIX = "talking-video-uploads-"
NEW_S = 60  # a folder so young may belong to a process that has not locked it yet


@contextmanager
def uploads_folder() -> Iterator[Path]:
    """A folder that is gone at the end; those that killed processes have left go at the start.

    A process holds a lock on its folder, which the system takes back however the process ends.
    """
    for folder in Path(gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # somebody else's, or a file system that knows no locks
            _remove_ownerless(folder)
    with TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        lock = os.open(name, os.O_RDONLY)
        try:
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield Path(name)
        finally:
            os.close(lock)


def _remove_ownerless(folder: Path) -> None:
    """Remove `folder` unless its process lives. Raises OSError, BlockingIOError where that process holds the lock."""
    if time.time() - folder.stat().st_mtime < NEW_S:
        return
    lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
