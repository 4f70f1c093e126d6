"""Several workers on one queue, each with a model of its own: so many jobs are done at once.

They are threads of one process: Python only tells cards and cores what to compute, and leaves the rest of the time to
the others. So there is one queue, one page and one state, and nothing has to be carried between processes.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from pipeline.events import ModelState
from pipeline.jobs.queue import JobQueue
from pipeline.jobs.worker import Model, Prepare, Worker


class Team:
    """A worker on `queue` for each of `prepares`; to whoever looks they are as one, which begins when the first can.

    The first makes its model ready alone: it asks, fetches, and tells how far it is. The others follow once it is
    ready, and one after the other, for libraries change their own globals while they load. Of one that fails then the
    state tells, and the others work on without it.
    """

    def __init__(self, queue: JobQueue, prepares: Sequence[Prepare]) -> None:
        self.queue = queue
        first, *others = prepares
        self.workers = [Worker(queue, partial(self._lead, first))]
        self.workers += [Worker(queue, partial(self._follow, prepare)) for prepare in others]
        self._may_follow = threading.Event()
        self._loading = threading.Lock()

    @property
    def model_state(self) -> ModelState:
        """That of the first worker; once it is ready, with how many others are."""
        first, *others = (worker.model_state for worker in self.workers)
        if first.state != "ready" or not others:
            return first
        ready = 1 + sum(other.state == "ready" for other in others)
        failures = [f"worker {i}: {other.message}" for i, other in enumerate(others, 2) if other.state == "failed"]
        told = [first.message, f"{ready} of {len(self.workers)} workers are ready", *failures]
        return replace(first, message="; ".join(filter(None, told)))

    def start(self) -> None:
        """Begin. A team is started once."""
        for worker in self.workers:
            worker.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """End as Worker.stop does, all at once and in `timeout_s` together."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self.queue.expect_stop()
        for worker in self.workers:
            worker.tell_to_stop()
        self._may_follow.set()
        for worker in self.workers:
            worker.join(None if deadline is None else max(0.0, deadline - time.monotonic()))

    def go_on(self) -> None:
        """As Worker.go_on, for each that waits for it."""
        for worker in self.workers:
            worker.go_on()

    def _lead(self, prepare: Prepare, report: Callable[[ModelState], None]) -> Model:
        model = prepare(report)
        self._may_follow.set()
        return model

    def _follow(self, prepare: Prepare, report: Callable[[ModelState], None]) -> Model:
        self._may_follow.wait()
        with self._loading:
            report(ModelState("checking", ""))  # raises where the team was told to stop meanwhile
            return prepare(report)
