"""Media files made for the tests, and ways to look into those that the program writes."""

import re
import subprocess
from pathlib import Path

import numpy as np
import soundfile
from imageio_ffmpeg import get_ffmpeg_exe

BITS = 10  # of a frame's number, shown as black and white bars
BAR = 8  # pixels
HEIGHT, WIDTH = 64, 96


def ffmpeg(*arguments: object, told: bytes = b"") -> bytes:
    """Run ffmpeg; a failure fails the test with what ffmpeg said."""
    command = [get_ffmpeg_exe(), "-y", "-loglevel", "error", *map(str, arguments)]
    done = subprocess.run(command, input=told, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def noise(seconds: float, rate: int, channels: int = 1, level: float = 0.1, seed: int = 0) -> np.ndarray:
    """Noise, float64 (n, channels), with values of 16 bits."""
    values = np.random.default_rng(seed).normal(0, level, (round(seconds * rate), channels))
    return np.round(np.clip(values, -1, 0.99) * 32768) / 32768


def write_sound(path: Path, samples: np.ndarray, rate: int, *encoding: object) -> Path:
    """Write samples as 16-bit WAV, or what the name's suffix stands for (with ffmpeg's options `encoding`)."""
    wav = path if path.suffix == ".wav" else path.with_suffix(".source.wav")
    soundfile.write(wav, samples, rate, subtype="PCM_16")
    if wav != path:
        ffmpeg("-i", wav, *encoding, path)
        wav.unlink()
    return path


def numbered(count: int, first: int = 0) -> np.ndarray:
    """Frames that show their number in bars: uint8 (count, 64, 96, 3)."""
    frames = np.zeros((count, HEIGHT, WIDTH, 3), np.uint8)
    for i in range(count):
        for bit in range(BITS):
            frames[i, :, bit * BAR : (bit + 1) * BAR] = 255 * ((i + first) >> bit & 1)
    return frames


def numbers(frames: np.ndarray) -> list[int]:
    """The numbers that `numbered` frames show, whatever a codec has made of them."""
    middles = frames[:, HEIGHT // 2, BAR // 2 : BITS * BAR : BAR, 0] > 128
    return [int(value) for value in middles @ (1 << np.arange(BITS))]


def write_movie(path: Path, count: int, rate: object, *encoding: object) -> Path:
    """A movie of `count` numbered frames, `rate` a second."""
    size = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", rate)
    ffmpeg(*size, "-i", "pipe:0", *(encoding or ("-c:v", "libx264")), path, told=numbered(count).tobytes())
    return path


def frames_of(path: Path, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """All frames of a movie as a player shows them: uint8 (T, H, W, 3)."""
    raw = ffmpeg("-i", path, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1")
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def sound_of(path: Path, channels: int) -> np.ndarray:
    """The sound of a file, at its own rate: float32 (n, channels)."""
    raw = ffmpeg("-i", path, "-map", "0:a:0", "-f", "f32le", "pipe:1")
    return np.frombuffer(raw, np.float32).reshape(-1, channels)


def frame_times(path: Path) -> list[float]:
    """When each frame of a movie is shown, in seconds, from its packets."""
    return sorted(shown for _, shown in packet_times(path))


def packet_times(path: Path) -> list[tuple[float, float]]:
    """When each frame of a movie is decoded and when it is shown, in seconds, in the order of the file."""
    table = ffmpeg("-i", path, "-map", "0:V:0", "-c", "copy", "-f", "framecrc", "pipe:1").decode()
    numerator, denominator = map(int, re.search(r"#tb 0: (\d+)/(\d+)", table).groups())
    rows = [line.split(",") for line in table.splitlines() if not line.startswith("#")]
    return [(int(row[1]) * numerator / denominator, int(row[2]) * numerator / denominator) for row in rows]


def streams_of(path: Path) -> str:
    """What ffmpeg tells of a file."""
    command = [get_ffmpeg_exe(), "-hide_banner", "-i", str(path)]
    return subprocess.run(command, capture_output=True, text=True).stderr
