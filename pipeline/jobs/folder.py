"""One job on disk: a folder with the request, its inputs, what happened, and the clips that are done.

    request.json      the request; its paths are names in this folder
    portrait.png, audio.wav, pose.mp4    copies of the inputs, by fixed names; gone if it ended without a clip
    events.jsonl      what happened
    clip-0001.mp4     a finished clip, without sound
    motion-0001.npz   what the next clip starts from, exactly; of the last clip that has one
    result.mp4        the video so far, in the end the whole
    thumbnail.jpg     a small picture of the newest clip

A clip counts as finished from the moment that the line in events.jsonl tells of it. Its files are whole before
that, and those that it replaces go after it: work can stop at any moment and go on after the last clip with a line.
"""

import itertools
import logging
import os
import re
import secrets
import shutil
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import disk_full_explained
from pipeline.events import ClipReady, MotionMemory, Resume, Started
from pipeline.jobs.journal import CancelAsked, DeleteAsked, Journal, Line, StopAsked
from pipeline.jobs.status import Status, after
from pipeline.media.files import whole_or_absent
from pipeline.media.picture import small_jpeg
from pipeline.media.video import join_clips
from pipeline.request import FRAMES_PER_SECOND, ClipPlan, GenerationRequest

logger = logging.getLogger(__name__)

JOB_ID = re.compile(r"[0-9a-f]{32}")
LEFTOVER = re.compile(r"\.(new|old)-[0-9a-f]{32}")  # of a creation or a removal that was interrupted
INPUTS = {"portrait": "portrait", "audio": "audio", "pose_video": "pose"}  # field of the request -> name of the copy


