"""Attention as Wan does it, through diffusers' dispatch, with norms and rotary positions in few passes over memory."""

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.transformers.transformer_wan import WanAttention
from torch import nn

from pipeline.model.ring_attention import is_ring, ring_attention


class RMSNorm(nn.RMSNorm):
    """x / sqrt(mean(x^2) + eps) * weight, rounded as Wan rounds it, in half the passes that PyTorch makes on a CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (..., D), the mean in fp32 whatever the dtype."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        normed = (x * torch.rsqrt(length.square() / x.shape[-1] + self.eps)).type_as(x)
        return normed.mul_(self.weight)


class RotaryAttnProcessor:
    """Self-attention with rotary positions, or cross-attention, of a `WanAttention`.

    The two class attributes are what `set_attention_backend` and context parallelism set.
    """

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """(B, L, D) -> (B, L, D); `encoder_hidden_states` (B, S, D) makes it cross-attention."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        key = attn.norm_k(attn.to_k(context)).unflatten(2, (attn.heads, -1))
        value = attn.to_v(context).unflatten(2, (attn.heads, -1))
        if rotary_emb is not None:
            query, key = rotate(query, *rotary_emb), rotate(key, *rotary_emb)
        shared = self._parallel_config if encoder_hidden_states is None else None
        if is_ring(shared):
            output = ring_attention(query, key, value, shared)
        else:
            output = dispatch_attention_fn(
                query,
                key,
                value,
                attn_mask=attention_mask,
                backend=self._attention_backend,
                parallel_config=shared,
            )
        return attn.to_out[0](output.flatten(2, 3).type_as(query))


def make_attention(dim: int, num_heads: int, eps: float, cross: bool) -> WanAttention:
    """diffusers' attention of Wan, with the norms and the processor of this module."""
    head_dim = dim // num_heads
    attention = WanAttention(
        dim,
        num_heads,
        head_dim,
        eps,
        cross_attention_dim_head=head_dim if cross else None,
        processor=RotaryAttnProcessor(),
    )
    attention.norm_q, attention.norm_k = RMSNorm(dim, eps), RMSNorm(dim, eps)
    return attention


def rotate(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Turn each pair of features (x1, x2) of `x` (B, L, heads, d) to (x1 cos - x2 sin, x2 cos + x1 sin).

    `cosines` and `sines` are fp32 (1, L, 1, d), the sines of each pair as (-sin, sin). A CPU does it as one product of
    complex numbers, in less than half the time; a card has no fast kernels for those, and a compiler none at all.
    """
    if x.is_cpu and x.dtype == torch.float32 and not torch.compiler.is_compiling():
        turns = torch.complex(cosines[..., ::2], sines[..., 1::2])
        return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turns).flatten(-2)
    swapped = x.unflatten(-1, (-1, 2)).roll(1, -1).flatten(-2)
    return (x * cosines).addcmul_(swapped, sines).type_as(x)
