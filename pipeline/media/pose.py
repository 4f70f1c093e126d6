"""Movement in: the frames of a user's pose video, sampled by time at the model's 16 frames a second."""

from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipeline.errors import InvalidRequest
from pipeline.media.ffmpeg import MOVIE, READING_LIMIT_S, FfmpegFailed, FfmpegTookTooLong, input_arguments, reading
from pipeline.media.files import check_input, shown
from pipeline.request import FRAMES_PER_SECOND

MAX_PIXELS = 7680 * 4320  # of a frame in the file
# Larger frames are scaled down on the way in: 80 of this size are 0.5 GB already, and the output is smaller.
KEPT_PIXELS = 1920 * 1088
ACCEPTED = "an MP4, MOV, WebM or MKV video"


def read_pose_frames(path: Path, first: int, count: int) -> np.ndarray:
    """The frames shown at i/16 s for i = first .. first + count - 1, turned upright: uint8 (n, h, w, 3).

    Fewer than `count` at the end of the video, and (0, 0, 0, 3) past it. Timestamps count, whatever the frame rate is:
    the frame shown at a time is the last one that began by then. Only these frames are held in memory; decoding begins
    at the key frame before them. Raises InvalidRequest if the file cannot be read.
    """
    check_input(path, "pose_video", ACCEPTED)
    start = f"{first / FRAMES_PER_SECOND:.6f}"
    arguments = [
        *("-max_pixels", str(MAX_PIXELS)),
        *("-copyts", "-start_at_zero", "-noaccurate_seek", "-ss", start),
        *input_arguments(path, MOVIE),
        *("-map", "0:V:0", "-vf", _sampling(start, count), "-fps_mode", "passthrough"),
        *("-f", "image2pipe", "-c:v", "ppm", "pipe:1"),
    ]
    try:
        with reading(arguments) as pipe:
            return _read_pictures(pipe, count, path)
    except FfmpegTookTooLong:
        raise InvalidRequest(
            f"pose_video: reading {shown(path)} takes more than {READING_LIMIT_S} s; "
            "give a shorter or smaller video, or one with more key frames."
        ) from None
    except FfmpegFailed:
        raise _unreadable(path) from None


def check_pose_video(path: Path) -> None:
    """Raises InvalidRequest, which says what is wrong, if no frame of the video can be shown."""
    if not len(read_pose_frames(path, 0, 1)):
        raise _unreadable(path)


def _sampling(start: str, count: int) -> str:
    """ffmpeg's filters: of frames with their own times, those shown at start, start + 1/16 s, ...

    Rounding times up to the next sixteenth makes a frame count from the first sixteenth that it is shown at.
    """
    scale = rf"min(1\,sqrt({KEPT_PIXELS}/(iw*ih)))"
    return (
        f"fps={FRAMES_PER_SECOND}:round=up:start_time={start},trim=end_frame={count},"
        f"scale=w=max(1\\,trunc(iw*{scale})):h=max(1\\,trunc(ih*{scale})):flags=accurate_rnd+full_chroma_int,format=rgb24"
    )


def _read_pictures(pipe: BinaryIO, count: int, path: Path) -> np.ndarray:
    """At most `count` PPM pictures of one size, read to the end of `pipe`: uint8 (n, h, w, 3)."""
    pictures = np.empty((0, 0, 0, 3), np.uint8)
    for i in range(count):
        if not (size := _picture_size(pipe)):
            return pictures[:i]
        if i == 0:
            pictures = np.empty((count, *size, 3), np.uint8)
        if pictures.shape[1:3] != size:
            raise InvalidRequest(f"pose_video: the frames of {shown(path)} change their size; give {ACCEPTED}.")
        pipe.readinto(pictures[i])
    return pictures


def _picture_size(pipe: BinaryIO) -> tuple[int, int] | None:
    """The (height, width) that the head of a PPM picture tells ("P6", "W H", "255"), or None at the end."""
    _, size, _ = pipe.readline(), pipe.readline(), pipe.readline()
    if not size:
        return None
    width, height = size.split()
    return int(height), int(width)


def _unreadable(path: Path) -> InvalidRequest:
    return InvalidRequest(f"pose_video: {shown(path)} holds no video that can be read; give {ACCEPTED}.")
