"""The autoencoder computed another way gives what diffusers' own gives."""

import copy

import pytest
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanRMS_norm

from pipeline.model.autoencoder_on_cpu import QUICK, FlatCausalConv3d, SummedRMSNorm, quicken_on_cpu


@pytest.mark.parametrize("frames", [1, 5, 13])
def test_a_video_is_coded_and_decoded_as_before(frames: int) -> None:
    torch.manual_seed(0)
    vae = AutoencoderKLWan(base_dim=8).eval()
    flat = quicken_on_cpu(copy.deepcopy(vae))
    assert not any(type(module) in QUICK for module in flat.modules())
    pixels = torch.rand(1, 3, frames, 48, 64) * 2 - 1
    with torch.no_grad():
        latents = vae.encode(pixels).latent_dist.mode()
        torch.testing.assert_close(flat.encode(pixels).latent_dist.mode(), latents, rtol=0, atol=1e-5)
        torch.testing.assert_close(flat.decode(latents).sample, vae.decode(latents).sample, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [((3, 3, 3), 1, 1), ((3, 1, 1), (2, 1, 1), 0), ((1, 3, 3), 1, (0, 1, 1))]
)
@pytest.mark.parametrize("remembered", [0, 1, 2])
def test_every_kind_of_convolution_with_and_without_frames_from_before(
    kernel: tuple, stride: tuple | int, padding: tuple | int, remembered: int
) -> None:
    torch.manual_seed(0)
    conv = WanCausalConv3d(6, 5, kernel, stride, padding)
    flat = copy.deepcopy(conv)
    flat.__class__ = FlatCausalConv3d
    x, before = torch.randn(2, 6, 5, 7, 9), torch.randn(2, 6, remembered, 7, 9) if remembered else None
    torch.testing.assert_close(flat(x, before), conv(x, before), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [1, 1e-20, 0])
@pytest.mark.parametrize(("images", "shape"), [(True, (2, 6, 7, 9)), (False, (2, 6, 3, 7, 9))])
def test_every_kind_of_norm_of_large_small_and_no_numbers(images: bool, shape: tuple, size: float) -> None:
    torch.manual_seed(0)
    norm = WanRMS_norm(6, images=images)
    torch.nn.init.normal_(norm.gamma)
    summed = copy.deepcopy(norm)
    summed.__class__ = SummedRMSNorm
    x = torch.randn(shape) * size
    torch.testing.assert_close(summed(x), norm(x), rtol=0, atol=1e-5)
