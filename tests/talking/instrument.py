"""How well a face talks, measured on its pixels: lips against sound, likeness to the portrait, seams between clips.

Frames are uint8 (T, H, W, 3) at 16 a second, a portrait is one such frame, a box (left, top, right, bottom).
"""

from dataclasses import dataclass

import numpy as np

FRAMES_PER_SECOND = 16
RATE = 16_000  # samples per second
WINDOW = 1024  # samples around a frame's time
VOICE_BAND = (150, 1600)  # Hz: where vowels are
RANGE = 30.0  # decibels below the loudest that still count as sound
LAGS = 8  # frames to either side at which the best lag is looked for
SWAY = 3  # pixels to any side by which a head may have moved

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class LipSync:
    """`correlation` of mouth and sound at the best lag of at most one frame; `lag` is the best of all, frames.

    A positive lag: the mouth is late.
    """

    correlation: float
    lag: int


def lip_sync(opening: np.ndarray, envelope: np.ndarray) -> LipSync:
    """Compare the mouth's opening with the sound's envelope, both (T,)."""
    found = {lag: _correlation(opening, envelope, lag) for lag in range(-LAGS, LAGS + 1)}
    return LipSync(max(found[lag] for lag in (-1, 0, 1)), max(found, key=found.__getitem__))


def _correlation(opening: np.ndarray, envelope: np.ndarray, lag: int) -> float:
    count = len(opening) - abs(lag)
    late, early = opening[max(0, lag) :][:count], envelope[max(0, -lag) :][:count]
    if late.std() < 1e-9 or early.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(late, early)[0, 1])


def sound_envelope(samples: np.ndarray, frames: int) -> np.ndarray:
    """The loudness of the voice at each frame's time, 0 (RANGE below the loudest and less) to 1, from float32 (n,)."""
    padded = np.pad(samples, (WINDOW // 2, WINDOW + max(0, frames * RATE // FRAMES_PER_SECOND - len(samples))))
    starts = np.arange(frames) * RATE // FRAMES_PER_SECOND
    windows = np.stack([padded[start : start + WINDOW] for start in starts]) * np.hanning(WINDOW)
    pitch = np.fft.rfftfreq(WINDOW, 1 / RATE)
    band = (pitch >= VOICE_BAND[0]) & (pitch < VOICE_BAND[1])
    level = 10 * np.log10((np.abs(np.fft.rfft(windows)[:, band]) ** 2).sum(axis=1) + 1e-6)
    return np.clip((level - level.max() + RANGE) / RANGE, 0, 1)


def mouth_opening(frames: np.ndarray, portraits: np.ndarray, mouth: Box) -> np.ndarray:
    """How much of the mouth differs from the portrait's, which is shut: (T,), with the portrait moved to each frame."""
    left, top, right, bottom = mouth
    box = (..., slice(top, bottom), slice(left, right), slice(None))
    return np.abs(frames[box] - portraits[box]).mean(axis=(1, 2, 3))


def move_to_frames(portrait: np.ndarray, frames: np.ndarray, moving: tuple[Box, ...]) -> np.ndarray:
    """For each frame the portrait, moved by whole and half pixels to where it fits best outside the `moving` boxes.

    float32 (T, H, W, 3).
    """
    mask = still_places(portrait.shape[:2], moving)
    grey = portrait.astype(np.float32).mean(axis=2)
    ways = [_best_way(grey, frame.astype(np.float32).mean(axis=2), mask) for frame in frames]
    return np.stack([_moved(portrait.astype(np.float32), *way) for way in ways])


def _best_way(portrait: np.ndarray, frame: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """(down, right), from grey pictures (H, W)."""

    def distance(way: tuple[float, float]) -> float:
        return float((((_moved(portrait, *way) - frame) ** 2) * mask).sum())

    down, right = min(((i, j) for i in range(-SWAY, SWAY + 1) for j in range(-SWAY, SWAY + 1)), key=distance)
    return min(((down + i / 2, right + j / 2) for i in (-1, 0, 1) for j in (-1, 0, 1)), key=distance)


def _moved(picture: np.ndarray, down: float, right: float) -> np.ndarray:
    """`picture` moved by half pixels; what goes out at one side comes in at the other."""
    for axis, way in ((0, down), (1, right)):
        low = int(np.floor(way))
        moved = np.roll(picture, low, axis)
        picture = moved if way == low else (moved + np.roll(picture, low + 1, axis)) / 2
    return picture


def still_places(size: tuple[int, int], moving: tuple[Box, ...]) -> np.ndarray:
    """bool (H, W): what is in no box and not at the rim."""
    mask = np.zeros(size, bool)
    mask[SWAY + 1 : -SWAY - 1, SWAY + 1 : -SWAY - 1] = True
    for left, top, right, bottom in moving:
        mask[max(0, top) : bottom, max(0, left) : right] = False
    return mask


def likeness(frames: np.ndarray, portraits: np.ndarray, moving: tuple[Box, ...]) -> float:
    """PSNR in decibels of frames against the portrait moved to each, outside the `moving` boxes."""
    mask = still_places(frames.shape[1:3], moving)
    error = float(((frames[:, mask] - portraits[:, mask]) ** 2).mean())
    return float(10 * np.log10(255**2 / max(error, 1e-6)))


def seam(frames: np.ndarray, borders: list[int]) -> float:
    """How much larger the jumps into clips are than those elsewhere; `borders` are the clips' first frames."""
    jumps = np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))
    at_borders = np.zeros(len(jumps), bool)
    at_borders[np.array(borders) - 1] = True
    return float(jumps[at_borders].mean() / jumps[~at_borders].mean())