@dataclass(frozen=True)
class JobFolder:
    """The files of one job. A rendering outside the queue uses the clips, the motion and the result alone."""

    path: Path

    @property
    def journal(self) -> Journal:
        """What happened."""
        return Journal(self.path / "events.jsonl")

    @property
    def result(self) -> Path:
        """The video so far."""
        return self.path / "result.mp4"

    @property
    def thumbnail(self) -> Path:
        """A small picture of what has become of it."""
        return self.path / "thumbnail.jpg"

    def keep_thumbnail(self, frames: np.ndarray) -> None:
        """Make the thumbnail from the middle one of `frames`, uint8 (T, H, W, 3). Raises DiskFull."""
        with whole_or_absent(self.thumbnail) as part:
            part.write_bytes(small_jpeg(frames[len(frames) // 2]))

    def clips(self, last: int) -> list[Path]:
        """The files of the clips from 1 through `last`."""
        return [self.path / f"clip-{number:04}.mp4" for number in range(1, last + 1)]

    def join(self, last: int, plan: ClipPlan, request: GenerationRequest, seed: int) -> None:
        """Make the video of the clips from 1 through `last`, with their sound and all settings. Raises DiskFull."""
        seconds = plan.frames_through(last) / FRAMES_PER_SECOND
        settings = request.model_dump(mode="json", exclude=set(INPUTS)) | {"seed": seed}
        partial = last < plan.clips
        join_clips(self.clips(last), request.audio, request.audio_start, seconds, self.result, settings, partial)

    def motion(self, clip: int) -> Path:
        """The file of what `clip` (from 1) leaves for the next."""
        return self.path / f"motion-{clip:04}.npz"

    def save_motion(self, clip: int, motion: MotionMemory) -> None:
        """Keep what `clip` leaves for the next. Raises DiskFull."""
        part = self.motion(clip).with_suffix(".part")
        with disk_full_explained("the videos"):
            with part.open("wb") as file:
                np.savez(file, latents=motion.latents, frames=motion.frames)
            os.replace(part, self.motion(clip))

    def forget_motion(self, before: int) -> None:
        """Remove what the clips before `before` have left."""
        for file in self.path.glob("motion-*.npz"):
            if file.name < self.motion(before).name:
                file.unlink(missing_ok=True)

    def resume(self, clip: int) -> Resume | None:
        """Where to go on after `clip`; None (from the start) for 0 or where a file is missing or unreadable."""
        if clip == 0:
            return None
        try:
            with np.load(self.motion(clip), allow_pickle=False) as arrays:
                motion = MotionMemory(latents=arrays["latents"], frames=arrays["frames"])
            for file in self.clips(clip):
                if not file.stat().st_size:
                    raise ValueError(f"{file.name} is empty")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            name, why = self.path.name[:8], _told(error)
            logger.warning("Job %s starts over, for it cannot go on after clip %d: %s", name, clip, why)
            return None
        return Resume(clip, motion)

    def sweep(self, clip: int, *, ended: bool) -> None:
        """Remove what work that stopped after `clip` has left half done.

        With `ended` also what it would go on from, and where there is no clip, the inputs. What a longer video goes on
        from stays: what the last clip but one has left.
        """
        inputs = set() if ended and not clip else set(INPUTS.values())
        kept = {"request.json", "events.jsonl"} | {file.name for file in self.clips(clip)}
        kept |= {self.result.name, self.thumbnail.name} if clip else set()
        kept |= {self.motion(clip - 1 if ended else clip).name}
        for file in self.path.iterdir():
            if file.is_file() and file.name not in kept and file.stem not in inputs:
                with suppress(OSError):  # what stays takes space, but is written over or passed over later
                    file.unlink()

    def remove(self) -> None:
        """Remove the folder; where that is interrupted, the next start finds and removes what is left."""
        doomed = self.path.with_name(f".old-{self.path.name}")
        os.replace(self.path, doomed)
        shutil.rmtree(doomed)


@dataclass(frozen=True)
class StoredJob:
    """A job as its folder tells it."""

    folder: JobFolder
    request: GenerationRequest  # with the paths of the copies
    submitted_at: float  # seconds since 1970
    lines: tuple[Line, ...]
    status: Status

    @property
    def ready(self) -> int:
        """How many clips are done."""
        return self._newest_clip.clip if self._newest_clip else 0

    @property
    def frames(self) -> int:
        """How many frames those clips have."""
        return self._newest_clip.frames if self._newest_clip else 0

    @property
    def _newest_clip(self) -> ClipReady | None:
        return next((line.event for line in reversed(self.lines) if isinstance(line.event, ClipReady)), None)

    @property
    def tries(self) -> int:
        """How often work on the clip after those was begun anew, since the program was last told to end."""
        since = itertools.takewhile(lambda line: not isinstance(line.event, ClipReady | StopAsked), self.lines[::-1])
        return sum(isinstance(line.event, Started) for line in since)

    @property
    def cancel_asked(self) -> bool:
        """Whether somebody wanted it to end."""
        return any(isinstance(line.event, CancelAsked) for line in self.lines)

    @property
    def delete_asked(self) -> bool:
        """Whether somebody wanted it to be gone."""
        return any(isinstance(line.event, DeleteAsked) for line in self.lines)


@dataclass(frozen=True)
class Base:
    """The first clips of a job, with which another one begins."""

    folder: JobFolder
    clips: int
    seed: int


def create_job(folder: Path, request: GenerationRequest, plan: ClipPlan, base: Base | None = None) -> StoredJob:
    """A new job in `folder`, whole from the moment that it appears; it goes on after the clips of `base`, if any.

    Raises DiskFull, and OSError if an input cannot be read; nothing is left behind then.
    """
    job = secrets.token_hex(16)
    new = folder / f".new-{job}"
    try:
        with disk_full_explained("the videos"):
            new.mkdir()
            _copy_request(request, new)
            JobFolder(new).journal.begin(plan.clips)
            if base:
                _copy_clips(base, JobFolder(new), plan)
                JobFolder(new).join(base.clips, plan, request, base.seed)
            os.replace(new, folder / job)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return read_job(folder / job)


def _copy_request(request: GenerationRequest, folder: Path) -> None:
    copies = {}
    for field, name in INPUTS.items():
        if (source := getattr(request, field)) is not None:
            copies[field] = Path(name + _safe_suffix(source))
            shutil.copyfile(source, folder / copies[field])
    text = request.model_copy(update=copies).model_dump_json(indent=1)
    (folder / "request.json").write_text(text, encoding="utf-8")


def _copy_clips(base: Base, new: JobFolder, plan: ClipPlan) -> None:
    files = [*base.folder.clips(base.clips), base.folder.motion(base.clips), base.folder.thumbnail]
    for file in filter(Path.exists, files):
        shutil.copyfile(file, new.path / file.name)
    new.journal.append(Started(plan, base.seed), 0.0)
    new.journal.append(ClipReady(base.clips, plan.clips, new.result, plan.frames_through(base.clips)), 0.0)


def _safe_suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,5}", suffix) else ""


def read_job(path: Path) -> StoredJob:
    """The job in the folder `path`. Raises OSError, ValueError, KeyError or TypeError if it cannot be read."""
    folder = JobFolder(path)
    request = GenerationRequest.model_validate_json((path / "request.json").read_text(encoding="utf-8"))
    inputs = {field: path / name.name for field in INPUTS if (name := getattr(request, field)) is not None}
    submission, lines = folder.journal.read(folder.result)
    seed = None if request.seed < 0 else request.seed
    status = Status(job=path.name, clips=submission["clips"], steps=request.steps, seed=seed)
    for line in lines:
        status = after(status, line.event, line.elapsed_s)
    return StoredJob(folder, request.model_copy(update=inputs), float(submission["at"]), lines, status)


def stored_jobs(folder: Path) -> list[StoredJob]:
    """The jobs in `folder` in order of submission, read only: another process may be at work on them.

    What cannot be read is logged and passed over.
    """
    jobs = []
    for path in folder.iterdir():
        if LEFTOVER.fullmatch(path.name):
            continue
        try:
            if not JOB_ID.fullmatch(path.name):
                raise ValueError("it has not the name of a job")
            jobs.append(read_job(path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%.8s in %s is passed over: %s", path.name, folder, _told(error))
    return sorted(jobs, key=lambda job: (job.submitted_at, job.folder.path.name))


def _told(error: Exception) -> str:
    """What the log says of `error`, without the path: a job's id is the key to it."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def sweep_leftovers(folder: Path) -> None:
    """Remove what interrupted creations and removals of jobs have left in `folder`."""
    for path in folder.iterdir():
        if LEFTOVER.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)
