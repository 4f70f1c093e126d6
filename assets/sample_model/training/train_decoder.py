"""The autoencoder's decoder once more, on latents that the transformer makes.

It learns to put their faults right, and to go on without a jump after what it has drawn was encoded again: so the next
clip begins, with a memory of the last one's pictures.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import AutoencoderKLWan

from assets.sample_model.training.clips import Clip, as_coded, load_clips, make_shot
from assets.sample_model.training.faces import draw_video
from assets.sample_model.training.plain_start import TEXT_WIDTH
from assets.sample_model.training.planar import decode, encode, make_planar
from assets.sample_model.training.precision import autocast
from assets.sample_model.training.runs import Run, train
from assets.sample_model.training.train_transformer import flat_patches, load_features, trained_transformer
from assets.sample_model.training.train_vae import (
    AFAR,
    from_afar,
    picture_loss,
    pixel_weight,
    psnr,
    to_pixels,
    trained_vae,
)
from pipeline.model.sampling import Denoising, make_scheduler
from pipeline.model.transformer import SpeechToVideoTransformer
from pipeline.request import LATENT_STRIDE

STEPS = 220
SEED = 60
MADE, SHOWN = 6, 4  # latents that are made, and those of them that are decoded
REMEMBERED = 2  # latents that the next clip's first one, the last of those, is decoded after
STEADINESS = 6  # what it counts that its pictures stay the same after a memory that was encoded again
BEFORE = (0, 0, 0, 0, 1, 0)  # padding: the frame before the border is shown as it was made
SAMPLER = ("unipc", 6, 5.0)  # as the model is used: solver, steps, shift


def train_decoder(folder: Path) -> None:
    """Train or go on training; the result is the state of the run "decoder"."""
    torch.manual_seed(SEED)
    clips, features = load_clips(folder), load_features(folder)
    transformer = flat_patches(trained_transformer(folder)).requires_grad_(False)
    vae = make_planar(trained_vae(folder))
    for part in (vae.encoder, vae.quant_conv):
        part.requires_grad_(False)
    run = Run("decoder", folder, STEPS, muon_lr=0.0006, adam_lr=0.0003, seed=SEED)

    def loss(_: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        number = int(rng.integers(len(clips)))
        return decoding_loss(vae, transformer, clips[number], features[clips[number].scene], folder, number, rng)

    train(run, vae, loss)


def decoding_loss(
    vae: AutoencoderKLWan,
    transformer: SpeechToVideoTransformer,
    clip: Clip,
    features: torch.Tensor,
    folder: Path,
    number: int,
    rng: np.random.Generator,
) -> tuple[torch.Tensor, dict[str, float]]:
    """How far decoded latents of the transformer's are from the drawn frames, and from themselves as a next clip's."""
    start = int(rng.integers(0, clip.latents.shape[1] - MADE + 1)) if rng.random() < 0.6 else 0
    made = make_latents(transformer, clip, features, start, rng)[:, :SHOWN]
    before = clip.latents[:, start - 1 : start] if start else clip.portrait
    latents = as_coded(vae, torch.cat([before, made], dim=1))[None]
    decoded = decode(vae, latents)
    shot = make_shot(folder, number)
    movement = shot.movement.part(start * LATENT_STRIDE, SHOWN * LATENT_STRIDE)
    pixels, weight = to_pixels(draw_video(shot.face, movement))[None], pixel_weight(shot.face)[None]
    own = decoded.detach().clamp(-1, 1)
    change = border_change(vae, latents, own)
    shift = 127.5 * from_afar(change.detach()).abs().mean().item()  # of 256 levels
    notes = {"psnr": psnr(own[:, :, 1:], pixels), "shift": shift}
    drawn, kept = (picture_loss(x, weight, AFAR) for x in (decoded[:, :, 1:] - pixels, F.pad(change, BEFORE)))
    return drawn + STEADINESS * kept, notes


def border_change(vae: AutoencoderKLWan, latents: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """What becomes of the last latent's frames, in `own`, when those before it are encoded again: (B, 3, 4, H, W).

    So the pictures of a next clip begin. The frames of the memory are not shown, nothing is asked of them.
    """
    memory = encode(vae, own[:, :, -1 - REMEMBERED * LATENT_STRIDE : -LATENT_STRIDE])
    again = decode(vae, torch.cat([memory, latents[:, :, -1:]], dim=2))
    return (again - own[:, :, -1 - REMEMBERED * LATENT_STRIDE :])[:, :, -LATENT_STRIDE:]


@torch.no_grad()
def make_latents(
    transformer: SpeechToVideoTransformer, clip: Clip, features: torch.Tensor, start: int, rng: np.random.Generator
) -> torch.Tensor:
    """(16, MADE, h, w), as an opening clip that begins at `start`."""
    first = clip.first + start * LATENT_STRIDE
    heard = features[None, ..., first : first + MADE * LATENT_STRIDE]
    noise = torch.from_numpy(rng.standard_normal((1, 16, MADE, *clip.portrait.shape[-2:]), np.float32))
    solver, steps, shift = SAMPLER
    with autocast():
        told = transformer.encode_conditions(torch.zeros(1, 1, TEXT_WIDTH), heard, clip.portrait[None])
        work = Denoising(make_scheduler(solver, steps, shift, noise.device), noise)
        for _ in work.steps(partial(transformer, clip=told)):
            pass
    return work.latents[0].float()


def finished_vae(folder: Path) -> AutoencoderKLWan:
    """The autoencoder with what the run left."""
    vae = trained_vae(folder)
    vae.load_state_dict(torch.load(folder / "decoder.pt", weights_only=True)["model"])
    return vae
