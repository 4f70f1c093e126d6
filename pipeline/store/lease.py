"""Who downloads: of several programs on one folder, perhaps on several machines, the one whose lease file is there.

No file locks: on network volumes they hang, or let everybody in. The lease is a file that its holder makes with
O_EXCL and rewrites every second; who waits and sees it unchanged for long enough, by the waiter's own clock, puts its
own in place. Two holders at once are possible for a moment (a machine that was suspended); the one that finds the
other's lease in place of its own steps back. That costs bytes, never a wrong file, since files arrive under names of
their own and are renamed when they are whole.
"""

import json
import logging
import math
import os
import socket
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.events import ModelState
from pipeline.store.manifest import write_whole

LEASE = ".lease.json"
FALTERS = b""  # what is read of a lease where the volume gives an error
SETTLE_S = 0.5  # after a takeover, until it is certain who came last

log = logging.getLogger(__name__)


class LeaseLost(Exception):
    """Another program has taken the folder over."""


@dataclass(frozen=True)
class Holder:
    """What a lease says of the program that holds it. `place` is where `pid` means something."""

    token: str
    host: str
    place: str
    pid: int
    beat: int
    state: ModelState | None


class Lease:
    """The right to write into `folder`, kept alive by `beat`. Leaving the `with` block gives it back."""

    def __init__(self, folder: Path, token: str) -> None:
        self._path, self._token, self._beats = folder / LEASE, token, 0

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self.is_held:
                self._path.unlink()
        except OSError as error:  # it will be taken over as one that nobody keeps alive
            log.warning("The lease %s could not be given back: %s", self._path, error)

    @property
    def is_held(self) -> bool:
        """Whether no other program has taken it over."""
        holder = read_holder(self._path)
        return holder is not None and holder.token == self._token

    def beat(self, state: ModelState) -> None:
        """Show that the holder lives, and `state` to those who wait, if the volume lets it. Raises LeaseLost."""
        if _read(self._path) == FALTERS:
            return
        if not self.is_held:
            raise LeaseLost
        self._beats += 1
        write_whole(self._path, _note(self._token, self._beats, state))


def acquire(folder: Path) -> Lease | None:
    """The lease of `folder`, None if another program holds it."""
    token = uuid.uuid4().hex
    try:
        descriptor = os.open(folder / LEASE, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except FileExistsError:
        return None
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(_note(token, 0, None))
    except OSError:
        (folder / LEASE).unlink()
        raise
    return Lease(folder, token)


class LeaseWatch:
    """What one who waits sees of another's lease, and for how long it has not changed."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._path = folder, folder / LEASE
        self._content: bytes | None = None
        self._changed = time.monotonic()

    def look(self) -> Holder | None:
        """Who holds the lease now; None if nobody does, or the lease cannot be read (yet)."""
        content = _read(self._path)
        if content != self._content:
            self._content, self._changed = content, time.monotonic()
        return _parse(content)

    @property
    def is_free(self) -> bool:
        """Whether there was no lease at the last look."""
        return self._content is None

    @property
    def silent_s(self) -> float:
        """Seconds for which the holder has shown no sign of life; endless if it is known to be dead."""
        holder = _parse(self._content)
        if holder is not None and holder.place and holder.place == _place() and not _is_running(holder.pid):
            return math.inf
        return time.monotonic() - self._changed

    def take_over(self) -> Lease | None:
        """Put a lease of one's own in place of the one last seen; None if others were faster."""
        if _read(self._path) != self._content:
            return None
        token = uuid.uuid4().hex
        write_whole(self._path, _note(token, 0, None))
        time.sleep(SETTLE_S)
        lease = Lease(self._folder, token)
        return lease if lease.is_held else None


def read_holder(path: Path) -> Holder | None:
    """Who holds the lease `path`; None if nobody does, or it cannot be read (yet)."""
    return _parse(_read(path))


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError:  # a network volume that falters: somebody holds it, and shows no sign of life for now
        return FALTERS


def _parse(content: bytes | None) -> Holder | None:
    try:
        values = json.loads(content or b"")
        state = values["state"]
        return Holder(**values | {"state": None if state is None else ModelState(**state)})
    except (ValueError, TypeError, KeyError):  # being written, or by another version of the program
        return None


def _note(token: str, beat: int, state: ModelState | None) -> bytes:
    return json.dumps(asdict(Holder(token, socket.gethostname(), _place(), os.getpid(), beat, state))).encode()


def _place() -> str:
    """Names what gives process numbers their meaning: this boot of this machine, and the container. "" if unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
