"""One program's download of a model into a folder, under the folder's lease: again and again until it is whole."""

import errno
import logging
import shutil
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import ModelUnavailable
from pipeline.events import ModelPhase, ModelState
from pipeline.store.catalogue import ModelEntry
from pipeline.store.disk_space import require_space
from pipeline.store.hub_process import HubProcess
from pipeline.store.lease import Lease
from pipeline.store.listing import ask_for_listing
from pipeline.store.manifest import (
    MANIFEST,
    Manifest,
    ModelFile,
    read_manifest,
    same_content,
    size_on_disk,
    write_manifest,
    wrong_sizes,
)
from pipeline.store.progress import Meter, ProgressLog, in_units, states_of
from pipeline.store.troubles import Failure, Interrupted, trouble

QUIET_S = 10.0  # without a byte, before people are told
LONGEST_PAUSE_S = 300.0
# Errors of the file system that trying again does not mend. Others pass: a network volume may falter for a moment.
LASTING_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR)
HUB_RECORDS = ".cache"  # in the folder: where huggingface_hub keeps files in flight, locks and notes
IN_FLIGHT = "*.incomplete"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempt:
    """How one try differs from another: with or without the Xet protocol, and how many files at a time."""

    xet: bool
    workers: int


# Eight workers as `hf download`; without Xet where that hangs; fewer files at a time lose less when a line breaks.
ATTEMPTS = (Attempt(True, 8), Attempt(True, 8), Attempt(False, 8), Attempt(False, 2), Attempt(False, 1))


@dataclass(frozen=True)
class Pace:
    """How long things may take, in seconds. There is one try more than there are pauses."""

    poll_s: float = 1.0
    stall_s: float = 120.0  # without a byte; then the download is begun anew
    lease_stale_s: float = 60.0  # without a sign of life from who downloads; then another takes over
    pauses_s: tuple[float, ...] = (5, 15, 30, 60, 120)


