"""A transformer that gives back the portrait, standing still: what training starts from.

Each token's features are shared out: the noisy patch, the picture that it is to become, marks that tell the kinds of
tokens apart and keep the norms level, and room for the rest. The first block copies the portrait's patch at the same
place into every noisy token, the head gives (noisy - picture) / noise level, and the blocks between add little yet.
What training has to find is how sound and portrait change the picture.
"""

import torch
from torch import nn

from pipeline.model.transformer import MOTION, NOISY, REFERENCE, SpeechToVideoBlock, SpeechToVideoTransformer

HEADS, HEAD_WIDTH, BLOCKS, FFN_WIDTH = 6, 32, 5, 384
TEXT_WIDTH, AUDIO_WIDTH = 64, 32
PATCH = 64  # values of a patch: 2 x 2 latents of 16 channels
PICTURE = slice(PATCH, 2 * PATCH)  # features that hold what the patch is to become
LEVEL = 128  # eight features of +-LEVEL_VALUE, the same in all tokens
KINDS = {NOISY: 136, REFERENCE: 138, MOTION: 140}  # two features of +-LEVEL_VALUE for each kind
ROOM = slice(142, 192)  # the rest
LEVEL_VALUE = 6.0
LEAST_NOISE = 0.15  # below this level 1 / level is not followed


def make_transformer() -> SpeechToVideoTransformer:
    """The plain start; what is not said here is random and small."""
    model = SpeechToVideoTransformer(
        num_attention_heads=HEADS,
        attention_head_dim=HEAD_WIDTH,
        num_layers=BLOCKS,
        ffn_dim=FFN_WIDTH,
        text_dim=TEXT_WIDTH,
        audio_dim=AUDIO_WIDTH,
        audio_inject_layers=tuple(range(BLOCKS)),
    )
    with torch.no_grad():
        _set_patches(model)
        _set_kinds(model.trainable_cond_mask.weight)
        _set_time(model)
        for block in model.blocks:
            _set_block(block)
        _set_copying(model.blocks[0])
        _set_head(model)
    return model


def _set_patches(model: SpeechToVideoTransformer) -> None:
    """The patch's values in the first features, by row, column and channel; some mixtures of them in the room."""
    for conv in (model.patch_embedding, model.frame_packer.proj):
        mixtures = torch.randn(ROOM.stop - ROOM.start, PATCH) / PATCH**0.5
        conv.weight.zero_()
        conv.bias.zero_()
        conv.weight[:PATCH] = _kernel(torch.eye(PATCH))
        conv.weight[ROOM] = _kernel(mixtures)
    for conv in (model.frame_packer.proj_2x, model.frame_packer.proj_4x):
        conv.weight[: ROOM.start] = 0
        conv.bias.zero_()
    model.cond_encoder.weight.zero_()
    model.cond_encoder.bias.zero_()


def _kernel(matrix: torch.Tensor) -> torch.Tensor:
    """(O, 64), columns by row, column and channel -> (O, 16, 1, 2, 2)."""
    return matrix.view(-1, 2, 2, 16).permute(0, 3, 1, 2).unsqueeze(2)


def _set_kinds(marks: torch.Tensor) -> None:
    marks.zero_()
    signs = torch.tensor([1.0, -1.0])
    marks[:, LEVEL : LEVEL + 8] = LEVEL_VALUE * signs.repeat(4)
    for kind, feature in KINDS.items():
        marks[kind, feature : feature + 2] = LEVEL_VALUE * signs


