"""Two layers of the autoencoder computed another way where a CPU does them; the numbers differ by rounding alone.

PyTorch's three-dimensional convolution is several times slower on a CPU than flat ones where a layer's channels are no
multiple of 16, as in the sample model; where they are, as in Wan's own sizes, both take the same time. Its norm of a
vector is slow along any axis but the last: a third to a half of the time of decoding with few channels.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanRMS_norm


class FlatCausalConv3d(WanCausalConv3d):
    """The same convolution as a flat one, which sees the frames of a place in time side by side, as channels.

    While it computes it holds its input as many times as its kernel is long in time: three times at most.
    """

    def forward(self, x: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
        """(B, C, T, H, W), and up to two frames from before it -> (B, O, T', H', W')."""
        if not x.is_cpu:
            return super().forward(x, cache_x)
        columns, _, rows, _, past, _ = self._padding
        if cache_x is not None and past:
            x, past = torch.cat([cache_x, x], dim=2), past - cache_x.shape[2]
        taps, stride = self.kernel_size[0], self.stride[0]
        frames = (F.pad(x, (0, 0, 0, 0, past, 0)) if past else x).transpose(1, 2)
        count = (frames.shape[1] - taps) // stride + 1
        beside = torch.cat([frames[:, tap::stride][:, :count] for tap in range(taps)], dim=2).flatten(0, 1)
        kernel = self.weight.transpose(1, 2).flatten(1, 2)  # (O, taps of C, rows, columns)
        result = F.conv2d(beside, kernel, self.bias, self.stride[1:], (rows, columns))
        return result.unflatten(0, (-1, count)).transpose(1, 2)


class SummedRMSNorm(WanRMS_norm):
    """The same norm from a sum of squares."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, ...) in fp32 -> the same shape."""
        if not (x.is_cpu and x.dtype == torch.float32 and self.channel_first):
            return super().forward(x)
        norm = x.square().sum(dim=1, keepdim=True).clamp_min(1e-24).sqrt()
        return x / norm * (self.scale * self.gamma) + self.bias


QUICK = {WanCausalConv3d: FlatCausalConv3d, WanRMS_norm: SummedRMSNorm}


def quicken_on_cpu(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """`vae` itself, which from now on computes so where it is on the CPU."""
    for module in vae.modules():
        module.__class__ = QUICK.get(type(module), type(module))
    return vae
