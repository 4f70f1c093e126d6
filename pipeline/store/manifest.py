"""What a downloaded folder holds: every file with its length and its hash, kept beside the files."""

import hashlib
import json
import logging
import os
import time
import uuid
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path

MANIFEST = ".manifest.json"
TELL_EVERY_S = 0.5
READ_BYTES = 8 * 2**20  # large reads: small ones are slow on network volumes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFile:
    """One file. `digest` is as the Hub lists it: SHA-256 (64 digits) or, for small files, git's SHA-1 of the blob."""

    path: str  # relative to the folder, with `/`
    size: int  # bytes
    digest: str


@dataclass(frozen=True)
class Manifest:
    """The files of a model at `commit`; `revision` is what was asked for, perhaps a branch.

    Until the download has ended it is there with `complete` false and says what the files will be: each of them
    that has its length was fetched whole.
    """

    repository: str
    revision: str
    commit: str
    files: tuple[ModelFile, ...]
    complete: bool

    @property
    def total_bytes(self) -> int:
        """Length of all files together."""
        return sum(file.size for file in self.files)

    def digest_of(self, path: str) -> str | None:
        """The hash of the file `path`, None where it is not listed."""
        return next((file.digest for file in self.files if file.path == path), None)


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest in `folder`; None where there is none that can be read."""
    try:
        values = json.loads((folder / MANIFEST).read_bytes())
        return Manifest(**values | {"files": tuple(ModelFile(**file) for file in values["files"])})
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.warning("%s cannot be read and is taken as missing: %s", folder / MANIFEST, error)
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put `manifest` into `folder` in one step."""
    write_whole(folder / MANIFEST, json.dumps(asdict(manifest), indent=1).encode())


def write_whole(path: Path, content: bytes) -> None:
    """Replace the file `path` in one step; nothing is left behind where that fails."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def size_on_disk(path: Path) -> int | None:
    """Length of the file `path` in bytes, None where there is none."""
    try:
        return path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def wrong_sizes(folder: Path, files: tuple[ModelFile, ...]) -> list[str]:
    """A phrase for each of `files` that is missing from `folder` or has another length."""
    phrases = []
    for file in files:
        size = size_on_disk(folder / file.path)
        if size is None:
            phrases.append(f"{file.path} is missing")
        elif size != file.size:
            phrases.append(f"{file.path} has {size} bytes instead of {file.size}")
    return phrases


def same_content(path: Path, file: ModelFile) -> Generator[int, None, bool]:
    """Hash `path` and compare it with `file`: returns whether it is the same.

    Yields the bytes read so far, twice a second and at the end.
    """
    if len(file.digest) == 40:
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        digest = hashlib.sha256()
    done, told = 0, time.monotonic()
    with path.open("rb") as stream:
        while block := stream.read(READ_BYTES):
            digest.update(block)
            done += len(block)
            if time.monotonic() - told >= TELL_EVERY_S:
                yield done
                told = time.monotonic()
    yield done
    return digest.hexdigest() == file.digest
