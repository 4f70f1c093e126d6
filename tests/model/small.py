"""A transformer as small as one can be that has all its parts, with random weights."""

import torch

from pipeline.model.transformer import SpeechToVideoTransformer


def small_transformer(heads: int, layers: int, hearing: tuple[int, ...]) -> SpeechToVideoTransformer:
    """`heads` attention heads, `layers` blocks, of which those `hearing` have an audio injector."""
    torch.manual_seed(0)
    return SpeechToVideoTransformer(
        num_attention_heads=heads,
        attention_head_dim=24,
        num_layers=layers,
        ffn_dim=96,
        text_dim=32,
        text_len=16,
        audio_dim=32,
        audio_inject_layers=hearing,
    ).eval()
