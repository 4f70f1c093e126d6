"""Scenes: ten seconds of sound and what a face does to it, made once and kept in the work folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assets.sample_model.training.acting import FRAMES_PER_SECOND, act
from assets.sample_model.training.faces import Movement
from assets.sample_model.training.runs import share
from assets.sample_model.training.voices import RATE, make_sound

SCENES = 800
FRAMES = 160
LEAD = 3  # frames of silence first, as the recipe gives them
SEED = 10


@dataclass(frozen=True)
class Scene:
    """Sound, float32 (n,) at 16 kHz, and the movement of its FRAMES frames."""

    heard: np.ndarray
    movement: Movement


def make_scenes(folder: Path) -> None:
    """Make those scenes of this process that are not there yet."""
    (folder / "scenes").mkdir(exist_ok=True, parents=True)
    for number in share(SCENES):
        if not _path(folder, number).exists():
            scene = _make_scene(np.random.default_rng((SEED, number)))
            movement = np.stack([getattr(scene.movement, name) for name in Movement.__annotations__])
            with _path(folder, number).with_suffix(".part").open("wb") as file:
                np.savez(file, heard=scene.heard.astype(np.float16), movement=movement)
            _path(folder, number).with_suffix(".part").replace(_path(folder, number))


def load_scene(folder: Path, number: int) -> Scene:
    """Scene `number` from 0 to SCENES - 1."""
    with np.load(_path(folder, number)) as file:
        return Scene(file["heard"].astype(np.float32), Movement(*file["movement"]))


def _make_scene(rng: np.random.Generator) -> Scene:
    lead = LEAD * RATE // FRAMES_PER_SECOND
    sound = make_sound(rng, FRAMES / FRAMES_PER_SECOND - lead / RATE)
    heard, speech = (np.pad(samples, (lead, 0)) for samples in (sound.heard, sound.speech))
    return Scene(heard, act(speech, FRAMES))


def _path(folder: Path, number: int) -> Path:
    return folder / "scenes" / f"{number:04}.npz"
