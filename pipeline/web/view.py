"""What one browser is shown at one moment, computed anew each time."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.events import ModelState
from pipeline.jobs.status import ENDED, Status
from pipeline.store.progress import in_units
from pipeline.web.cards import GalleryEntry, Shown, gallery, idle_line, job_card, jpeg_url, model_card, settings_card
from pipeline.web.served_files import address_of
from pipeline.web.studio import Studio

REMEMBERED_JOBS = 50  # of one browser
BUSY_SECONDS, SLOW_SECONDS, IDLE_SECONDS = 1.0, 3.0, 5.0  # between two looks
END_OF_TIME = 1e11  # seconds since 1970
SHORT_PROMPT = 60  # letters of one in the gallery


@dataclass(frozen=True)
class KnownJob:
    """A job that this browser has submitted `at` (seconds since 1970)."""

    job: str
    at: float


@dataclass(frozen=True)
class View:
    """All that can change on the page by itself."""

    idle: str  # HTML, empty where there is nothing to say
    model: str  # HTML
    go_on: str | None  # what the button says that the model waits for
    job: str  # HTML
    active: bool  # whether the job can be cancelled
    ended: bool  # whether there is a job that can be deleted, and whose settings can be used again
    whole: bool  # whether it can be continued
    download: Path | None  # the video, by the name that it is saved under
    settings: str  # HTML
    history: str  # HTML
    chosen: str | None  # the id of the job that is shown
    next_look_s: float

    @property
    def steady(self) -> "View":
        """What does not move with every look."""
        return replace(self, job="", model="")


def known_jobs(stored: Any) -> list[KnownJob]:
    """What a browser has stored, as far as it makes sense: its storage is in its user's hands."""
    entries = stored if isinstance(stored, list) else []
    jobs = [
        KnownJob(entry["job"], float(entry["at"]))
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("job"), str) and _is_time(entry.get("at"))
    ]
    return jobs[:REMEMBERED_JOBS]


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < END_OF_TIME


def look(studio: Studio, jobs: list[KnownJob], chosen: Any) -> View:
    """What the browser that knows `jobs` is shown; of these `chosen`, or the newest that there is."""
    statuses = studio.queue.history(job.job for job in jobs)
    status = next((status for status in statuses if status.job == chosen), statuses[0] if statuses else None)
    state = studio.worker.model_state
    active = status is not None and status.state not in ENDED
    shown, download = _shown(studio, status) if status else (Shown(), None)
    return View(
        idle=idle_line(studio.idle.state) if studio.idle else "",
        model=model_card(state, studio.entry),
        go_on=_go_on(state),
        job=job_card(status, shown),
        active=active,
        ended=status is not None and not active,
        whole=status is not None and status.state == "finished",
        download=download,
        settings=settings_card(studio.queue.request(status.job), status.seed, studio.fields) if status else "",
        history=gallery(_entries(studio, statuses, jobs), status.job if status else None),
        chosen=status.job if status else None,
        next_look_s=_next_look_s(studio, status, state),
    )


def _next_look_s(studio: Studio, status: Status | None, state: ModelState) -> float:
    """Where steps take long there is less to see: two looks at each are enough."""
    if state.state != "ready":
        return BUSY_SECONDS
    if status is None or status.state in ENDED:
        return IDLE_SECONDS
    return min(max(BUSY_SECONDS, round(studio.queue.step_s(status.job) / 2)), SLOW_SECONDS)


def _go_on(state: ModelState) -> str | None:
    if state.state == "asking":
        return f"Download {in_units(state.bytes_total)}"
    return "Try again" if state.state == "failed" else None


def _shown(studio: Studio, status: Status) -> tuple[Shown, Path | None]:
    """What the job's card shows besides its status, and the video in the file that is saved."""
    preview = studio.queue.look_at(status.job)
    thumbnail = studio.queue.thumbnail(status.job)
    picture = jpeg_url(preview.jpeg) if preview else address_of(studio.files.copy_of(thumbnail)) if thumbnail else ""
    shown = Shown(_jobs_ahead(studio, status), studio.queue.clips_done(status.job), picture, preview is not None)
    video = studio.video(status)
    return (replace(shown, video=address_of(video)), video) if video else (shown, None)


def _jobs_ahead(studio: Studio, status: Status) -> int:
    if status.state != "queued":
        return 0
    running = sum(other.state == "running" for other in studio.queue.all())
    return status.position - 1 + running


def _entries(studio: Studio, statuses: Iterable[Status], jobs: Iterable[KnownJob]) -> Iterable[GalleryEntry]:
    submitted = {job.job: job.at for job in jobs}
    for status in statuses:
        prompt = studio.queue.request(status.job).prompt
        short = prompt if len(prompt) <= SHORT_PROMPT else prompt[: SHORT_PROMPT - 1] + "…"
        thumbnail = studio.queue.thumbnail(status.job)
        picture = address_of(studio.files.copy_of(thumbnail)) if thumbnail else ""
        yield GalleryEntry(status, studio.queue.clips_done(status.job), short, submitted[status.job], picture)
