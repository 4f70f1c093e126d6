"""The ffmpeg that imageio-ffmpeg brings, run so that no file can make it do anything but read that file.

A user's file is always opened by `input_arguments`: with the `file:` protocol alone and in front of its name (a name
is never taken for an option or an address), and with lists of the container formats and decoders that may be used.
Playlists and other formats that name further files are not on the lists.
"""

import errno
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from imageio_ffmpeg import get_ffmpeg_exe

READING_LIMIT_S = 120  # for ffmpeg to read one input file
WANT_OF_SPACE = {errno.ENOSPC: "No space left on device", errno.EDQUOT: "Disk quota exceeded"}


@dataclass(frozen=True)
class Formats:
    """What ffmpeg may use for an input file, each a comma-separated list of ffmpeg's own names."""

    containers: str
    decoders: str


SOUND = Formats(
    containers="wav,mp3,flac,ogg,aac,mov,matroska",  # mov: also MP4 and M4A; matroska: also WebM
    decoders="pcm_u8,pcm_s16le,pcm_s24le,pcm_s32le,pcm_f32le,pcm_f64le,pcm_s16be,pcm_s24be,pcm_alaw,pcm_mulaw,"
    "adpcm_ms,adpcm_ima_wav,mp3,mp3float,flac,vorbis,libvorbis,opus,libopus,aac,alac",
)
MOVIE = Formats(
    containers="mov,matroska",
    decoders="h264,hevc,vp8,vp9,libvpx,libvpx-vp9,av1,libdav1d,libaom-av1,mpeg4,mjpeg,prores",
)


class FfmpegFailed(Exception):
    """ffmpeg ended with an error; the text is what it said."""


class FfmpegTookTooLong(FfmpegFailed):
    """ffmpeg was ended because it had not come to an end in its time."""


def input_arguments(path: Path, formats: Formats) -> list[str]:
    """The arguments that open a user's file `path`."""
    return [
        *("-protocol_whitelist", "file"),
        *("-format_whitelist", formats.containers),
        *("-codec_whitelist", formats.decoders),
        *("-i", f"file:{path}"),
    ]


def describe(path: Path, formats: Formats) -> str:
    """What ffmpeg tells of the file: one line per stream and its length, or why it cannot be read.

    Raises FfmpegTookTooLong after READING_LIMIT_S.
    """
    command = [get_ffmpeg_exe(), "-hide_banner", "-nostdin", *input_arguments(path, formats)]
    try:  # the exit status is 1 in any case, for want of an output file
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=READING_LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise FfmpegTookTooLong(f"no end after {READING_LIMIT_S} s") from error
    return done.stderr.decode(errors="replace")


def run(arguments: Sequence[str], *, said_to_it: bytes = b"", limit_s: float = READING_LIMIT_S) -> bytes:
    """Run ffmpeg to its end with `said_to_it` on its standard input, and return its standard output.

    Raises FfmpegFailed, or OSError (ENOSPC, EDQUOT) if it could not write for want of space.
    """
    command = [get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", *arguments]
    try:
        done = subprocess.run(command, input=said_to_it, capture_output=True, timeout=limit_s)
    except subprocess.TimeoutExpired as error:
        raise FfmpegTookTooLong(f"no end after {limit_s} s") from error
    raise_for_status(done.returncode, done.stderr.decode(errors="replace"))
    return done.stdout


def raise_for_status(status: int, said: str) -> None:
    """Raise OSError (ENOSPC, EDQUOT) if ffmpeg `said` that it lacked space, FfmpegFailed for any other failure.

    What it said counts before its status: a list of files ends well for it where one of them cannot be opened.
    """
    for code, words in WANT_OF_SPACE.items():
        if words in said:
            raise OSError(code, words)
    if status or "Impossible to open" in said:
        raise FfmpegFailed(said.strip() or f"exit status {status}")


@contextmanager
def reading(arguments: Sequence[str]) -> Iterator[BinaryIO]:
    """Give ffmpeg's standard output, to be read to its end; a block left by an exception ends ffmpeg at once.

    At the end of the block raises FfmpegFailed, or FfmpegTookTooLong if ffmpeg was ended after READING_LIMIT_S.
    """
    command = [get_ffmpeg_exe(), "-nostdin", "-loglevel", "quiet", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    expired = threading.Event()

    def end() -> None:
        expired.set()
        process.kill()

    guard = threading.Timer(READING_LIMIT_S, end)
    guard.start()
    try:
        yield process.stdout
        status = process.wait()
        if expired.is_set():
            raise FfmpegTookTooLong(f"no end after {READING_LIMIT_S} s")
        if status:
            raise FfmpegFailed(f"exit status {status}")
    finally:
        guard.cancel()
        process.kill()
        process.stdout.close()
        process.wait()
