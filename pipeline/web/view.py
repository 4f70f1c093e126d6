"""What one browser is shown at one moment, computed anew each time; the page sends only what has changed."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.events import ModelState
from pipeline.jobs.status import ENDED, Status
from pipeline.store.progress import in_units
from pipeline.web.cards import duration, idle_line, job_card, model_card
from pipeline.web.studio import Studio

REMEMBERED_JOBS = 50  # of one browser
BUSY_SECONDS, IDLE_SECONDS = 1.0, 5.0  # between two looks


@dataclass(frozen=True)
class KnownJob:
    """A job that this browser has submitted `at` (seconds since 1970)."""

    job: str
    at: float


@dataclass(frozen=True)
class Video:
    """A video file in one of its versions: it grows with every clip."""

    path: Path
    version: int


@dataclass(frozen=True)
class History:
    """The jobs of a browser, the newest first, as (label, id), and the one that is shown."""

    labels: tuple[tuple[str, str], ...]
    chosen: str | None


@dataclass(frozen=True)
class View:
    """All that can change on the page by itself."""

    idle: str  # HTML, empty where there is nothing to say
    model: str  # HTML
    go_on: str | None  # what the button says that the model waits for
    job: str  # HTML
    active: bool  # whether the job can be cancelled
    video: Video | None
    history: History
    next_look_s: float


def known_jobs(stored: Any) -> list[KnownJob]:
    """What a browser has stored, as far as it makes sense: its storage is in its user's hands."""
    entries = stored if isinstance(stored, list) else []
    jobs = [
        KnownJob(entry["job"], float(entry["at"]))
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("job"), str) and isinstance(entry.get("at"), int | float)
    ]
    return jobs[:REMEMBERED_JOBS]


def look(studio: Studio, jobs: list[KnownJob], chosen: Any) -> View:
    """What the browser that knows `jobs` is shown; of these `chosen`, or the newest that there is."""
    statuses = studio.queue.history(job.job for job in jobs)
    status = next((status for status in statuses if status.job == chosen), statuses[0] if statuses else None)
    state = studio.worker.model_state
    active = status is not None and status.state not in ENDED
    return View(
        idle=idle_line(studio.idle.state) if studio.idle else "",
        model=model_card(state, studio.entry),
        go_on=_go_on(state),
        job=job_card(status, _jobs_ahead(studio, status)),
        active=active,
        video=_video_of(studio, status),
        history=History(tuple(_labels(studio, statuses, jobs)), status.job if status else None),
        next_look_s=BUSY_SECONDS if active or state.state != "ready" else IDLE_SECONDS,
    )


def _go_on(state: ModelState) -> str | None:
    if state.state == "asking":
        return f"Download {in_units(state.bytes_total)}"
    return "Try again" if state.state == "failed" else None


def _jobs_ahead(studio: Studio, status: Status | None) -> int:
    if status is None or status.state != "queued":
        return 0
    running = sum(other.state == "running" for other in studio.queue.all())
    return status.position - 1 + running


def _video_of(studio: Studio, status: Status | None) -> Video | None:
    path = studio.queue.video(status.job) if status else None
    return Video(path, path.stat().st_mtime_ns) if path else None


def _labels(studio: Studio, statuses: Iterable[Status], jobs: Iterable[KnownJob]) -> Iterable[tuple[str, str]]:
    submitted = {job.job: job.at for job in jobs}
    for status in statuses:
        prompt = studio.queue.request(status.job).prompt
        short = prompt if len(prompt) <= 40 else prompt[:39] + "…"
        yield f"{short} · {status.state} · {_ago(time.time() - submitted[status.job])}", status.job


def _ago(seconds: float) -> str:
    if seconds < 60:
        return "just now"
    if seconds < 86_400:
        return f"{duration(seconds // 60 * 60 if seconds < 3600 else seconds // 3600 * 3600)} ago"
    return f"{seconds // 86_400:.0f} d ago"
