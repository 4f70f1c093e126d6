"""From the model's clips to files: every clip is written, remembered from and joined to the video so far."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from pipeline.events import ClipFrames, ClipReady, Event, Finished, Resume, StageChanged, Started
from pipeline.jobs.folder import JobFolder
from pipeline.media.video import write_clip
from pipeline.request import GenerationRequest

Generate = Callable[[GenerationRequest, Resume | None], Iterator[Event]]


def render(
    generate: Generate,
    request: GenerationRequest,
    folder: Path,
    resume: Resume | None = None,
    on_frames: Callable[[np.ndarray], None] | None = None,
) -> Iterator[Event]:
    """Drive `generate` and keep its clips in `folder`, an existing one; the last event is Finished with the video.

    Each ClipFrames comes out as StageChanged("encode") and ClipReady; all else is handed on. With `resume` the
    clips up to it must be in `folder`. `on_frames` gets the frames of each clip as generated, uint8 (T, H, W, 3),
    before the video is cut to the audio. Closing this closes the generator. Raises what it raises, and DiskFull.
    """
    files = JobFolder(folder)
    with closing(generate(request, resume)) as events:
        started = next(events)  # the recipe's first event is Started
        yield started
        for event in events:
            if not isinstance(event, ClipFrames):
                yield event
                continue
            if on_frames:
                on_frames(event.frames)
            yield StageChanged("encode", event.clip)
            yield _keep(event, started, request, files)
            # Not earlier: until it is told, work goes on from the older one. The last clip leaves none: a longer video
            # goes on from the one before it.
            files.forget_motion(before=event.clip if event.motion is not None else event.clip - 1)
    yield Finished(files.result)


def _keep(event: ClipFrames, started: Started, request: GenerationRequest, files: JobFolder) -> ClipReady:
    plan, clip = started.plan, event.clip
    shown = plan.frames_through(clip)
    write_clip(event.frames[: shown - plan.frames_through(clip - 1)], files.clips(clip)[-1])
    if event.motion is not None:
        files.save_motion(clip, event.motion)
    files.join(clip, plan, request, started.seed)
    return ClipReady(clip, plan.clips, files.result, shown)
