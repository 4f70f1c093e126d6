"""Files of the jobs where Gradio serves files from: nothing in the folders of the jobs is served by its own path."""

import os
import secrets
import shutil
import threading
import time
from pathlib import Path
from urllib.parse import quote

from gradio.utils import get_upload_folder

from pipeline.media.files import whole_or_absent

PATIENCE_S = 600  # that a version can be fetched after it was last handed out, while there is a newer one


class ServedFiles:
    """Copies of files, one of each version that somebody is given. Safe to use from any thread.

    A video grows with every clip, so all its versions together would take space with the square of its length: a new
    copy replaces those that were not handed out for PATIENCE_S. All go with the folder that their files are in.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._copies: dict[Path, dict[int, Path]] = {}  # file -> version -> copy

    def copy_of(self, file: Path, name: str | None = None) -> Path:
        """The copy of `file` as it is now, by its own name or by `name`; nothing is read unless the file has changed.

        Raises OSError if there is no such file, and DiskFull.
        """
        with self._lock:
            version = file.stat().st_mtime_ns
            copies = self._copies.setdefault(file, {})
            if version in copies and copies[version].is_file():
                os.utime(copies[version])
            else:
                _remove_stale(copies)
                copies[version] = _copied(file, name or file.name)
            return copies[version]

    def forget(self, folder: Path) -> None:
        """Remove the copies of all files in `folder`, which is gone."""
        with self._lock:
            for file in [file for file in self._copies if file.parent == folder]:
                for copy in self._copies.pop(file).values():
                    shutil.rmtree(copy.parent, ignore_errors=True)


def address_of(copy: Path) -> str:
    """Where the page, from its own place on, fetches a copy that was made here."""
    return f"gradio_api/file={quote(str(copy))}"


def _remove_stale(copies: dict[int, Path]) -> None:
    for version, copy in list(copies.items()):
        if not copy.is_file() or time.time() - copy.stat().st_mtime > PATIENCE_S:
            shutil.rmtree(copy.parent, ignore_errors=True)
            del copies[version]


def _copied(file: Path, name: str) -> Path:
    """A new copy of `file`, in a folder whose name is the key to it."""
    folder = Path(get_upload_folder()) / secrets.token_hex(32)
    folder.mkdir(parents=True)
    with whole_or_absent(folder / name) as part:
        shutil.copyfile(file, part)
    return folder / name
