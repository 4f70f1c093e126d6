"""Video out: clips as they come, joined without encoding them again, the sound laid under, the settings written in."""

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from pipeline.errors import InvalidRequest
from pipeline.media.audio import sound_filter
from pipeline.media.ffmpeg import MOVIE, SOUND, FfmpegFailed, input_arguments, raise_for_status, run
from pipeline.media.files import check_input, shown, whole_or_absent
from pipeline.request import FRAMES_PER_SECOND

QUALITY = 17  # x264's constant rate factor: hardly to be told from the frames themselves
ENCODER_THREADS = 4  # fixed, because x264's decisions depend on it: the same frames give the same video anywhere
ENCODING = [
    # RGB to yuv420p with the matrix of HDTV, and a note of that in the stream, so that players do not guess.
    "-vf",
    "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int,format=yuv420p,"
    "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv",
    *("-crf", str(QUALITY)),
    # Without B-frames no frame waits for a later one: a clip ends where its last frame does, and clips join exactly.
    *("-bf", "0"),
    *("-f", "mp4", "-nostats", "-loglevel", "error"),
]
SOUND_BITRATE = "192k"
TITLE = "AI-generated video"
STATEMENT = "Made by AI: the pictures were generated from a portrait and a sound recording; nobody was filmed."
MAKER = "talking portrait"  # marks the metadata as ours
JOINING_LIMIT_S = 3600  # encoding an hour of sound takes a minute or two


def write_clip(frames: np.ndarray, path: Path) -> None:
    """Write frames, uint8 (T, H, W, 3), T at least 1, H and W even, as H.264 (yuv420p, 16 a second, no sound).

    The same frames give the same video. The file is whole or absent. Raises DiskFull.
    """
    with whole_or_absent(path) as part, tempfile.TemporaryFile("w+") as log:
        status = _encode(frames, part, log)
        log.seek(0)
        raise_for_status(status, log.read())


def join_clips(
    clips: Sequence[Path],
    audio: Path,
    start_s: float,
    seconds: float,
    output: Path,
    settings: Mapping[str, Any],
    partial: bool = False,
) -> None:
    """Join clips from `write_clip` into an MP4 with `seconds` of the sound in `audio` from `start_s` on.

    The frames are exactly the clips' (they are not encoded again); silence follows where the sound ends early.
    `settings` (what JSON can hold; no paths, no secrets) and that AI made the video go into the metadata, nothing from
    the audio file does; a video that is `partial`, for clips are missing at its end, says so. The file is whole or
    absent. Raises DiskFull, and InvalidRequest if the audio is unreadable.
    """
    note = json.dumps({"maker": MAKER, "ai_generated": True, "partial": partial, "settings": dict(settings)})
    title = f"{TITLE} (partial)" if partial else TITLE
    with whole_or_absent(output) as part:
        arguments = [
            *("-f", "concat", "-safe", "0", "-protocol_whitelist", "file,pipe", "-i", "pipe:0"),
            *input_arguments(audio, SOUND),
            *("-map", "0:v:0", "-c:v", "copy"),
            *("-map", "1:a:0", "-c:a", "aac", "-b:a", SOUND_BITRATE, "-af", sound_filter(audio, start_s, seconds)),
            *("-map_metadata", "-1", "-map_chapters", "-1"),
            *("-metadata", f"title={title}", "-metadata", f"description={STATEMENT}", "-metadata", f"comment={note}"),
            *("-f", "mp4", "-movflags", "+faststart", "-y", f"file:{part}"),
        ]
        run(arguments, said_to_it=_playlist(clips), limit_s=JOINING_LIMIT_S)


def read_note_from(path: Path) -> dict[str, Any] | None:
    """What `join_clips` wrote into an MP4: "ai_generated", "partial", "settings"; None if it is not one of ours.

    Raises InvalidRequest if the file is not a video that can be read.
    """
    check_input(path, "video", "an MP4 video")
    try:
        told = run([*input_arguments(path, MOVIE), "-map_chapters", "-1", "-f", "ffmetadata", "pipe:1"])
    except FfmpegFailed:
        raise InvalidRequest(f"video: {shown(path)} is not an MP4 video that can be read; give one.") from None
    try:
        note = json.loads(_tag(told.decode(errors="replace"), "comment"))
    except (ValueError, RecursionError):
        return None
    ours = isinstance(note, dict) and note.get("maker") == MAKER and isinstance(note.get("settings"), dict)
    return note if ours else None


def _encode(frames: np.ndarray, target: Path, log: TextIO) -> int:
    """Feed moviepy's writer and return ffmpeg's exit status, which the writer itself does not look at."""
    from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter  # not before: its import starts processes

    _, height, width, _ = frames.shape
    writer = FFMPEG_VideoWriter(
        str(target.absolute()),
        (width, height),
        FRAMES_PER_SECOND,
        codec="libx264",
        preset="medium",
        logfile=log,
        threads=ENCODER_THREADS,
        ffmpeg_params=ENCODING,
    )
    process = writer.proc
    try:
        with writer:
            for frame in frames:
                writer.write_frame(frame)
    except OSError:  # a broken pipe: ffmpeg has ended, and its status and its log say why
        process.kill()
    return process.wait()


def _playlist(clips: Sequence[Path]) -> bytes:
    """The list for ffmpeg's concat demuxer; in its quotes everything stands for itself but the quote."""
    names = [str(clip.absolute()).replace("'", r"'\''") for clip in clips]
    return "".join(f"file 'file:{name}'\n" for name in names).encode(errors="surrogateescape")


def _tag(metadata: str, name: str) -> str:
    """The value of a tag in ffmpeg's own text form (';', '=', '#', '\\' and line ends escaped), or ''."""
    found = re.search(rf"^{name}=((?:\\.|[^\\\n])*)$", metadata, re.MULTILINE | re.DOTALL)
    return re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL) if found else ""