def _set_time(model: SpeechToVideoTransformer) -> None:
    """The first features of the time embedding are 1 / level - 1, by least squares; the others are waves of the level.

    Modulation begins with neither shift nor scale and with open gates.
    """
    embedder = model.condition_embedder.time_embedder
    level = torch.linspace(0, 1, 1001, dtype=torch.float64)
    half = model.config.freq_dim // 2
    angles = 1000 * level[:, None] * 10000.0 ** -(torch.arange(half, dtype=torch.float64) / half)
    sinusoid = torch.cat([angles.cos(), angles.sin()], dim=1)
    embedder.linear_1.weight.copy_(torch.randn_like(embedder.linear_1.weight) * 0.3)
    embedder.linear_1.weight[:, : half // 4] *= 0.03  # the fastest waves say nothing that is smooth
    embedder.linear_1.weight[:, half : half + half // 4] *= 0.03
    hidden = nn.functional.silu(sinusoid.float() @ embedder.linear_1.weight.T + embedder.linear_1.bias).double()
    inverse = (1 / level.clamp_min(LEAST_NOISE) - 1)[:, None].expand(-1, 2 * PATCH)
    count = embedder.linear_2.out_features - 2 * PATCH
    waves = torch.cos(level[:, None] * torch.linspace(0.5, 6, count, dtype=torch.float64))
    wanted = torch.cat([inverse, waves], dim=1)
    base = torch.cat([hidden, torch.ones(len(level), 1, dtype=torch.float64)], dim=1)
    square = base.T @ base + 1e-4 * torch.eye(base.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(square, base.T @ wanted).T
    embedder.linear_2.weight.copy_(weights[:, :-1])
    embedder.linear_2.bias.copy_(weights[:, -1])
    model.condition_embedder.time_proj.weight.zero_()
    model.condition_embedder.time_proj.bias.view(6, -1).copy_(torch.tensor([0.0, 0, 1, 0, 0, 1])[:, None])
    for part in (model, *model.blocks):
        part.scale_shift_table.zero_()


def _set_block(block: SpeechToVideoBlock) -> None:
    """A block that writes a little into the room, and nothing about words. Its heads look to the same place."""
    for last in (block.attn1.to_out[0], block.ffn.net[2], block.audio_injector.attn.to_out[0]):
        last.bias.zero_()
        last.weight[: ROOM.start] = 0
        last.weight[PICTURE] = 0.004 * torch.randn_like(last.weight[PICTURE])
    block.attn2.to_out[0].weight.zero_()
    block.attn2.to_out[0].bias.zero_()
    for head in range(HEADS):
        _look_at_place(block, head, 0, 0, strength=1.0)


def _set_copying(block: SpeechToVideoBlock) -> None:
    """Two heads copy the portrait's patch at the same place, half each; four look at its neighbours."""
    attention = block.attn1
    for norm in (attention.norm_q, attention.norm_k):
        norm.weight.fill_(3.3)
    level = (LEVEL_VALUE**2 * 10 / 192 + 0.5) ** 0.5  # what the norm divides by, about
    for head, (down, right) in enumerate([(0, 0), (0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]):
        features = slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)
        _look_at_place(block, head, down, right, strength=1.6)
        attention.to_k.weight[features] *= 0.1
        attention.to_q.weight[features] *= 0.1
        # Only the portrait's tokens have keys to look for.
        key = attention.to_k.bias[features].clone()
        attention.to_k.bias[features] = 0
        attention.to_k.bias[features.start] = 8.0  # for the norm of the others; no query looks for it
        attention.to_k.weight[features, KINDS[REFERENCE]] = key * level / LEVEL_VALUE / 2
        attention.to_k.weight[features, KINDS[REFERENCE] + 1] = -key * level / LEVEL_VALUE / 2
        if head < 2:
            attention.to_v.weight[features] = 0
            attention.to_v.bias[features] = 0
            attention.to_v.weight[features, features] = level * torch.eye(HEAD_WIDTH)
            to = slice(PATCH + features.start, PATCH + features.stop)
            attention.to_out[0].weight[:, features] = 0
            attention.to_out[0].weight[to, features] = torch.eye(HEAD_WIDTH)
        else:
            attention.to_v.weight[features, PATCH : ROOM.start] = 0


def _look_at_place(block: SpeechToVideoBlock, head: int, down: int, right: int, strength: float) -> None:
    """Make `head` look so many rows down and columns right of each token, by its rotary turn alone.

    Its queries and keys get a constant in the two fastest pairs of the row and of the column; the queries' is turned.
    """
    attention, first = block.attn1, head * HEAD_WIDTH
    pairs, side = HEAD_WIDTH // 2, HEAD_WIDTH // 6
    for axis, offset in ((0, down), (1, right)):
        for pair, size in ((0, 3.0), (1, 3.2)):
            at = first + 2 * (pairs - 2 * side + axis * side + pair)
            angle = torch.tensor(offset * 10000.0 ** -(pair / side))
            attention.to_q.bias[at], attention.to_q.bias[at + 1] = (
                size * strength * turn for turn in (angle.cos(), angle.sin())
            )
            attention.to_k.bias[at], attention.to_k.bias[at + 1] = size * strength, 0


def _set_head(model: SpeechToVideoTransformer) -> None:
    """(noisy - picture) / level: the norm undone, the division done by the time embedding."""
    level = (LEVEL_VALUE**2 * 10 / 192 + 0.5) ** 0.5
    model.proj_out.weight.zero_()
    model.proj_out.bias.zero_()
    model.proj_out.weight[:, :PATCH] = level * torch.eye(PATCH)
    model.proj_out.weight[:, PICTURE] = -level * torch.eye(PATCH)
