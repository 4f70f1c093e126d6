"""A longer video from a finished one: the same request with more audio, gone on with where the first one was whole.

The last clip of a finished video ends where its audio did, and what the model drew after that was drawn for silence.
So the clips before it stay as they are, to the bit, and the last one is made again, from the exact memory of the one
before it, now with the new audio behind it. A video of a single clip is made again as a whole, with its seed.
"""

import math
from pathlib import Path

from pipeline.errors import InvalidRequest
from pipeline.jobs.folder import Base, JobFolder
from pipeline.jobs.status import Status
from pipeline.media.audio import AudioTooLong, join_sound, measure_audio
from pipeline.media.planning import AT_ONCE
from pipeline.request import FRAMES_PER_SECOND, GenerationRequest

NOT_FINISHED = "Only a finished video can be continued, and this job is {state}."
NO_MODEL_YET = "The model is not ready yet: a video can be continued once it is."
OTHER_MODEL = "This video was made with another model than the one that is loaded now, and cannot be continued with it."


def base_of(folder: JobFolder, status: Status) -> Base | None:
    """The clips of a finished job that a longer one keeps; None where it has a single clip or its memory is gone."""
    resume = folder.resume(status.clips - 1)
    return Base(folder, resume.clip, status.seed) if resume else None


def longer_request(
    request: GenerationRequest, status: Status, frames: int, more: Path, joined: Path, max_seconds: float
) -> GenerationRequest:
    """`request`, which became a video of `frames` frames, with the audio `more` behind its own.

    Writes both into `joined` (WAV), for two callers at a time. Raises InvalidRequest, which says what cannot be
    continued or is too long.
    """
    if status.state != "finished":
        raise InvalidRequest(NOT_FINISHED.format(state=status.state))
    seconds = frames / FRAMES_PER_SECOND
    with AT_ONCE:
        try:
            length = measure_audio(more, max_seconds=max_seconds).seconds
        except AudioTooLong:
            length = math.inf
        if seconds + length > max_seconds:
            has = f"{length:.1f} s" if length < math.inf else f"more than {max_seconds:g} s"
            raise InvalidRequest(
                f"audio: the video has {seconds:.1f} s and the new audio {has}; "
                f"together at most {max_seconds:g} s are accepted."
            )
        join_sound(request.audio, request.audio_start, seconds, more, joined)
    changes = {"audio": joined, "audio_start": 0.0, "audio_duration": None, "max_clips": None, "seed": status.seed}
    return request.model_copy(update=changes)
