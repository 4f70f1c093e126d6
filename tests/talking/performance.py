"""Videos of a model on faces and voices that its training never saw, and what the instrument says of them."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from assets.sample_model.training.faces import SQUARE, UPRIGHT, Face, draw_portrait, make_face
from assets.sample_model.training.voices import RATE, make_other_sound
from pipeline.events import ClipFrames
from pipeline.model.speech_to_video import SpeechToVideo
from pipeline.request import FRAMES_PER_SECOND, GenerationRequest
from pipeline.store.catalogue import entry_for

from .instrument import LipSync, likeness, lip_sync, mouth_opening, move_to_frames, seam, sound_envelope

HELD_OUT_SEED = 777


@dataclass(frozen=True)
class Performance:
    """A face, the sound, and the clips that were made of them, uint8 (T, H, W, 3) each."""

    face: Face
    sound: np.ndarray
    clips: list[np.ndarray]

    @property
    def frames(self) -> np.ndarray:
        return np.concatenate(self.clips)[: int(np.ceil(len(self.sound) / RATE * FRAMES_PER_SECOND))]


@dataclass(frozen=True)
class Verdict:
    """What the instrument says: lip sync with this sound, with others, likeness per clip (dB), the seam."""

    sync: LipSync
    wrong: float
    likeness: list[float]
    seam: float | None


def perform(model: SpeechToVideo, number: int, seconds: float, **settings: object) -> Performance:
    """Held-out face and voice `number`: every fourth frame is upright."""
    face, sound = held_out(number, seconds)
    return Performance(face, sound, list(_clips(model, face, sound, number, settings)))


def held_out(number: int, seconds: float) -> tuple[Face, np.ndarray]:
    """A face and a voice, float32 (n,), that training never draws."""
    rng = np.random.default_rng((HELD_OUT_SEED, number))
    face = make_face(rng, UPRIGHT if number % 4 == 3 else SQUARE)
    return face, make_other_sound(rng, seconds, number).heard


def _clips(
    model: SpeechToVideo, face: Face, sound: np.ndarray, seed: int, settings: dict[str, object]
) -> Iterator[np.ndarray]:
    with tempfile.TemporaryDirectory() as name:
        portrait, audio = Path(name) / "portrait.png", Path(name) / "audio.wav"
        draw_portrait(face).save(portrait)
        soundfile.write(audio, sound, RATE)
        values = {"portrait": portrait, "audio": audio, "seed": seed, **entry_for("sample").defaults, **settings}
        for event in model.generate(GenerationRequest.parse(values)):
            if isinstance(event, ClipFrames):
                yield event.frames


def judge(performance: Performance, other_sounds: list[np.ndarray]) -> Verdict:
    """Measure a performance, also against sounds that it was not made for: the mean of their correlations."""
    face, frames = performance.face, performance.frames
    moving = (face.mouth_box, face.eyes_box)
    portraits = move_to_frames(np.asarray(draw_portrait(face)), frames, moving)
    opening = mouth_opening(frames, portraits, face.mouth_box)
    borders = [int(border) for border in np.cumsum([len(clip) for clip in performance.clips])[:-1]]
    parts = zip(np.split(frames, borders), np.split(portraits, borders), strict=True)
    others = [sound_envelope(sound, len(frames)) for sound in other_sounds]
    return Verdict(
        sync=lip_sync(opening, sound_envelope(performance.sound, len(frames))),
        wrong=float(np.mean([lip_sync(opening, envelope).correlation for envelope in others])),
        likeness=[likeness(*part, moving) for part in parts],
        seam=seam(frames, borders) if borders else None,
    )
