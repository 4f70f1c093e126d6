"""Sound in: the chosen part of a user's audio file, as the model hears it and as the video carries it.

Every format goes the same way: ffmpeg decodes it, and the part is cut out of the decoded samples, so that it is exact
to the sample for MP3 and AAC too. Sound is decoded in pieces: an hour of it never lies in memory to be refused.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from pipeline.errors import InvalidRequest
from pipeline.media.ffmpeg import (
    READING_LIMIT_S,
    SOUND,
    FfmpegFailed,
    FfmpegTookTooLong,
    describe,
    input_arguments,
    reading,
    run,
)
from pipeline.media.files import check_input, shown, whole_or_absent
from pipeline.request import MIN_AUDIO_SECONDS

HEARD_RATE = 16_000  # samples a second that the model hears
SAMPLE_RATES = (1_000, 192_000)  # the lowest and highest that are accepted
CARRIED_RATE = 48_000  # the highest of a video's sound track
LOUDEST = 1e6  # times full scale, 120 dB above it: no recording, and encoders fail on much more
FULL_SCALE = 0.999  # a sample this large is taken for cut off
OPENING_S = 0.1
PIECE_SAMPLES = 1 << 18  # decoded at a time
REMEMBERED_TRACKS = 256
ACCEPTED = "WAV, MP3, FLAC, OGG, M4A or WebM audio"


@dataclass(frozen=True)
class SoundTrack:
    """The first sound track of a file, as its header describes it."""

    sample_rate: int  # samples a second
    channels: int  # 1, or 2 for two and more, which are mixed down to two
    seconds: float | None  # None where the header does not say it or only allows a guess


@dataclass(frozen=True)
class AudioFacts:
    """What the chosen part of an audio file is like. Levels are shares of full scale; lossy files may go over 1."""

    seconds: float
    peak: float  # the largest sample of any channel
    rms: float  # of the mono mix, which is what the model hears
    clipped: float  # share of samples, of all channels, at full scale
    sample_rate: int
    channels: int
    opening_rms: float  # of the first OPENING_S of the mono mix


def read_speech(path: Path, start_s: float = 0.0, duration_s: float | None = None) -> np.ndarray:
    """The chosen part of an audio file as the model hears it: float32 (n,), mono, 16 kHz.

    The numbers are those of `librosa.load(path, sr=16000)` (bit for bit where nothing is lossy). Whether the file is
    longer than a job may be is `measure_audio`'s to say, before. Raises InvalidRequest.
    """
    import librosa  # takes seconds, and the page needs this module early

    track = open_track(path)
    mono = [librosa.to_mono(piece.T) for piece in _pieces(path, track, start_s, duration_s)]
    if not mono:
        raise _nothing_there(path, track, start_s)
    return librosa.resample(np.concatenate(mono), orig_sr=track.sample_rate, target_sr=HEARD_RATE)


def load_resampler() -> None:
    """Have `read_speech` ready to begin: librosa compiles a part of itself, for 12 s where it has never run before."""
    import librosa

    librosa.to_mono(np.zeros((2, 2), np.float32))


def measure_audio(
    path: Path, start_s: float = 0.0, duration_s: float | None = None, max_seconds: float = math.inf
) -> AudioFacts:
    """Length and level of the chosen part, from its decoded samples; decoding stops where it is over `max_seconds`.

    Raises AudioTooLong, or InvalidRequest if the part cannot be read or is shorter than MIN_AUDIO_SECONDS.
    """
    track = open_track(path)
    _check_announced(path, track, start_s, duration_s, max_seconds)
    count, peak, energy, clipped, opening_rms = 0, 0.0, 0.0, 0, None
    for piece in _pieces(path, track, start_s, duration_s):
        size = np.abs(piece)
        count += len(piece)
        peak = max(peak, float(size.max()))
        squares = np.square(piece.mean(axis=1), dtype=np.float64)
        energy += float(squares.sum())
        if opening_rms is None:
            opening_rms = math.sqrt(squares[: round(OPENING_S * track.sample_rate) or 1].mean())
        clipped += int(np.count_nonzero(size >= FULL_SCALE))
        if count > round(max_seconds * track.sample_rate, 3):
            raise _too_long(path, f"more than {max_seconds:g} s", max_seconds)
    if not count:
        raise _nothing_there(path, track, start_s)
    if count < round(MIN_AUDIO_SECONDS * track.sample_rate):
        raise _too_short(path, count / track.sample_rate)
    return AudioFacts(
        seconds=count / track.sample_rate,
        peak=peak,
        rms=math.sqrt(energy / count),
        clipped=clipped / (count * track.channels),
        sample_rate=track.sample_rate,
        channels=track.channels,
        opening_rms=opening_rms,
    )


def sound_filter(path: Path, start_s: float, seconds: float) -> str:
    """ffmpeg's filters that make a video's sound track of an audio file: exactly `seconds` from `start_s` on.

    Silence where the file ends earlier; the file's own rate up to 48 kHz, its channels up to two.
    """
    track = open_track(path)
    filters = [
        _cut(track, start_s, seconds),
        "asetpts=N/SR/TB",
        f"apad=whole_len={round(seconds * track.sample_rate)}",
        f"aformat=channel_layouts={'mono' if track.channels == 1 else 'stereo'}",
    ]
    if track.sample_rate > CARRIED_RATE:
        filters.append(f"aresample={CARRIED_RATE}")
    return ",".join(filters)


def join_sound(first: Path, start_s: float, seconds: float, second: Path, output: Path) -> None:
    """Write exactly `seconds` of `first` from `start_s` on, then all of `second`, as 24-bit WAV.

    At the higher of the two rates, up to 48 kHz. The file is whole or absent. Raises InvalidRequest and DiskFull.
    """
    tracks = open_track(first), open_track(second)
    rate = min(CARRIED_RATE, max(track.sample_rate for track in tracks))
    layout = "mono" if all(track.channels == 1 for track in tracks) else "stereo"
    common = f"aresample={rate},aformat=sample_fmts=s32:channel_layouts={layout}"
    graph = f"[0:a:0]{sound_filter(first, start_s, seconds)},{common}[a];[1:a:0]{common}[b];[a][b]concat=v=0:a=1"
    with whole_or_absent(output) as part:
        arguments = [*input_arguments(first, SOUND), *input_arguments(second, SOUND), "-filter_complex", graph]
        try:
            run([*arguments, "-map_metadata", "-1", "-c:a", "pcm_s24le", "-f", "wav", "-y", f"file:{part}"])
        except FfmpegFailed:
            raise _unreadable(second) from None


def open_track(path: Path) -> SoundTrack:
    """Read the header of an audio file, once for as long as the file stays as it is.

    Raises InvalidRequest if it is no file with sound in an accepted format.
    """
    file = check_input(path, "audio", ACCEPTED)
    return _track(path, file.st_ino, file.st_size, file.st_mtime_ns)


@lru_cache(REMEMBERED_TRACKS)
def _track(path: Path, *_: int) -> SoundTrack:
    """The track. What tells the file from others under its name (number, size, time) is for the memory alone."""
    try:
        text = describe(path, SOUND)
    except FfmpegTookTooLong:
        raise _too_slow(path) from None
    if not re.search(r"^Input #0", text, re.MULTILINE):
        raise _unreadable(path)
    stream = re.search(r"^ +Stream #0:\d+.*?: Audio: .*?, (\d+) Hz, ([^,\n]+)", text, re.MULTILINE)
    if stream is None:
        raise InvalidRequest(f"audio: {shown(path)} has no audio track that can be read; give {ACCEPTED}.")
    rate, layout = int(stream[1]), stream[2]
    lowest, highest = SAMPLE_RATES
    if not lowest <= rate <= highest:
        raise InvalidRequest(f"audio: {shown(path)} has {rate} samples a second; give audio of {lowest} to {highest}.")
    return SoundTrack(rate, 1 if layout == "mono" else 2, _announced_seconds(text))


def _announced_seconds(text: str) -> float | None:
    length = re.search(r"^ +Duration: (\d+):(\d\d):(\d\d\.\d+)", text, re.MULTILINE)
    if length is None or "Estimating duration" in text:
        return None
    hours, minutes, seconds = length.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _pieces(path: Path, track: SoundTrack, start_s: float, duration_s: float | None) -> Iterator[np.ndarray]:
    """Decode the chosen part piece by piece: float32 (n, channels), at the track's rate, n at most PIECE_SAMPLES."""
    arguments = [
        *input_arguments(path, SOUND),
        *("-map", "0:a:0", "-af", _cut(track, start_s, duration_s)),
        *("-ar", str(track.sample_rate), "-ac", str(track.channels)),
        *("-f", "f32le", "pipe:1"),
    ]
    width = 4 * track.channels
    try:
        with reading(arguments) as pipe:
            while len(data := pipe.read(PIECE_SAMPLES * width)) >= width:
                samples = len(data) // width
                piece = np.frombuffer(data, "<f4", samples * track.channels).reshape(samples, track.channels)
                if not (np.abs(piece) < LOUDEST).all():
                    raise InvalidRequest(
                        f"audio: {shown(path)} holds values that are not numbers, or far above full scale; "
                        "export it again."
                    )
                yield piece
    except FfmpegTookTooLong:
        raise _too_slow(path) from None
    except FfmpegFailed:
        raise _unreadable(path) from None


