"""Self-attention over tokens that several processes hold: diffusers' ring, with kernels that tell their sums.

Each process attends with its queries to the keys of one process after the other, and the ring joins what came of each
by the logarithm of the sum of its weights. What diffusers attends with by default ("native") does not tell that sum:
its ring ends in an error then. The kernels of its list that tell it are for cards alone, so that none is left on a CPU.
PyTorch's own tell it on every device; they are called here by their names.
"""

from typing import Any

import torch
from diffusers.models._modeling_parallel import ParallelConfig
from diffusers.models.attention_dispatch import TemplatedRingAnythingAttention

aten = torch.ops.aten


def is_ring(config: ParallelConfig | None) -> bool:
    """Whether the processes of `config` are to attend in a ring."""
    return config is not None and config.context_parallel_config.ring_degree > 1


def ring_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, config: ParallelConfig) -> torch.Tensor:
    """Attention of this process's tokens to those of all in the ring of `config`; all are (B, L, heads, d).

    L may differ from process to process.
    """
    mask, dropout, causal, scale, grouped, with_sums, backward = None, 0.0, False, None, False, False, None
    return TemplatedRingAnythingAttention.apply(
        query, key, value, mask, dropout, causal, scale, grouped, with_sums, _attend_to_one, backward, config
    )


def _attend_to_one(
    _context: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """What `attend_with_sums` gives, as the ring asks for it: with more arguments, which are those of above."""
    return attend_with_sums(query, key, value)


def attend_with_sums(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention (B, L, heads, d), and the logarithm of each query's sum of weights, fp32 (B, L, heads).

    `key` and `value`: (B, S, heads, d). On a card fp32 takes a slower kernel than bf16 and fp16.
    """
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    if query.is_cpu:
        out, sums = aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)
    elif query.dtype == torch.float32:
        out, sums, *_ = aten._scaled_dot_product_efficient_attention(query, key, value, None, True)
        sums = sums[..., : query.shape[2]]  # the kernel fills up to a multiple of 32
    else:
        out, sums, *_ = aten._scaled_dot_product_flash_attention(query, key, value)
    return out.transpose(1, 2), sums.transpose(1, 2)
