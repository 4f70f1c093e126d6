"""The speech-to-video transformer of Wan2.2-S2V as a diffusers model.

Axis letters: B batch, L tokens, F latent frames, h w latent rows and columns, D features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.loaders import FromOriginalModelMixin, PeftAdapterMixin
from diffusers.models.attention import AttentionMixin
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.normalization import FP32LayerNorm
from diffusers.models.transformers.transformer_wan import WanTimeTextImageEmbedding, WanTransformerBlock
from torch import nn

from pipeline.model.attention import make_attention
from pipeline.model.audio_injection import AudioInjector, CausalAudioEncoder
from pipeline.model.motion import FramePacker, rotary_table, token_positions, tokens_of
from pipeline.request import LATENT_STRIDE

if TYPE_CHECKING:
    from pipeline.model.parallel import Share

NOISY, REFERENCE, MOTION = range(3)  # kinds of tokens, rows of trainable_cond_mask

# Tokens that go through a feed-forward at once: its inner values are several times as wide as the tokens, and on a CPU
# a large tensor's memory comes fresh from the system each time, page by page, which costs more than filling it.
FFN_TOKENS = 2048

# The parts that compute in fp32 whatever the rest does, by pieces of their names.
FP32_PARTS = (
    "time_embedder",
    "time_proj",
    "scale_shift_table",
    "norm2",
    "audio_encoder",
    "proj_out",
    "trainable_cond_mask",
)


@dataclass(frozen=True)
class ClipConditions:
    """All that the transformer is told about a clip and that does not change between steps.

    text: (B, text_len, D), projected. Its dtype is the one that attention and feed-forward compute in.
    audio_tokens: (B, F, tokens, D); audio_vectors: (B, F, D).
    pose_tokens: fp32 (B, L of noisy or 1, D), added to the noisy tokens, their kind embedding included.
    other_tokens: fp32 (B, L of reference and motion, D).
    rotary: cosines and sines, fp32 (1, L of all, 1, head size).
    """

    text: torch.Tensor
    audio_tokens: torch.Tensor
    audio_vectors: torch.Tensor
    pose_tokens: torch.Tensor
    other_tokens: torch.Tensor
    rotary: tuple[torch.Tensor, torch.Tensor]


def stacked(clips: Sequence[ClipConditions]) -> ClipConditions:
    """Several conditions of the same shapes as one, sample after sample; the rotary tables are the same for all."""
    names = [field.name for field in fields(ClipConditions) if field.name != "rotary"]
    return replace(clips[0], **{name: torch.cat([getattr(clip, name) for clip in clips]) for name in names})


class SpeechToVideoBlock(WanTransformerBlock):
    """Wan's block over two streams, the noisy tokens and the others, each with a modulation of its own.

    Some blocks let the noisy tokens hear the speech afterwards.
    """

    def __init__(self, dim: int, ffn_dim: int, num_heads: int, eps: float, with_audio: bool):
        super().__init__(dim, ffn_dim, num_heads, cross_attn_norm=True, eps=eps)
        self.attn1 = make_attention(dim, num_heads, eps, cross=False)
        self.attn2 = make_attention(dim, num_heads, eps, cross=True)
        self.audio_injector = AudioInjector(dim, num_heads, eps) if with_audio else None

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        modulation: torch.Tensor,
        clip: ClipConditions,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One block over the noisy tokens `hidden_states` and the others `encoder_hidden_states`, fp32 (B, L, D) each.

        `modulation`, fp32 (B, 2, 6, D), is from the time embedding: row 0 for the noisy tokens, row 1 for the rest.
        Returns both streams.
        """
        streams, dtype = (hidden_states, encoder_hidden_states), clip.text.dtype
        tables = (self.scale_shift_table.float() + modulation).unbind(1)  # per stream (B, 6, D)
        mixed = self.attn1(self._normed(streams, tables).to(dtype), rotary_emb=clip.rotary)
        mixed = mixed.split([x.shape[1] for x in streams], dim=1)
        noisy, others = (
            self._think(_add_gated(x, y, table[:, 2]), table, clip.text)
            for x, y, table in zip(streams, mixed, tables, strict=True)
        )
        if self.audio_injector is not None:
            noisy = noisy + self.audio_injector(noisy, clip.audio_tokens, clip.audio_vectors)
        return noisy, others

    def _normed(self, streams: tuple[torch.Tensor, ...], tables: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """All tokens in one row, normalised and modulated for self-attention."""
        parts = zip(streams, tables, strict=True)
        return torch.cat([_modulated(self.norm1, x, *table[:, :2].unbind(1)) for x, table in parts], dim=1)

    def _think(self, x: torch.Tensor, table: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Cross-attention to the text and the feed-forward, token by token."""
        x = x + self.attn2(self.norm2(x).to(text.dtype), text)
        shift, scale, gate = table[:, 3:].unbind(1)
        parts = []
        for part in x.split(FFN_TOKENS, dim=1):
            y = self.ffn(_modulated(self.norm3, part, shift, scale).to(text.dtype))
            parts.append(_add_gated(part, y, gate))
        return torch.cat(parts, dim=1)


def _modulated(norm: nn.LayerNorm, x: torch.Tensor, shift: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """norm(x) * (1 + scale) + shift for `x` fp32 (B, L, D), `shift` and `scale` (B, D).

    Scale and shift go in as the norm's own weight and bias, sample by sample: one pass over memory in place of three.
    """
    samples = zip(x.split(1), 1 + scale, shift, strict=True)
    normed = [F.layer_norm(sample, norm.normalized_shape, *affine, norm.eps) for sample, *affine in samples]
    return torch.cat(normed) if len(normed) > 1 else normed[0]  # to join one is to copy it


def _add_gated(x: torch.Tensor, y: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """x + gate * y in fp32, for `gate` (B, D)."""
    return (y * gate[:, None]).add_(x)


class SpeechToVideoTransformer(
    ModelMixin, ConfigMixin, PeftAdapterMixin, FromOriginalModelMixin, CacheMixin, AttentionMixin
):
    """Predicts the flow of a clip's latents from its noisy latents, the time, and the clip's conditions.

    `encode_conditions` once per clip, then the model itself at every step.
    """

    _supports_gradient_checkpointing = False
    _no_split_modules = ["SpeechToVideoBlock"]  # noqa: RUF012
    _repeated_blocks = ["SpeechToVideoBlock"]  # noqa: RUF012
    _skip_layerwise_casting_patterns = FP32_PARTS
    share: "Share | None" = None  # where several processes compute together: what this one does of the tokens

    @register_to_config
    def __init__(
        self,
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        num_layers: int = 40,
        ffn_dim: int = 13824,
        in_channels: int = 16,
        out_channels: int = 16,
        pose_channels: int = 16,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        text_dim: int = 4096,
        text_len: int = 512,
        freq_dim: int = 256,
        eps: float = 1e-6,
        audio_dim: int = 1024,
        audio_layers: int = 25,
        audio_tokens: int = 4,
        audio_inject_layers: tuple[int, ...] = (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39),
    ):
        super().__init__()
        dim = num_attention_heads * attention_head_dim
        self.patch_embedding = nn.Conv3d(in_channels, dim, patch_size, patch_size)
        self.cond_encoder = nn.Conv3d(pose_channels, dim, patch_size, patch_size)
        self.frame_packer = FramePacker(in_channels, dim)
        self.trainable_cond_mask = nn.Embedding(3, dim)
        self.condition_embedder = WanTimeTextImageEmbedding(dim, freq_dim, 6 * dim, text_dim)
        self.audio_encoder = CausalAudioEncoder(audio_dim, audio_layers, dim, audio_tokens)
        self.blocks = nn.ModuleList(
            SpeechToVideoBlock(dim, ffn_dim, num_attention_heads, eps, with_audio=i in audio_inject_layers)
            for i in range(num_layers)
        )
        self.norm_out = FP32LayerNorm(dim, eps, elementwise_affine=False)
        self.proj_out = nn.Linear(dim, out_channels * math.prod(patch_size))
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)

    def encode_conditions(
        self,
        text: torch.Tensor,
        audio: torch.Tensor,
        reference: torch.Tensor,
        motion: torch.Tensor | None = None,
        pose: torch.Tensor | None = None,
    ) -> ClipConditions:
        """Everything about a clip that no step changes.

        text: (B, rows, text_dim), padded here with zeros to text_len rows (zeros before the projection).
        audio: (B, layers, audio_dim, N), N video frames = 4 F. reference: (B, 16, 1, h, w).
        motion: (B, 16, 19, h, w), or None to leave the motion tokens out (the opening clip).
        pose: (B, 16, F, h, w), or None for none.
        """
        dtype = self.patch_embedding.weight.dtype
        frames = audio.shape[-1] // LATENT_STRIDE
        positions = token_positions(frames, *reference.shape[-2:], with_motion=motion is not None)
        tokens, vectors = self._encode_audio(audio)
        return ClipConditions(
            text=self._encode_text(text),
            audio_tokens=tokens,
            audio_vectors=vectors,
            pose_tokens=self._pose_tokens(pose) + self.trainable_cond_mask.weight[NOISY],
            other_tokens=self._other_tokens(reference.to(dtype), None if motion is None else motion.to(dtype)),
            rotary=rotary_table(positions, self.config.attention_head_dim, reference.device),
        )

    def with_other_words_and_sound(
        self, clip: ClipConditions, text: torch.Tensor, audio: torch.Tensor
    ) -> ClipConditions:
        """`clip` with `text` and `audio` (as for `encode_conditions`) in the place of its own; the rest is shared."""
        tokens, vectors = self._encode_audio(audio)
        return replace(clip, text=self._encode_text(text), audio_tokens=tokens, audio_vectors=vectors)

    def _encode_text(self, text: torch.Tensor) -> torch.Tensor:
        rows = text.to(self.patch_embedding.weight.dtype)
        return self.condition_embedder.text_embedder(F.pad(rows, (0, 0, 0, self.config.text_len - text.shape[1])))

    def _encode_audio(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens, vectors = self.audio_encoder(audio.float())
        dtype = self.patch_embedding.weight.dtype
        return tokens.to(dtype), vectors.to(dtype)

    def forward(self, latents: torch.Tensor, timestep: torch.Tensor, clip: ClipConditions) -> torch.Tensor:
        """The flow at `latents` (B, 16, F, h, w) and `timestep` (B,) from 0 to 1000; fp32, shaped as `latents`."""
        patches = self.patch_embedding(latents.to(self.patch_embedding.weight.dtype))
        noisy = tokens_of(patches).float() + clip.pose_tokens
        if self.share is not None:
            noisy, clip = self.share.own(noisy, clip)
        others = clip.other_tokens
        # The other tokens are clean: their time is always 0.
        time, modulation = self._embed_time(torch.stack([timestep, torch.zeros_like(timestep)], dim=1))
        for block in self.blocks:
            noisy, others = block(noisy, others, modulation, clip)
        shift, scale = (self.scale_shift_table + time[:, :1]).chunk(2, dim=1)
        x = self.proj_out(self.norm_out(noisy) * (1 + scale) + shift)
        if self.share is not None:
            x = self.share.all(x, patches.shape[2])
        return self._unpatchify(x, patches.shape[2:])

    def _embed_time(self, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """fp32 (B, 2, D) and (B, 2, 6, D) for `timestep` (B, 2): sinusoids, cosines first, computed in fp64."""
        half = self.config.freq_dim // 2
        frequencies = 10000.0 ** -(torch.arange(half, dtype=torch.float64, device=timestep.device) / half)
        angles = timestep.double().unsqueeze(-1) * frequencies
        sinusoid = torch.cat([angles.cos(), angles.sin()], dim=-1).float()
        time = self.condition_embedder.time_embedder(sinusoid)
        return time, self.condition_embedder.time_proj(F.silu(time)).unflatten(-1, (6, -1))

    def _pose_tokens(self, pose: torch.Tensor | None) -> torch.Tensor:
        if pose is None:
            return self.cond_encoder.bias.float()[None, None]
        return tokens_of(self.cond_encoder(pose.to(self.cond_encoder.weight.dtype))).float()

    def _other_tokens(self, reference: torch.Tensor, motion: torch.Tensor | None) -> torch.Tensor:
        kinds = self.trainable_cond_mask.weight
        tokens = tokens_of(self.patch_embedding(reference)).float() + kinds[REFERENCE]
        if motion is None:
            return tokens
        return torch.cat([tokens, self.frame_packer(motion).float() + kinds[MOTION]], dim=1)

    def _unpatchify(self, x: torch.Tensor, grid: torch.Size) -> torch.Tensor:
        """(B, L, values of a patch by frame, row, column, channel) -> (B, channels, F, h, w)."""
        x = x.unflatten(1, grid).unflatten(-1, (*self.config.patch_size, -1))
        return x.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)