def _cut(track: SoundTrack, start_s: float, duration_s: float | None) -> str:
    """The filter that cuts the chosen part out of decoded samples."""
    first = round(start_s * track.sample_rate)
    end = "" if duration_s is None else f":end_sample={first + round(duration_s * track.sample_rate)}"
    return f"atrim=start_sample={first}{end}"


def _check_announced(
    path: Path, track: SoundTrack, start_s: float, duration_s: float | None, max_seconds: float
) -> None:
    """Refuse by the header alone, where it is clear, what would take long to decode."""
    if track.seconds is None:
        return
    if start_s >= track.seconds + 1:  # the header's length is rounded, and may leave out some padding
        raise _nothing_there(path, track, start_s)
    seconds = track.seconds - start_s
    if duration_s is not None:
        seconds = min(seconds, duration_s)
    if seconds > max_seconds + 1:
        raise _too_long(path, f"{seconds:.1f} s", max_seconds)


class AudioTooLong(InvalidRequest):
    """There is more audio than is accepted."""


def _too_long(path: Path, length: str, max_seconds: float) -> AudioTooLong:
    return AudioTooLong(
        f"audio: {shown(path)} gives {length} of audio, and at most {max_seconds:g} s are accepted; "
        "choose a part of it with audio_start and audio_duration."
    )


def _too_short(path: Path, seconds: float) -> InvalidRequest:
    return InvalidRequest(
        f"audio: {shown(path)} gives {seconds:.3g} s of audio; at least {MIN_AUDIO_SECONDS} s are needed."
    )


def _nothing_there(path: Path, track: SoundTrack, start_s: float) -> InvalidRequest:
    if not start_s:
        return InvalidRequest(f"audio: {shown(path)} holds no audio; give {ACCEPTED}.")
    length = "" if track.seconds is None else f", which is {track.seconds:.2f} s long"
    return InvalidRequest(f"audio_start: {start_s:g} s lies past the end of {shown(path)}{length}.")


def _too_slow(path: Path) -> InvalidRequest:
    return InvalidRequest(f"audio: reading {shown(path)} takes more than {READING_LIMIT_S} s; give a shorter file.")


def _unreadable(path: Path) -> InvalidRequest:
    return InvalidRequest(f"audio: {shown(path)} cannot be read as audio; give {ACCEPTED}.")
