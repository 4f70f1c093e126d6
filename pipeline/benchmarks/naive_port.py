"""The baseline of the measurements: the transformer ported line by line from the official program.

Rotary positions in complex fp64, applied per call; text, speech and motion encoded anew at every step; PyTorch's own
attention, called eagerly. It exists to be measured against, and its numbers are the program's.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers.models.transformers.transformer_wan import WanAttention

from pipeline.model.transformer import ClipConditions, SpeechToVideoTransformer


class NaiveAttnProcessor:
    """Attention of a `WanAttention` as the official program computes it."""

    def __call__(
        self,
        attn: WanAttention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: None = None,
        rotary_emb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """(B, L, D) -> (B, L, D), without a mask; `rotary_emb` is complex128 (1, L, 1, d / 2)."""
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query = attn.norm_q(attn.to_q(hidden_states)).unflatten(2, (attn.heads, -1))
        key = attn.norm_k(attn.to_k(context)).unflatten(2, (attn.heads, -1))
        value = attn.to_v(context).unflatten(2, (attn.heads, -1))
        if rotary_emb is not None:
            query, key = _rotated(query, rotary_emb), _rotated(key, rotary_emb)
        mixed = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (query, key, value)))
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2, 3))


def _rotated(x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    pairs = torch.view_as_complex(x.to(torch.float64).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2).type_as(x)


@dataclass(frozen=True)
class NaivePort:
    """Steps of `transformer`, whose attention is replaced for good."""

    transformer: SpeechToVideoTransformer

    def __post_init__(self) -> None:
        for module in self.transformer.modules():
            if isinstance(module, WanAttention):
                module.set_processor(NaiveAttnProcessor())

    def step(self, latents: torch.Tensor, timestep: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """The flow, from what `SpeechToVideoTransformer.encode_conditions` takes."""
        return self.transformer(latents, timestep, _complex(self.transformer.encode_conditions(**inputs)))


def _complex(clip: ClipConditions) -> ClipConditions:
    cosines, sines = (table.double() for table in clip.rotary)
    return replace(clip, rotary=torch.complex(cosines[..., 1::2], sines[..., 1::2]))
