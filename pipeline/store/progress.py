"""How fast the model arrives, in numbers, in words, and in the log."""

import logging
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeVar

from pipeline.events import ModelState

RATE_WINDOW_S = 20.0
LOG_EVERY_S = 30.0
LOG_EVERY_SHARE = 0.05
LOG_NOT_WITHIN_S = 1.0  # a small model would fill the log

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


class Meter:
    """The rate over the last 20 seconds. Times are seconds of one clock that does not jump."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, done: int, now: float) -> None:
        """`done` bytes are there at `now`. Fewer than before (a file is begun anew) start the measure anew."""
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] >= RATE_WINDOW_S:
            self._seen.popleft()

    @property
    def bytes_per_s(self) -> float | None:
        """The rate, None before there are two measures at least a second apart."""
        if not self._seen or self._seen[-1][0] - self._seen[0][0] < 1:
            return None
        (start, first), (end, last) = self._seen[0], self._seen[-1]
        return (last - first) / (end - start)

    def seconds_for(self, remaining: int) -> float | None:
        """How long `remaining` bytes take at this rate, None where that is not known."""
        return remaining / self.bytes_per_s if self.bytes_per_s else None


class ProgressLog:
    """A line in the log at each change of phase or attempt, every 30 seconds, and every 5 % of what takes its time."""

    def __init__(self, write: Callable[[str], None] = log.info) -> None:
        self._write = write
        self._last: ModelState | None = None
        self._time = 0.0

    def note(self, state: ModelState, now: float) -> None:
        """Write `state` at time `now` (seconds) if it is due."""
        if self._is_due(state, now - self._time):
            self._last, self._time = state, now
            self._write(f"{state.model}: {describe(state)}")

    def _is_due(self, state: ModelState, since_s: float) -> bool:
        last = self._last
        if last is None or (state.state, state.attempt) != (last.state, last.attempt):
            return True
        more = abs(state.bytes_done - last.bytes_done) >= LOG_EVERY_SHARE * max(state.bytes_total, 1)
        is_whole = state.bytes_done == state.bytes_total
        return since_s >= LOG_EVERY_S or (more and (since_s >= LOG_NOT_WITHIN_S or is_whole))


def describe(state: ModelState) -> str:
    """`state` in one line: "downloading 12.3 of 45.7 GB, 72.0 MB/s, 8 min left, FILE, attempt 2: message"."""
    parts = [state.state]
    if state.bytes_total:
        parts[0] += f" {share_in_units(state.bytes_done, state.bytes_total)}"
    if state.bytes_per_s:
        parts.append(f"{in_units(state.bytes_per_s)}/s")
    if state.eta_s is not None:
        parts.append(f"{_duration(state.eta_s)} left")
    if state.file:
        parts.append(state.file)
    if state.attempt > 1:
        parts.append(f"attempt {state.attempt}")
    return ", ".join(parts) + (f": {state.message}" if state.message else "")


def in_units(size: float) -> str:
    """`size` in bytes for people, in powers of ten as Hub and shops count: 45700000000 -> "45.7 GB"."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def share_in_units(done: int, total: int) -> str:
    """`done` of `total` bytes for people, in the units of the total: "12.3 of 45.7 GB"."""
    words = in_units(total)
    scale = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[words.split()[1]]
    return f"{done / scale:.1f} of {words}" if scale > 1 else f"{done} of {words}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def states_of(steps: Generator[T, None, R], state_of: Callable[[T], ModelState]) -> Generator[ModelState, None, R]:
    """The steps of a work as states to show; returns what the work returns."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        yield state_of(step)


def follow(states: Generator[ModelState, None, R], report: Callable[[ModelState], None]) -> R:
    """Report every state and return what the generator returns; whatever `report` raises stops the work."""
    with closing(states):
        while True:
            try:
                state = next(states)
            except StopIteration as end:
                return end.value
            report(state)
