"""Clips: the latents of drawn faces that talk, made once and kept in the work folder."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from assets.sample_model.training.faces import SQUARE, UPRIGHT, Face, Movement, draw_video, make_face, still
from assets.sample_model.training.planar import encode, make_planar
from assets.sample_model.training.runs import share
from assets.sample_model.training.scenes import FRAMES, SCENES, load_scene
from assets.sample_model.training.train_vae import to_pixels, trained_vae

CLIPS = 320
CLIP_FRAMES = 100  # of a scene's
SEED = 30
SPATIAL_STRIDE = 8


@dataclass(frozen=True)
class Clip:
    """Normalised latents, fp32: the portrait's (16, 1, h, w) and those of the frames, (16, F, h, w).

    `scene` and `first` say which sound they go with, from which frame on; `weight` (h, w) what its places count.
    """

    portrait: torch.Tensor
    latents: torch.Tensor
    weight: torch.Tensor
    scene: int
    first: int


@torch.no_grad()
def make_clips(folder: Path) -> None:
    """Make those clips of this process that are not there yet."""
    (folder / "clips").mkdir(exist_ok=True)
    vae = make_planar(trained_vae(folder))
    for number in share(CLIPS):
        path = _path(folder, number)
        if not path.exists():
            torch.save(_make_clip(vae, folder, number), path.with_suffix(".part"))
            path.with_suffix(".part").replace(path)


def load_clips(folder: Path) -> list[Clip]:
    """All clips that are there."""
    return [Clip(**_in_fp32(torch.load(path, weights_only=True))) for path in sorted((folder / "clips").glob("*.pt"))]


@dataclass(frozen=True)
class Shot:
    """What a clip shows: a face, and from frame `first` on what it does in `scene`."""

    face: Face
    scene: int
    first: int
    movement: Movement


def make_shot(folder: Path, number: int) -> Shot:
    """What clip `number` shows, drawn by lot."""
    rng = np.random.default_rng((SEED, number))
    face = make_face(rng, SQUARE if rng.random() < 0.8 else UPRIGHT)
    first = int(rng.integers(0, (FRAMES - CLIP_FRAMES) // 4 + 1)) * 4 if rng.random() < 0.5 else 0
    movement = load_scene(folder, number % SCENES).movement
    return Shot(face, number % SCENES, first, movement.part(first, CLIP_FRAMES))


def _make_clip(vae: torch.nn.Module, folder: Path, number: int) -> dict[str, object]:
    shot = make_shot(folder, number)
    pixels = to_pixels(np.concatenate([draw_video(shot.face, still()), draw_video(shot.face, shot.movement)]))
    latents = normalised(vae, encode(vae, pixels[None])[0]).half()
    return {
        "portrait": latents[:, :1],
        "latents": latents[:, 1:],
        "weight": place_weight(shot.face),
        "scene": shot.scene,
        "first": shot.first,
    }


def normalised(vae: torch.nn.Module, latents: torch.Tensor) -> torch.Tensor:
    """(16, F, h, w) as the transformer sees them."""
    mean, std = _statistics(vae)
    return (latents - mean) / std


def as_coded(vae: torch.nn.Module, latents: torch.Tensor) -> torch.Tensor:
    """The reverse: (16, F, h, w) as the decoder sees them."""
    mean, std = _statistics(vae)
    return latents * std + mean


def _statistics(vae: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(vae.config.latents_mean).view(-1, 1, 1, 1), torch.tensor(vae.config.latents_std).view(
        -1, 1, 1, 1
    )


def place_weight(face: Face) -> torch.Tensor:
    """(h, w): 1, and more where the eyes and the mouth are."""
    weight = torch.ones(face.size[0] // SPATIAL_STRIDE, face.size[1] // SPATIAL_STRIDE)
    for (left, top, right, bottom), value in ((face.eyes_box, 3.0), (face.mouth_box, 8.0)):
        rows = slice(top // SPATIAL_STRIDE, -(-bottom // SPATIAL_STRIDE))
        weight[rows, left // SPATIAL_STRIDE : -(-right // SPATIAL_STRIDE)] = value
    return weight


def _in_fp32(values: dict[str, object]) -> dict[str, object]:
    return {key: value.float() if isinstance(value, torch.Tensor) else value for key, value in values.items()}


def _path(folder: Path, number: int) -> Path:
    return folder / "clips" / f"{number:04}.pt"
