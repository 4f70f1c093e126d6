"""How speech enters the transformer: a causal encoder per clip, and cross-attention in some of the blocks."""

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers.models.normalization import AdaLayerNorm
from torch import nn

from pipeline.model.attention import make_attention
from pipeline.request import MOTION_FRAMES

MOTION_LATENTS = 1 + (MOTION_FRAMES - 1) // 4


class CausalConv1d(nn.Module):
    """A convolution along time, kernel 3, that sees the present and the past: the first step is repeated before it."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size=3, stride=stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, in_channels) -> (B, ceil(T / stride), out_channels)."""
        padded = F.pad(x.transpose(1, 2), (self.conv.kernel_size[0] - 1, 0), mode="replicate")
        return self.conv(padded).transpose(1, 2)


class CausalAudioEncoder(nn.Module):
    """Speech features of a clip -> per latent frame one vector and a few tokens. Runs in fp32."""

    def __init__(self, audio_dim: int, audio_layers: int, dim: int, num_tokens: int):
        super().__init__()
        self.num_tokens = num_tokens
        self.weights = nn.Parameter(torch.full((1, audio_layers, 1, 1), 0.01))
        self.conv1_local = CausalConv1d(audio_dim, dim // 4 * num_tokens)
        self.conv1_global = CausalConv1d(audio_dim, dim // 4)
        self.conv2 = CausalConv1d(dim // 4, dim // 2, stride=2)
        self.conv3 = CausalConv1d(dim // 2, dim, stride=2)
        self.final_linear = nn.Linear(dim, dim)
        self.padding_tokens = nn.Parameter(torch.zeros(1, 1, 1, dim))

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode `features`, fp32 (B, layers, audio_dim, N) with N video frames.

        Returns tokens (B, F, num_tokens + 1, D) and vectors (B, F, D), F = N / 4 latent frames.
        """
        before = features[..., :1].expand(-1, -1, -1, MOTION_FRAMES)
        mixed = self._mix_layers(torch.cat([before, features], dim=3)).transpose(1, 2)  # (B, 73 + N, audio_dim)
        local = self.conv1_local(mixed).unflatten(2, (self.num_tokens, -1)).transpose(1, 2).flatten(0, 1)
        tokens = self._halve_twice(local).unflatten(0, (-1, self.num_tokens)).transpose(1, 2)
        padding = self.padding_tokens.expand(*tokens.shape[:2], -1, -1)
        vectors = self.final_linear(self._halve_twice(self.conv1_global(mixed)))
        return torch.cat([tokens, padding], dim=2)[:, MOTION_LATENTS:], vectors[:, MOTION_LATENTS:]

    def _mix_layers(self, features: torch.Tensor) -> torch.Tensor:
        weights = F.silu(self.weights)
        return (features * weights).sum(dim=1) / weights.sum(dim=1)

    def _halve_twice(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv2(_norm_silu(x))
        x = self.conv3(_norm_silu(x))
        return _norm_silu(x)


def _norm_silu(x: torch.Tensor) -> torch.Tensor:
    return F.silu(F.layer_norm(x, x.shape[-1:], eps=1e-6))


class AudioInjector(nn.Module):
    """Lets the noisy tokens of each latent frame attend to the speech of that frame alone."""

    def __init__(self, dim: int, num_heads: int, eps: float):
        super().__init__()
        self.norm = AdaLayerNorm(dim, output_dim=2 * dim, chunk_dim=1)
        self.attn = make_attention(dim, num_heads, eps, cross=True)

    def forward(self, noisy: torch.Tensor, tokens: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """What is added to `noisy` (B, F * rows * columns, D), from `tokens` (B, F, 5, D) and `vectors` (B, F, D)."""
        frames = noisy.unflatten(1, (tokens.shape[1], -1)).flatten(0, 1)
        shift, scale = self.norm.linear(self.norm.silu(vectors.flatten(0, 1)))[:, None].chunk(2, dim=2)
        normed = self.norm.norm(frames).mul_(1 + scale).add_(shift)  # as the norm itself does it, in fewer passes
        return self.attn(normed.to(tokens.dtype), tokens.flatten(0, 1)).reshape(noisy.shape)
