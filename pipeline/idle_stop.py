"""IDLE_STOP_MINUTES: a RunPod pod without work stops itself, for it costs its price as long as it runs.

Stopping is asked of RunPod, which ends the program and keeps the volume, jobs and results included.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import httpx

from pipeline.errors import InvalidSetting, UserError
from pipeline.jobs.status import ENDED
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.jobs.queue import JobQueue
    from pipeline.jobs.team import Team
    from pipeline.jobs.worker import Worker

logger = logging.getLogger(__name__)

API = "https://api.runpod.io"
# As RunPod's own tools do it, for whose use every pod has its key.
STOP = "mutation Stop($pod: String!) { podStop(input: {podId: $pod}) { id desiredStatus } }"
ANSWER_S = 30.0
LOOK_S = 1.0  # between two looks whether there is work
AGAIN_S = 60.0  # after a try, whatever came of it: who is still here then was not stopped


@dataclass(frozen=True)
class Pod:
    """A pod of RunPod's, and where and with which key its API is asked."""

    id: str
    key: str = field(repr=False)
    api: str = API


def this_pod() -> Pod:
    """The pod that this program runs in. Raises InvalidSetting where it runs in none."""
    pod, key = os.environ.get("RUNPOD_POD_ID"), os.environ.get("RUNPOD_API_KEY")
    if not pod or not key:
        missing = "RUNPOD_POD_ID" if not pod else "RUNPOD_API_KEY"
        raise InvalidSetting(f"IDLE_STOP_MINUTES is for RunPod's pods alone, and {missing} is not set: leave it out.")
    return Pod(pod, key, os.environ.get("RUNPOD_API_BASE_URL") or API)  # the variable is of RunPod's own package


def stop_pod(pod: Pod) -> None:
    """Ask RunPod to stop `pod`. Raises UserError if it does not say that it will."""
    question = {"query": STOP, "variables": {"pod": pod.id}}
    try:
        answer = httpx.post(
            f"{pod.api}/graphql", json=question, headers={"Authorization": f"Bearer {pod.key}"}, timeout=ANSWER_S
        )
        told = answer.json() if answer.status_code == 200 else {}
        stopped = told["data"]["podStop"]["desiredStatus"] == "EXITED"
    except httpx.HTTPError as error:
        raise UserError(f"RunPod's API could not be reached ({type(error).__name__}).") from error
    except (ValueError, KeyError, TypeError):
        stopped = False
    if not stopped:
        raise UserError(f"RunPod did not stop the pod (status {answer.status_code}): stop it in RunPod's console.")


def has_work(queue: "JobQueue", worker: "Worker | Team") -> bool:
    """Whether a job waits or is done, or the model is on its way. To wait for a model that failed is no work."""
    state = worker.model_state.state
    if state == "failed":
        return False
    on_its_way = state in ("checking", "waiting", "downloading", "loading")
    return on_its_way or any(status.state not in ENDED for status in queue.all())


@dataclass(frozen=True)
class IdleState:
    """`stops_in_s`: seconds until the pod is stopped, None while there is work; `trouble`: why it still runs."""

    stops_in_s: float | None
    trouble: str = ""


class IdleStop:
    """Calls `stop` once there has been no work for `idle_s` seconds; `is_busy` says whether there is some."""

    def __init__(self, idle_s: float, is_busy: Callable[[], bool], stop: Callable[[], None]) -> None:
        self.idle_s = idle_s
        self.is_busy = is_busy
        self.stop = stop
        self._due = time.monotonic() + idle_s
        self._trouble = ""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="idle stop", daemon=True)

    def start(self) -> None:
        """Begin to count."""
        self.stay()
        self._thread.start()

    def close(self) -> None:
        """Count no longer."""
        self._closing.set()

    def stay(self) -> None:
        """Begin the time anew: somebody wants the pod to go on."""
        self._due = time.monotonic() + self.idle_s
        self._trouble = ""

    @property
    def state(self) -> IdleState:
        """How long it still is."""
        left = None if self.is_busy() else max(0.0, self._due - time.monotonic())
        return IdleState(left, self._trouble)

    def _watch(self) -> None:
        while not self._closing.wait(min(LOOK_S, max(0.0, self._due - time.monotonic()))):
            if self.is_busy():
                self.stay()
            elif time.monotonic() >= self._due:
                self._try()

    def _try(self) -> None:
        logger.info("There has been no work for %.0f minutes: the pod is stopped.", self.idle_s / 60)
        self._due = time.monotonic() + AGAIN_S
        try:
            self.stop()
            self._trouble = ""
        except UserError as error:
            self._trouble = str(error)
            logger.error("The pod runs on without work: %s", error)
        except Exception:
            self._trouble = "The pod could not be stopped; the program's log says why."
            logger.exception("The pod runs on without work")


def idle_stop_of(settings: Settings, queue: "JobQueue", worker: "Worker | Team") -> IdleStop | None:
    """What stops this pod when `queue` and `worker` have had nothing to do for IDLE_STOP_MINUTES, if that is set.

    Raises InvalidSetting.
    """
    if settings.idle_stop_minutes is None:
        return None
    return IdleStop(settings.idle_stop_minutes * 60, partial(has_work, queue, worker), partial(stop_pod, this_pod()))