class Download:
    """A download of `entry` into `folder`, under its `lease`. Without a `manifest` the Hub is asked what to fetch."""

    def __init__(
        self,
        entry: ModelEntry,
        folder: Path,
        lease: Lease,
        volume_gb: float | None,
        pace: Pace,
        manifest: Manifest | None = None,
    ) -> None:
        self._entry, self._folder, self._lease, self._volume_gb, self._pace = entry, folder, lease, volume_gb, pace
        self._manifest = manifest
        self._working: dict[str, None] = {}  # files in flight, in the order of their start
        self._attempt = 0
        self._fruitless = 0  # tries since a file was last finished: while files arrive, the download goes on
        self._meter, self._log = Meter(), ProgressLog()
        self._last_beat = 0.0
        self._done = 0  # bytes, when they were last looked at

    def run(self) -> Iterator[ModelState]:
        """Fetch what is missing. Raises ModelUnavailable or DiskFull where that fails for good, and LeaseLost.

        Finished files are kept whatever happens; files in flight are not, for huggingface_hub begins them anew.
        """
        try:
            while not (yield from self._try_once()):
                pass
        finally:
            self._sweep()
        shutil.rmtree(self._folder / HUB_RECORDS, ignore_errors=True)

    def _try_once(self) -> Generator[ModelState, None, bool]:
        """Whether all is there afterwards."""
        self._sweep()
        self._attempt += 1
        attempt = ATTEMPTS[min(self._fruitless, len(ATTEMPTS) - 1)]
        try:
            with HubProcess(attempt.xet) as process:
                if self._manifest is None:
                    self._manifest = yield from self._plan(process)
                yield from self._fetch(process, attempt.workers)
        except Interrupted as interruption:
            yield from self._pause(interruption)
            return False
        except OSError as error:
            if error.errno in LASTING_ERRORS:
                raise
            yield from self._pause(Interrupted(f"the volume answered with an error ({error.strerror or error})"))
            return False
        write_manifest(self._folder, replace(self._manifest, complete=True))
        return True

    def _plan(self, process: HubProcess) -> Generator[ModelState, None, Manifest]:
        """Learn what there is to fetch, drop what does not belong to it, and see that it fits on the disk."""
        listing = ask_for_listing(process, self._entry, self._folder, self._pace.poll_s, self._pace.stall_s)
        asking = "asking the Hub for the list of files"
        manifest = yield from states_of(listing, lambda waited_s: self._tell("checking", message=asking))
        known = read_manifest(self._folder)
        for file in manifest.files:
            yield from self._keep_or_drop(file, known)
        self._drop_strangers(manifest, known)
        needed = sum(file.size for file in self._missing(manifest))
        for counted in require_space(self._folder, needed, self._volume_gb):
            yield self._tell("checking", message=f"adding up what is on the volume, {in_units(counted)} so far")
        write_manifest(self._folder, manifest)
        return manifest

    def _keep_or_drop(self, file: ModelFile, known: Manifest | None) -> Iterator[ModelState]:
        """Remove what stands in the place of `file` and is not it. What no manifest vouches for is read and hashed."""
        path = self._folder / file.path
        size = size_on_disk(path)
        if size is None:
            return
        same = size == file.size
        if same and (known is None or known.digest_of(file.path) is None):
            same = yield from self._compare(path, file)
        elif same:
            same = known.digest_of(file.path) == file.digest
        if not same:
            log.warning("%s is not the file that the Hub has and is fetched again.", path)
            path.unlink()

    def _compare(self, path: Path, file: ModelFile) -> Generator[ModelState, None, bool]:
        reading = "checking a file that was there already"
        return (
            yield from states_of(
                same_content(path, file), lambda done: self._tell("checking", done, file.size, file.path, reading)
            )
        )

    def _drop_strangers(self, manifest: Manifest, known: Manifest | None) -> None:
        """Remove the files of another revision that this one does not have."""
        for file in known.files if known is not None else ():
            if manifest.digest_of(file.path) is None:
                (self._folder / file.path).unlink(missing_ok=True)

    def _missing(self, manifest: Manifest) -> list[ModelFile]:
        """The files still to fetch, the longest first, so that none is left alone at the end."""
        missing = [file for file in manifest.files if size_on_disk(self._folder / file.path) != file.size]
        return sorted(missing, key=lambda file: -file.size)

    def _fetch(self, process: HubProcess, workers: int) -> Iterator[ModelState]:
        missing = self._missing(self._manifest)
        self._working.clear()
        process.ask(
            do="fetch",
            repository=self._manifest.repository,
            commit=self._manifest.commit,
            folder=str(self._folder),
            files=[file.path for file in missing],
            workers=workers,
        )
        yield from self._watch(process)
        if wrong := wrong_sizes(self._folder, self._manifest.files):
            raise Interrupted("; ".join(wrong))

    def _watch(self, process: HubProcess) -> Iterator[ModelState]:
        """Follow the process until it has fetched everything. Raises Interrupted where no byte comes any more."""
        moved_at, seen = time.monotonic(), -1
        while True:
            reports = process.reports(self._pace.poll_s)
            ends = [self._is_end(report) for report in reports]
            done, now = bytes_on_disk(self._folder, self._manifest.files), time.monotonic()
            self._done = done
            if reports or done != seen:
                moved_at, seen = now, done
            if (quiet := now - moved_at) >= self._pace.stall_s:
                raise Interrupted(f"no data has come for {quiet:.0f} s")
            message = ""
            if quiet >= QUIET_S:
                message = f"no data for {quiet:.0f} s; after {self._pace.stall_s:.0f} s the download is tried anew"
            yield self._tell("downloading", done, self._manifest.total_bytes, next(iter(self._working), None), message)
            if any(ends):
                return

    def _is_end(self, report: dict[str, Any]) -> bool:
        """Take note of a report of the process; whether it was the last."""
        if "started" in report:
            self._working[report["started"]] = None
        elif "finished" in report:
            self._working.pop(report["finished"], None)
            self._fruitless = 0
        elif "failed" in report:
            failure = Failure(**report["failed"])
            raise trouble(failure, self._manifest.repository, self._manifest.commit, self._folder)
        return "fetched" in report

    def _pause(self, interruption: Interrupted) -> Iterator[ModelState]:
        """Wait before the next try, longer each time. Raises ModelUnavailable where there were enough."""
        self._fruitless += 1
        if self._fruitless > len(self._pace.pauses_s):
            raise ModelUnavailable(
                f"The download of {self._entry.title} failed {self._fruitless} times in a row, at last because "
                f"{interruption}: check the network of this machine and start again, finished files are kept."
            ) from interruption
        pause = self._pace.pauses_s[self._fruitless - 1]
        end = time.monotonic() + min(max(pause, interruption.retry_after_s or 0), LONGEST_PAUSE_S)
        log.warning("%s: %s.", self._entry.title, interruption)
        while (left := end - time.monotonic()) > 0:
            total = self._manifest.total_bytes if self._manifest else 0
            yield self._tell("downloading", self._done, total, None, f"{interruption}; trying again in {left:.0f} s")
            time.sleep(min(left, self._pace.poll_s))

    def _tell(
        self, phase: ModelPhase, done: int = 0, total: int = 0, file: str | None = None, message: str = ""
    ) -> ModelState:
        """The state to show; on the way it goes into the log and, as a sign of life, into the lease.

        With a `message` nothing is coming at the moment, so that there is no rate to tell.
        """
        now = time.monotonic()
        if phase == "downloading":
            self._meter.note(done, now)
        state = ModelState(
            state=phase,
            model=self._entry.name,
            bytes_done=done,
            bytes_total=total,
            bytes_per_s=None if message else self._meter.bytes_per_s,
            eta_s=None if message else self._meter.seconds_for(total - done),
            file=file,
            attempt=self._attempt,
            message=message,
        )
        if now - self._last_beat >= min(1.0, self._pace.lease_stale_s / 5):
            self._lease.beat(state)
            self._last_beat = now
        self._log.note(state, now)
        return state

    def _sweep(self) -> None:
        """Remove what dead downloads left: files in flight, which nobody goes on with, and locks that nobody holds.

        Only under the lease: after it was lost, the files in flight are another's.
        """
        if not self._lease.is_held:
            return
        records = self._folder / HUB_RECORDS
        for path in (*records.rglob(IN_FLIGHT), *records.rglob("*.lock"), *self._folder.glob(f"{MANIFEST}.*.tmp")):
            path.unlink(missing_ok=True)


def bytes_on_disk(folder: Path, files: Sequence[ModelFile]) -> int:
    """Bytes of the finished ones of `files`, and of those in flight as far as they have got; never more than of all."""
    while True:
        in_flight = {path: _written_bytes(path) for path in (folder / HUB_RECORDS).rglob(IN_FLIGHT)}
        finished = sum(file.size for file in files if size_on_disk(folder / file.path) == file.size)
        if all(path.exists() for path in in_flight):  # none was finished meanwhile, and counted twice or not at all
            return min(finished + sum(in_flight.values()), sum(file.size for file in files))


def _written_bytes(path: Path) -> int:
    """Length of a file in flight, as far as it is written: Xet may give it its full length at the start."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0
    return min(status.st_size, status.st_blocks * 512) if status.st_blocks else status.st_size
