"""That two programs on one machine do not work on the same jobs."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import InvalidSetting


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Keep `folder`, which is made if need be, from other programs while this lasts.

    The system gives it back however the process ends. Raises InvalidSetting where another program has it; on a file
    system without locks nobody is kept out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            _take(lock, folder)
        yield
    finally:
        os.close(lock)


def _take(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InvalidSetting(
            f"OUTPUT_DIR: another program works in {folder}: end it, or give this one a folder of its own."
        ) from None
