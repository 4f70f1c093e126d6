"""The autoencoder's convolutions over three frames as sums of flat ones, where a CPU does them.

PyTorch's three-dimensional convolution is several times slower on a CPU than flat ones where a layer's channels are no
multiple of 16, as in the sample model; where they are, as in Wan's own sizes, both take the same time.
"""

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d


class FlatCausalConv3d(WanCausalConv3d):
    """The same convolution; its numbers differ by rounding alone."""

    def forward(self, x: torch.Tensor, cache_x: torch.Tensor | None = None) -> torch.Tensor:
        """(B, C, T, H, W), and up to two frames from before it -> (B, O, T', H', W')."""
        if not x.is_cpu:
            return super().forward(x, cache_x)
        columns, _, rows, _, past, _ = self._padding
        if cache_x is not None and past:
            x, past = torch.cat([cache_x, x], dim=2), past - cache_x.shape[2]
        taps, stride = self.kernel_size[0], self.stride[0]
        frames = F.pad(x, (0, 0, 0, 0, past, 0)).transpose(1, 2)
        count = (frames.shape[1] - taps) // stride + 1
        result = 0
        for tap in range(taps):
            seen = frames[:, tap::stride][:, :count].flatten(0, 1)
            bias = self.bias if tap == 0 else None
            result = F.conv2d(seen, self.weight[:, :, tap], bias, self.stride[1:], (rows, columns)).add_(result)
        return result.unflatten(0, (-1, count)).transpose(1, 2)


def flatten_convolutions(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """`vae` itself, which from now on computes flat where it is on the CPU."""
    for module in vae.modules():
        if type(module) is WanCausalConv3d:
            module.__class__ = FlatCausalConv3d
    return vae
