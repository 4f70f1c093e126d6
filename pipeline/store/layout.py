"""Whether a folder holds a whole model: by its manifest, or, where somebody else filled it, by the files themselves."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.store.catalogue import ModelEntry, matches
from pipeline.store.manifest import Manifest, read_manifest, wrong_sizes


def shortcoming(folder: Path, entry: ModelEntry) -> str | None:
    """What `folder` lacks to be the whole model of `entry`, as a phrase; None where it is whole.

    Reads lengths and headers, some kilobytes in all, and writes nothing: quick at every start.
    """
    if not folder.is_dir():
        return "there is no such folder"
    try:
        manifest = read_manifest(folder)
        phrases = _flaws(folder, entry) if manifest is None else _differences(folder, entry, manifest)
        return next(phrases, None)
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"


def _differences(folder: Path, entry: ModelEntry, manifest: Manifest) -> Iterator[str]:
    if entry.repository is not None and entry.repository != manifest.repository:
        yield f"it holds {manifest.repository}"
    if entry.repository is not None and entry.revision not in (manifest.revision, manifest.commit):
        yield f"it holds revision {manifest.commit}"
    if not manifest.complete:
        yield "its download has not ended"
    for pattern in entry.required:
        if not any(matches(file.path, pattern) for file in manifest.files):
            yield f"{pattern} is missing"
    yield from wrong_sizes(folder, manifest.files)


def _flaws(folder: Path, entry: ModelEntry) -> Iterator[str]:
    for pattern in entry.required:
        paths = sorted(folder.glob(pattern))
        if not paths:
            yield f"{pattern} is missing"
        for path in paths:
            if _is_cut_off(path):
                yield f"{path.relative_to(folder)} is damaged or not wholly there"
    for index in folder.glob("*.safetensors.index.json"):
        yield from _missing_shards(index)


def _missing_shards(index: Path) -> Iterator[str]:
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, TypeError, KeyError, AttributeError):
        yield f"{index.name} is damaged"
        return
    yield from (f"{name} is missing" for name in names if not (index.parent / str(name)).is_file())


def _is_cut_off(path: Path) -> bool:
    """Whether the file's own header or end record says that it has another length."""
    if path.suffix == ".safetensors":
        return path.stat().st_size != _safetensors_length(path)
    if path.suffix == ".pth":  # PyTorch's archives are zip files, whose directory is at the end
        return not zipfile.is_zipfile(path)
    return path.stat().st_size == 0


def _safetensors_length(path: Path) -> int | None:
    """Length in bytes that the header of a safetensors file stands for, None where it cannot be read."""
    with path.open("rb") as stream:
        header_length = int.from_bytes(stream.read(8), "little")
        if header_length > path.stat().st_size:
            return None
        try:
            header = json.loads(stream.read(header_length))
            tensors = [values for name, values in header.items() if name != "__metadata__"]
            return 8 + header_length + max((tensor["data_offsets"][1] for tensor in tensors), default=0)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError):
            return None
