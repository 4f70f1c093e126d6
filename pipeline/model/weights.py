"""The files that hold the weights: what is in them, and their tensors, read in sequence and never mapped.

A mapped file is read page by page when it is used, which on network volumes has been seen to take fifty times as long.
Here every byte is read once, in the order of the file and in large blocks. While one block is put into its place, in
the precision and on the device of the model, the next is being read: on two cores that took a quarter off the time of
a 4 GB transformer. No more than two blocks are held beside the tensors themselves.
"""

import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import BinaryIO

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline.errors import ModelUnavailable

BLOCK_BYTES = 16 * 2**20
BUFFER_BYTES = 8 * 2**20  # tensors shorter than that are read together
LONGEST_HEADER_BYTES = 100 * 2**20
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

Note = Callable[[int], None]


@dataclass(frozen=True)
class TensorRecord:
    """Where the numbers of a tensor begin in its file, in bytes, and how they are laid out from there on."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int

    @property
    def size_bytes(self) -> int:
        """Their length in the file."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class WeightFile:
    """A file of weights: its tensors by name, in the order of the file."""

    path: Path
    records: Mapping[str, TensorRecord]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape."""
        return {name: record.shape for name, record in self.records.items()}

    def tensors(
        self, device: torch.device, dtype_of: Callable[[str], torch.dtype], note: Note
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """(name, tensor on `device`, as precise as `dtype_of` its name says) for each tensor.

        `note` is told up to which byte of the file all is read. Raises ModelUnavailable, which names the file.
        """
        with closing(_blocks(self.path, self.records.values(), note)) as blocks:
            for name, record in self.records.items():
                values = torch.empty(math.prod(record.shape), dtype=dtype_of(name), device=device)
                filled = 0
                while filled < len(values):
                    block = next(blocks).view(record.dtype)
                    values[filled : filled + len(block)].copy_(block)
                    filled += len(block)
                yield name, values.as_strided(record.shape, record.stride)


def _blocks(path: Path, records: Iterable[TensorRecord], note: Note) -> Iterator[torch.Tensor]:
    """The bytes of `records`, uint8 (n,) with n up to BLOCK_BYTES and none across two tensors.

    A block is overwritten after the next one was asked for.
    """
    buffers = cycle(torch.empty(BLOCK_BYTES, dtype=torch.uint8) for _ in range(2))
    parts = [(record.offset + start, part) for record in records for start, part in _parts(record.size_bytes)]
    try:
        with path.open("rb", BUFFER_BYTES) as file, ThreadPoolExecutor(1) as reader:
            before: Future[tuple[int, torch.Tensor]] | None = None
            for (start, length), buffer in zip(parts, buffers, strict=False):
                coming = reader.submit(_read, file, start, buffer[:length])
                if before is not None:
                    yield _noted(before, note)
                before = coming
            if before is not None:
                yield _noted(before, note)
    except OSError as error:
        raise unreadable(path, error) from error


def _parts(length: int) -> Iterator[tuple[int, int]]:
    """(start, length) of the parts of so many bytes."""
    for start in range(0, length, BLOCK_BYTES):
        yield start, min(BLOCK_BYTES, length - start)


def _read(file: BinaryIO, start: int, block: torch.Tensor) -> tuple[int, torch.Tensor]:
    """Fill `block`; gives the byte after it, too.

    What was read is not wanted again while the program lives: the system is told to use that memory for what comes
    next. Else the files take as much again as the weights do, and a virtual machine, which gets memory from its host
    page by page, has been seen to take twice as long. Only a start soon after would have found them there.
    """
    file.seek(start)
    if file.readinto(memoryview(block.numpy())) < len(block):
        raise OSError("it ends too early")
    end = start + len(block)
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file.fileno(), 0, end, os.POSIX_FADV_DONTNEED)
    return end, block


def _noted(reading: "Future[tuple[int, torch.Tensor]]", note: Note) -> torch.Tensor:
    end, block = reading.result()
    note(end)
    return block


def open_weights(path: Path) -> WeightFile:
    """What is in a .safetensors or .pth file, from its header alone. Raises ModelUnavailable, which names the file."""
    records = _pickle_records(path) if path.suffix == ".pth" else _safetensors_records(path)
    size = path.stat().st_size
    for name, record in records.items():
        if record.offset < 0 or record.offset + record.size_bytes > size:
            raise ModelUnavailable(f"The model file {path} cannot be read: it ends before its tensor {name}.")
    return WeightFile(path, dict(sorted(records.items(), key=lambda item: item[1].offset)))


def _safetensors_records(path: Path) -> dict[str, TensorRecord]:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > LONGEST_HEADER_BYTES:
                raise ValueError("it has no header")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        return {name: _safetensors_record(values, 8 + length) for name, values in header.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise unreadable(path, error) from error


def _safetensors_record(values: Mapping[str, object], start: int) -> TensorRecord:
    first, end = values["data_offsets"]
    shape = tuple(map(int, values["shape"]))
    record = TensorRecord(DTYPES[values["dtype"]], shape, _contiguous(shape), start + first)
    if min(shape, default=0) < 0 or first < 0 or record.size_bytes != end - first:
        raise ValueError("its header contradicts itself")
    return record


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a tensor whose last dimension is the innermost."""
    return tuple(math.prod(shape[dimension + 1 :]) for dimension in range(len(shape)))


def _pickle_records(path: Path) -> dict[str, TensorRecord]:
    """Nothing but tensors is allowed in the file; no numbers are read."""
    try:
        with FakeTensorMode():  # torch.load then only says where the numbers are
            state = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise unreadable(path, error) from error
    except Exception as error:  # pickle.UnpicklingError and what hostile pickles raise
        raise ModelUnavailable(f"The model file {path} is not a file of weights: {reason(error)}.") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelUnavailable(f"The model file {path} is not a table of tensors.")
    return {name: _pickle_record(path, name, tensor) for name, tensor in state.items()}


def _pickle_record(path: Path, name: str, tensor: torch.Tensor) -> TensorRecord:
    extent = 1 + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.stride(), strict=True))
    if tensor.numel() and extent != tensor.numel():
        raise ModelUnavailable(f"The model file {path} has the tensor {name} in pieces, which is not supported.")
    start = tensor.untyped_storage()._checkpoint_offset + tensor.storage_offset() * tensor.element_size()
    return TensorRecord(tensor.dtype, tuple(tensor.shape), tensor.stride(), start)


def unreadable(path: Path, error: Exception) -> ModelUnavailable:
    """The error for a file that `error` keeps from being read."""
    return ModelUnavailable(f"The model file {path} cannot be read: {reason(error)}.")


def reason(error: Exception) -> str:
    """The first line of what `error` says, at most 200 characters of it."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return said.splitlines()[0][:200].rstrip(".") if said else type(error).__name__
