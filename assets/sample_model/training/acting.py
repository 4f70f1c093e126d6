"""What a face does to a sound: the mouth follows loudness and brightness, the head nods, the eyes blink in pauses."""

import numpy as np

from assets.sample_model.training.faces import Movement
from assets.sample_model.training.voices import RATE

FRAMES_PER_SECOND = 16
WINDOW = 1024  # samples that a frame's sound is judged by
VOICE_BAND, BRIGHT_BAND = (150, 1600), (1600, 4000)  # Hz
RANGE = 30.0  # decibels from a loud vowel to a closed mouth


def act(speech: np.ndarray, frames: int) -> Movement:
    """The movement to `speech`, float32 (n,) at 16 kHz; frame i is at i / 16 s."""
    loudness, tilt = _judge(speech, frames)
    loud = np.percentile(loudness, 95)
    opening = _smooth(np.clip((loudness - loud + RANGE) / RANGE, 0, 1) ** 1.5)
    audible = loudness > loud - RANGE
    width = _smooth(np.where(audible, np.clip((tilt + 12) / 10, -1, 1), 0))
    nod = _lag(opening, 0.85)
    values = (opening, width, _blinks(audible), 1.6 * _lag(width, 0.85), 2.0 * nod)
    return Movement(*(value.astype(np.float32) for value in values))


def _judge(speech: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Per frame the voice's level and how far the bright sounds stand above it, in decibels."""
    starts = np.arange(frames) * RATE // FRAMES_PER_SECOND
    padded = np.pad(speech, (WINDOW // 2, WINDOW + max(0, int(starts[-1]) - len(speech))))
    windows = np.stack([padded[start : start + WINDOW] for start in starts]) * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(windows)) ** 2
    pitch = np.fft.rfftfreq(WINDOW, 1 / RATE)
    voice, bright = (
        10 * np.log10(power[:, (pitch >= low) & (pitch < high)].sum(axis=1) + 1e-4)
        for low, high in (VOICE_BAND, BRIGHT_BAND)
    )
    return voice, bright - voice


def _smooth(values: np.ndarray) -> np.ndarray:
    """A jaw has a mass: each value with a share of its neighbours."""
    padded = np.pad(values, 1, mode="edge")
    return 0.2 * padded[:-2] + 0.6 * padded[1:-1] + 0.2 * padded[2:]


def _lag(values: np.ndarray, keep: float) -> np.ndarray:
    """Follows `values` slowly, from 0."""
    result, last = np.empty_like(values), 0.0
    for i, value in enumerate(values):
        last = keep * last + (1 - keep) * value
        result[i] = last
    return result


def _blinks(audible: np.ndarray) -> np.ndarray:
    """A blink of three frames two frames into each pause, but not twice in a second."""
    blink = np.zeros(len(audible))
    last = -FRAMES_PER_SECOND
    for i in range(2, len(audible) - 3):
        if not audible[i - 1 : i + 1].any() and audible[i - 2] and i - last >= FRAMES_PER_SECOND:
            blink[i : i + 3] = (0.6, 1, 0.5)
            last = i
    return blink
