"""How long a start takes from nothing to a loaded model, against a plain read of its files, and in how much memory.

Both read from the disk: the system is told to forget the files before each. What is measured is a program of its own
(`python -m pipeline.benchmarks.loading FOLDER OPTIONS`), so that the start of Python and its libraries is in it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ModelUnavailable
from pipeline.events import ModelState
from pipeline.preparation import prepare_model
from pipeline.settings import read_settings
from pipeline.store.catalogue import entry_for

READ_BYTES = 8 * 2**20
SPARE_BYTES = 10**9  # of memory that loading may take beside the weights and the largest file


@dataclass(frozen=True)
class Loading:
    """Seconds and bytes of one measurement."""

    files_bytes: int
    largest_file_bytes: int
    plain_read_s: tuple[float, float]  # before and after the start that is measured
    libraries_s: float  # from the start of the program until it reads the first weights
    ready_s: float  # from the start of the program
    disk_bytes: int | None  # that the start had from the disk itself, None where the system does not count them
    weights_bytes: int  # in memory
    peak_bytes: int | None  # of memory, None where the system does not tell

    @property
    def ratio(self) -> float:
        """The time from start to ready, in plain reads."""
        return self.ready_s / self._plain_s

    @property
    def reading_ratio(self) -> float:
        """The time from the first byte to ready, in plain reads."""
        return (self.ready_s - self.libraries_s) / self._plain_s

    @property
    def allowed_bytes(self) -> int:
        """The peak of memory that is in order."""
        return self.weights_bytes + self.largest_file_bytes + SPARE_BYTES

    @property
    def _plain_s(self) -> float:
        return sum(self.plain_read_s) / len(self.plain_read_s)


def measure_loading(folder: Path, device: str | None, dtype: str | None) -> Loading:
    """Start on the checkpoint in `folder`. Raises ModelUnavailable where that fails."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    before = _plain_read(files)
    told, libraries_s, ready_s = _start(folder, files, device, dtype)
    sizes = [path.stat().st_size for path in files]
    return Loading(sum(sizes), max(sizes), (before, _plain_read(files)), libraries_s, ready_s, **told)


def _plain_read(files: list[Path]) -> float:
    """Seconds that reading the files one after the other takes.

    What was read is forgotten at once: to give the files memory costs a virtual machine more than to read them, and
    differs from time to time.
    """
    _forget(files)
    block, start = bytearray(READ_BYTES), time.perf_counter()
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(block):
                os.posix_fadvise(file.fileno(), 0, file.tell(), os.POSIX_FADV_DONTNEED)
    return time.perf_counter() - start


def _forget(files: list[Path]) -> None:
    """Have the system drop what it keeps of the files in memory. Raises ModelUnavailable where it cannot be told to."""
    if not hasattr(os, "posix_fadvise"):
        raise ModelUnavailable("This system cannot be told to forget files: the start is measured on Linux alone.")
    os.sync()  # what is not yet on the disk cannot be dropped
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _start(
    folder: Path, files: list[Path], device: str | None, dtype: str | None
) -> tuple[dict[str, Any], float, float]:
    """What the started program tells of itself, and the seconds until the first weights and until it is ready."""
    _forget(files)
    command = [sys.executable, "-m", __name__, str(folder), json.dumps({"device": device, "dtype": dtype})]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        lines = [(time.perf_counter() - start, line) for line in program.stdout]
    if program.returncode != 0:
        raise ModelUnavailable(f"The program that was to load {folder} ended with status {program.returncode}.")
    (libraries_s, _), (ready_s, told) = lines[0], lines[-1]
    return json.loads(told), libraries_s, ready_s


def main(folder: Path, options: dict[str, Any]) -> None:
    """The program that is measured: prints a line for each block that it reads, and its figures at the end."""

    def report(state: ModelState) -> None:
        if state.bytes_total:
            print(state.bytes_done, flush=True)

    model = prepare_model(entry_for(str(folder)), read_settings(), report, **options)
    weights = sum(tensor.nbytes for part in vars(model.parts).values() for tensor in _tensors(part))
    peak, disk = _own("status", "VmHWM"), _own("io", "read_bytes")
    told = {"weights_bytes": weights, "peak_bytes": peak and peak * 1024, "disk_bytes": disk}
    print(json.dumps(told), flush=True)


def _tensors(part: Any) -> Iterator[Any]:
    return part.parameters() if hasattr(part, "parameters") else iter(())


def _own(file: str, name: str) -> int | None:
    """A number that the system tells of this process."""
    try:
        lines = Path("/proc/self", file).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
