"""Pixels <-> latents through Wan's causal video autoencoder."""

from collections.abc import Iterator

import torch
from diffusers import AutoencoderKLWan


def encode_video(vae: AutoencoderKLWan, pixels: torch.Tensor) -> torch.Tensor:
    """`pixels` (3, 1 + 4 n, H, W) in [-1, 1] -> normalised latents fp32 (16, 1 + n, H / 8, W / 8)."""
    mean, std = _statistics(vae)
    latents = vae.encode(pixels[None].to(vae.device, vae.dtype)).latent_dist.mode()
    return ((latents - mean) * (1.0 / std))[0].float()


def decode_video(vae: AutoencoderKLWan, latents: torch.Tensor) -> Iterator[torch.Tensor]:
    """Normalised `latents` (16, 1 + n, h, w) -> pixels in [-1, 1], one latent frame at a time.

    Yields fp32 (3, 1, H, W), then n times (3, 4, H, W). The decoder is causal and keeps what it needs of the past in
    its own cache, so this gives the same numbers as `vae.decode`, in bounded memory and with a place to stop after
    each chunk. One decoding at a time.
    """
    mean, std = _statistics(vae)
    hidden = vae.post_quant_conv(latents[None].to(vae.device, vae.dtype) / (1.0 / std) + mean)
    vae.clear_cache()
    try:
        for i in range(hidden.shape[2]):
            vae._conv_idx = [0]
            pixels = vae.decoder(
                hidden[:, :, i : i + 1], feat_cache=vae._feat_map, feat_idx=vae._conv_idx, first_chunk=i == 0
            )
            yield pixels[0].clamp(-1, 1).float()
    finally:
        vae.clear_cache()


def _statistics(vae: AutoencoderKLWan) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (1, -1, 1, 1, 1)
    mean, std = (torch.tensor(values, device=vae.device, dtype=vae.dtype).view(shape)
                 for values in (vae.config.latents_mean, vae.config.latents_std))  # fmt: skip
    return mean, std
