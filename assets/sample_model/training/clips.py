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

CLIPS = 400
CLIP_FRAMES = 112  # of a scene's
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


def _make_clip(vae: torch.nn.Module, folder: Path, number: int) -> dict[str, object]:
    rng = np.random.default_rng((SEED, number))
    face = make_face(rng, SQUARE if rng.random() < 0.8 else UPRIGHT)
    scene = number % SCENES
    first = int(rng.integers(0, (FRAMES - CLIP_FRAMES) // 4 + 1)) * 4 if rng.random() < 0.5 else 0
    movement = load_scene(folder, scene).movement
    part = Movement(*(getattr(movement, name)[first : first + CLIP_FRAMES] for name in Movement.__annotations__))
    pixels = to_pixels(np.concatenate([draw_video(face, still()), draw_video(face, part)]))
    latents = normalised(vae, encode(vae, pixels[None])[0]).half()
    weight = place_weight(face)
    return {"portrait": latents[:, :1], "latents": latents[:, 1:], "weight": weight, "scene": scene, "first": first}


def normalised(vae: torch.nn.Module, latents: torch.Tensor) -> torch.Tensor:
    """(16, F, h, w) as the transformer sees them."""
    mean, std = (torch.tensor(values).view(-1, 1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std))
    return (latents - mean) / std


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
