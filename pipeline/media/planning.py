"""A request with its files opened and checked: what it comes to, and what its author may want to know before."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt

from PIL import Image

from pipeline.errors import QueueFull
from pipeline.media.audio import AudioFacts, measure_audio
from pipeline.media.picture import small_jpeg
from pipeline.media.portrait import Crop, crop_of, open_portrait
from pipeline.media.pose import check_pose_video
from pipeline.request import SIZES, ClipPlan, GenerationRequest, plan_clips

SILENT = 0.0005  # root mean square; 66 dB below full scale
QUIET = 0.01  # 40 dB below full scale
CLIPPED = 0.005  # share of samples at full scale
LOUD_START = 0.25  # of the whole part's root mean square, in its first moment
LONG_S, LARGE_AREA = 120, SIZES["480p"]
SMALL_SIDE = 256  # pixels, for a video of twice that and more
AT_ONCE = threading.BoundedSemaphore(2)  # who read media: 80 megapixels take a gigabyte while opened
IN_LINE = threading.BoundedSemaphore(10)  # these and who waits for them: more would take the threads of all others


@dataclass(frozen=True)
class PlannedRequest:
    """What a request comes to. `hints`: plain sentences about what is allowed but may disappoint."""

    plan: ClipPlan
    hints: tuple[str, ...]
    audio: AudioFacts
    sketch: bytes  # the portrait as a small JPEG
    crop: Crop  # of it


def plan_request(request: GenerationRequest, max_audio_seconds: float) -> PlannedRequest:
    """Open and check all files of `request`, completely: what passes here can be generated.

    Anybody may ask for plans, and as many as they like, so two are made at a time and a few wait.
    Raises InvalidRequest, one sentence on the first thing that is wrong, or QueueFull.
    """
    with _turn():
        portrait = open_portrait(request.portrait)
        audio = measure_audio(request.audio, request.audio_start, request.audio_duration, max_audio_seconds)
        if request.pose_video is not None:
            check_pose_video(request.pose_video)
    plan = plan_clips(request, (portrait.height, portrait.width), audio.seconds)
    crop = crop_of(portrait.height, portrait.width, plan.height, plan.width)
    hints = (*_about_audio(audio, plan), *_about_portrait(portrait, request.max_area))
    return PlannedRequest(plan, hints, audio, small_jpeg(portrait), crop)


@contextmanager
def _turn() -> Iterator[None]:
    if not IN_LINE.acquire(blocking=False):
        raise QueueFull("Too many requests wait to be looked at: try again in a few seconds.")
    try:
        with AT_ONCE:
            yield
    finally:
        IN_LINE.release()


def _about_audio(audio: AudioFacts, plan: ClipPlan) -> Iterator[str]:
    if audio.rms < SILENT:
        yield "The audio is silent: the lips will hardly move."
    elif audio.rms < QUIET:
        yield "The audio is very quiet: noise in it may move the lips; a louder recording works better."
    elif audio.opening_rms > LOUD_START * audio.rms:
        yield (
            "The first words start at once: the mouth may miss them; "
            "a quarter of a second of silence before them works better."
        )
    if audio.clipped > CLIPPED:
        yield "The audio is clipped: it was recorded too loud and is distorted; a softer recording works better."
    if plan.seconds > LONG_S and plan.height * plan.width > LARGE_AREA:
        yield (
            f"{plan.seconds / 60:.0f} minutes at {plan.width}x{plan.height} take long, and colours may drift: "
            "try the Preview first, or a smaller size."
        )


def _about_portrait(portrait: Image.Image, max_area: int) -> Iterator[str]:
    side = min(SMALL_SIDE, isqrt(max_area) // 2)
    if min(portrait.size) < side:
        yield (
            f"The portrait is small ({portrait.width}x{portrait.height} pixels): "
            f"one of at least {side} on each side gives a clearer face."
        )
