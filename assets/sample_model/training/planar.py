"""Wan's video autoencoder with its convolutions done as flat ones, in bf16 or fp32, for training on a CPU.

PyTorch's convolutions in three dimensions are ten to forty times slower on a CPU than those in two. A kernel over three
frames is the same as the sum of three flat ones, so that is what is computed, and the whole video at once instead of
chunk after chunk. The weights are those of the real class, in fp32. Pixels lie in memory with their channels together.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import (
    WanCausalConv3d,
    WanResample,
    WanRMS_norm,
    WanUpsample,
)
from torch import nn

from assets.sample_model.training.precision import COMPUTE


class PlanarConv3d(WanCausalConv3d):
    """The same convolution as up to three flat ones, over the present, the last and the last but one frame."""

    def forward(self, x: torch.Tensor, cache_x: None = None) -> torch.Tensor:
        """(B, C, T, H, W) -> (B, O, T', H, W), with nothing before the first frame."""
        frames = x.to(COMPUTE).transpose(1, 2)  # (B, T, C, H, W), in memory (B, T, H, W, C)
        if self.kernel_size[0] == 1:
            parts = [frames]
        elif self.stride[0] == 2:  # no padding: every second frame, from the first on
            parts = [frames[:, 2::2], frames[:, 1:-1:2], frames[:, :-2:2]]
        else:
            parts = _Past.apply(frames)[: frames.shape[1]]
        results = [self._flat(part, -1 - past) for past, part in enumerate(parts)]
        return (_Sum.apply(*results) if len(results) > 1 else results[0]).transpose(1, 2)

    def _flat(self, frames: torch.Tensor, tap: int) -> torch.Tensor:
        """(B, T, C, H, W) -> (B, T, O, H, W) with the kernel's `tap`; the bias goes with the present."""
        weight = self.weight[:, :, tap].to(COMPUTE).contiguous(memory_format=torch.channels_last)
        bias = self.bias.to(COMPUTE) if tap == -1 else None
        padding = (self._padding[2], self._padding[0])
        return F.conv2d(frames.flatten(0, 1), weight, bias, padding=padding).unflatten(0, frames.shape[:2])


class _Past(torch.autograd.Function):
    """Frames (B, T, ...) -> themselves, those but the last, those but the last two. Slices, and no copies."""

    @staticmethod
    def forward(ctx: object, frames: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return frames.view_as(frames), frames[:, :-1], frames[:, :-2]

    @staticmethod
    def backward(ctx: object, grad: torch.Tensor, last: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        grad = grad.clone()
        grad[:, :-1] += last
        grad[:, :-2] += before
        return grad


class _Sum(torch.autograd.Function):
    """The present (B, T, ...) plus what later frames get from the past, each laid to its end."""

    @staticmethod
    def forward(ctx: object, present: torch.Tensor, *past: torch.Tensor) -> torch.Tensor:
        ctx.missing = [present.shape[1] - part.shape[1] for part in past]
        result = present.clone()
        for part, missing in zip(past, ctx.missing, strict=True):
            result[:, missing:] += part
        return result

    @staticmethod
    def backward(ctx: object, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return grad, *(grad[:, missing:] for missing in ctx.missing)


class PlanarConv2d(nn.Conv2d):
    """A flat convolution in the type of precision.py."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight.to(COMPUTE).contiguous(memory_format=torch.channels_last)
        x = x.to(COMPUTE)
        return F.conv2d(x, weight, self.bias.to(COMPUTE), self.stride, self.padding)


class PlanarNorm(WanRMS_norm):
    """x / its root mean square over the channels, times a learned factor per channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.movedim(1, -1)
        normed = _Normed.apply(rows.reshape(-1, rows.shape[-1])).view(rows.shape)
        return (normed * self.gamma.flatten().to(x.dtype)).movedim(-1, 1)


class _Normed(torch.autograd.Function):
    """Rows (M, C) -> rows whose mean square is 1.

    The mean is a product with a matrix of ones, which gives it once for each channel: so short a row summed up and
    spread again by itself takes several times as long.
    """

    @staticmethod
    def forward(ctx: object, rows: torch.Tensor) -> torch.Tensor:
        ones = rows.new_full((rows.shape[1], rows.shape[1]), 1 / rows.shape[1])
        inverse = ((rows * rows) @ ones).add_(1e-8).rsqrt_()
        normed = rows * inverse
        ctx.save_for_backward(normed, inverse, ones)
        return normed

    @staticmethod
    def backward(ctx: object, grad: torch.Tensor) -> torch.Tensor:
        normed, inverse, ones = ctx.saved_tensors
        along = (grad * normed) @ ones
        return along.mul_(normed).neg_().add_(grad).mul_(inverse)


class PlanarUpsample(WanUpsample):
    """Every pixel four times."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x.to(COMPUTE), scale_factor=2, mode="nearest-exact")


class PlanarResample(WanResample):
    """Steps in time of a whole video: its first frame stands alone, the others go two by two."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.mode == "upsample3d" and x.shape[2] > 1:
            pairs = self.time_conv(x[:, :, 1:]).unflatten(1, (2, -1))
            x = torch.cat([x[:, :, :1], torch.stack(pairs.unbind(1), dim=3).flatten(2, 3)], dim=2)
        x = _as_video(self.resample(_as_images(x)), x.shape[0])
        if self.mode == "downsample3d" and x.shape[2] > 1:
            x = torch.cat([x[:, :, :1], self.time_conv(x)], dim=2)
        return x


def encode(vae: AutoencoderKLWan, pixels: torch.Tensor) -> torch.Tensor:
    """`pixels` (B, 3, 1 + 4 n, H, W) -> the latents' means, fp32 (B, 16, 1 + n, h, w), as `vae.encode` gives them."""
    return vae.quant_conv(vae.encoder(pixels)).chunk(2, dim=1)[0].float()


def decode(vae: AutoencoderKLWan, latents: torch.Tensor) -> torch.Tensor:
    """The reverse, fp32, without the cut to [-1, 1], which has no gradient."""
    return vae.decoder(vae.post_quant_conv(latents), first_chunk=True).float()


def _as_images(x: torch.Tensor) -> torch.Tensor:
    """(B, C, T, H, W) -> (B * T, C, H, W), channels last in memory."""
    return x.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)


def _as_video(x: torch.Tensor, batch: int) -> torch.Tensor:
    return x.unflatten(0, (batch, -1)).transpose(1, 2)


def make_planar(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """`vae` itself, which from now on computes flat and in the type of precision.py."""
    flat = {
        WanCausalConv3d: PlanarConv3d,
        nn.Conv2d: PlanarConv2d,
        WanRMS_norm: PlanarNorm,
        WanUpsample: PlanarUpsample,
        WanResample: PlanarResample,
    }
    for module in vae.modules():
        if type(module) in flat:
            module.__class__ = flat[type(module)]
    return vae
