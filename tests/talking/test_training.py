"""The parts of the sample model's training that must be exact."""

import copy

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

from assets.sample_model.training.acting import act
from assets.sample_model.training.clips import CLIP_FRAMES, Clip
from assets.sample_model.training.plain_start import make_transformer
from assets.sample_model.training.planar import decode, encode, make_planar
from assets.sample_model.training.train_decoder import make_latents
from assets.sample_model.training.train_transformer import (
    PatchConv3d,
    Window,
    changes,
    draw_window,
    flow_loss,
    make_student,
)
from assets.sample_model.training.train_vae import from_afar, make_vae


@pytest.mark.parametrize("frames", [1, 5, 9])
def test_flat_convolutions_give_what_the_autoencoder_gives(frames: int) -> None:
    torch.manual_seed(0)
    vae = AutoencoderKLWan(base_dim=8).eval()
    planar = make_planar(copy.deepcopy(vae))
    pixels = torch.rand(1, 3, frames, 64, 64) * 2 - 1
    with torch.no_grad():
        latents = vae.encode(pixels).latent_dist.mode()
        video = vae.decode(latents).sample
        assert _noise_ratio(encode(planar, pixels), latents) < 0.05
        assert _noise_ratio(decode(planar, latents).clamp(-1, 1), video) < 0.1


def _noise_ratio(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).std() / wanted.std())


def test_the_untrained_autoencoder_gives_a_grey_picture_back_much_as_it_was() -> None:
    torch.manual_seed(0)
    vae = make_vae().eval()
    dark, light = (torch.full((1, 3, 5, 32, 32), value) for value in (-0.5, 0.5))
    with torch.no_grad():
        seen = [float(vae.decode(vae.encode(x).latent_dist.mode()).sample.mean()) for x in (dark, light)]
    assert seen[1] - seen[0] > 0.3


def test_from_afar_a_shift_of_colour_stays_and_grain_is_gone() -> None:
    rows = torch.arange(128)[:, None]
    shift, grain = torch.full((1, 3, 5, 128, 192), 0.1), 0.1 * (-1.0) ** (rows + torch.arange(192))
    assert from_afar(shift).shape == (1, 3, 5, 8, 12)
    assert torch.allclose(from_afar(shift), torch.tensor(0.1))
    assert from_afar(grain).abs().max() < 1e-6


@pytest.mark.parametrize("level", [0.999, 0.9, 0.5])
def test_the_untrained_transformer_turns_noise_into_the_still_portrait(level: float) -> None:
    torch.manual_seed(0)
    model = make_transformer().eval()
    portrait, noise = torch.randn(1, 16, 1, 16, 16), torch.randn(1, 16, 4, 16, 16)
    noisy = (1 - level) * portrait + level * noise
    with torch.no_grad():
        clip = model.encode_conditions(torch.zeros(1, 1, 64), torch.randn(1, 25, 32, 16), portrait)
        clean = noisy - level * model(noisy, torch.tensor([1000 * level]), clip)
    assert (clean - portrait).square().mean() < 0.1


def test_half_of_what_the_transformer_is_shown_goes_on_from_a_motion_memory() -> None:
    latents = torch.arange(CLIP_FRAMES // 4).float().view(1, -1, 1, 1).expand(16, -1, 16, 16)
    clip = Clip(latents[:, :1], latents, torch.ones(16, 16), scene=0, first=0)
    audio, movement = torch.zeros(25, 32, CLIP_FRAMES), torch.zeros(CLIP_FRAMES, 2)
    rng = np.random.default_rng(0)
    windows = [draw_window(clip, audio, movement, rng) for _ in range(200)]
    remembered = [window for window in windows if window.motion is not None]
    assert 70 < len(remembered) < 130
    for window in remembered:
        first = int(window.latents[0, 0, 0, 0, 0])
        assert torch.allclose(window.motion.mean(dim=(0, 1, 3, 4)), torch.arange(first - 19.0, first), atol=0.1)


def test_patches_as_products_are_the_convolution() -> None:
    torch.manual_seed(0)
    conv = torch.nn.Conv3d(16, 8, (2, 4, 4), (2, 4, 4))
    latents = torch.randn(1, 16, 4, 8, 12)
    wanted = conv(latents)
    conv.__class__ = PatchConv3d
    torch.testing.assert_close(conv(latents), wanted, rtol=1e-4, atol=1e-4)


def test_silence_shuts_the_mouth_and_a_vowel_opens_it() -> None:
    ticks = np.arange(16_000) / 16_000
    vowel = np.sin(2 * np.pi * 300 * ticks) * (ticks > 0.5)
    movement = act(vowel.astype(np.float32), 16)
    assert movement.opening[:6].max() < 0.05
    assert movement.opening[11:].min() > 0.8


def test_a_face_that_jumps_after_what_it_remembers_counts_as_unsteady() -> None:
    still_wrong = torch.ones(1, 16, 3, 2, 2)
    assert changes(still_wrong, after_known=False).abs().max() == 0
    assert changes(still_wrong, after_known=True).square().sum() == 16 * 2 * 2


def test_the_decoder_learns_from_latents_that_the_transformer_makes() -> None:
    torch.manual_seed(0)
    portrait = torch.randn(16, 1, 16, 16)
    clip = Clip(portrait, portrait.repeat(1, 8, 1, 1), torch.ones(16, 16), scene=0, first=0)
    made = make_latents(make_transformer().eval(), clip, torch.randn(25, 32, 32), 0, np.random.default_rng(0))
    assert (made - portrait).square().mean() < 0.1


def test_every_part_of_the_transformer_that_is_to_learn_gets_a_gradient() -> None:
    torch.manual_seed(0)
    student = make_student()
    window = Window(
        latents=torch.randn(1, 16, 2, 16, 16),
        portrait=torch.randn(1, 16, 1, 16, 16),
        motion=torch.randn(1, 16, 19, 16, 16),
        audio=torch.randn(1, 25, 32, 8),
        movement=torch.rand(8, 2),
        weight=torch.ones(16, 16),
    )
    flow_loss(student, window, np.random.default_rng(0))[0].backward()
    without = [name for name, weight in student.named_parameters() if weight.requires_grad and weight.grad is None]
    assert not without
