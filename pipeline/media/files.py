"""Input files that may be anything, and output files that are whole or absent."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import InvalidRequest, disk_full_explained


def check_input(path: Path, field: str, accepted: str) -> os.stat_result:
    """Refuse what is not a readable, regular file with something in it (a pipe or a device could block for ever).

    Gives what the system tells of the file. Raises InvalidRequest, which names the request's `field` and what is
    `accepted`, and of the path the name only.
    """
    try:
        facts = path.stat()
    except (OSError, ValueError):
        raise InvalidRequest(f"{field}: there is no file {shown(path)}; give {accepted}.") from None
    if not stat.S_ISREG(facts.st_mode):
        raise InvalidRequest(f"{field}: {shown(path)} is not a file; give {accepted}.")
    if not facts.st_size:
        raise InvalidRequest(f"{field}: {shown(path)} is empty; give {accepted}.")
    if not os.access(path, os.R_OK):
        raise InvalidRequest(f"{field}: {shown(path)} may not be read by this program; change its permissions.")
    return facts


def shown(path: Path) -> str:
    """The file's name as a message may show it: quoted, printable, at most 60 characters, without its folder."""
    name = "".join(letter if letter.isprintable() else "?" for letter in path.name)
    return f"'{name}'" if len(name) <= 60 else f"'{name[:40]}...{name[-17:]}'"


@contextmanager
def whole_or_absent(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; it becomes `path` if the block succeeds and is removed if it fails.

    The temporary name is always the same, so that what a killed process left is overwritten by the next one.
    Raises DiskFull for want of space or quota.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with disk_full_explained(shown(path)):
            yield part
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
