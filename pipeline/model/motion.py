"""Motion memory as tokens: the newer a frame, the finer it is seen; and where all tokens stand."""

import numpy as np
import torch
from torch import nn

# Latent frames of the motion memory by distance, newest last, and the patch (frames, rows, columns) that sees them.
FAR, MIDDLE, NEAR = 16, 2, 1
FAR_PATCH, MIDDLE_PATCH, NEAR_PATCH = (4, 8, 8), (2, 4, 4), (1, 2, 2)
REFERENCE_FRAME = 30  # the portrait's place on the frame axis


class FramePacker(nn.Module):
    """Patch embeddings for the three distances."""

    def __init__(self, channels: int, dim: int):
        super().__init__()
        self.proj = nn.Conv3d(channels, dim, NEAR_PATCH, NEAR_PATCH)
        self.proj_2x = nn.Conv3d(channels, dim, MIDDLE_PATCH, MIDDLE_PATCH)
        self.proj_4x = nn.Conv3d(channels, dim, FAR_PATCH, FAR_PATCH)

    def forward(self, motion: torch.Tensor) -> torch.Tensor:
        """`motion` (B, channels, 19, h, w), oldest first -> tokens (B, L, D): near, then middle, then far."""
        far, middle, near = motion.split([FAR, MIDDLE, NEAR], dim=2)
        packed = (self.proj(near), self.proj_2x(middle), self.proj_4x(far))
        return torch.cat([tokens_of(x) for x in packed], dim=1)


def tokens_of(x: torch.Tensor) -> torch.Tensor:
    """(B, D, frames, rows, columns) -> (B, frames * rows * columns, D), frame-major, then rows, then columns.

    In one piece, as blocks give them: for other strides the first block would have to be compiled on its own.
    """
    return x.flatten(2).transpose(1, 2).contiguous()


def token_positions(frames: int, height: int, width: int, with_motion: bool) -> np.ndarray:
    """Where each token stands, int64 (L, 3) of frame, row, column: noisy, reference, and the motion tokens if any.

    `frames`, `height` and `width` are those of the noisy latents.
    """
    rows, columns = height // 2, width // 2
    grids = [_grid(np.arange(frames), rows, columns, 1), _grid([REFERENCE_FRAME], rows, columns, 1)]
    if with_motion:
        grids.append(_grid([-1], rows, columns, 1))
        grids.append(_grid([-3], rows, columns, 2))
        grids.append(_grid(_spread(-19, -4, 4), rows, columns, 4))
    return np.concatenate(grids)


def _grid(frames: np.ndarray | list[int], rows: int, columns: int, coarseness: int) -> np.ndarray:
    """Positions of a grid whose rows and columns are spread over `rows` and `columns` places."""
    axes = (frames, _spread(0, rows - 1, rows // coarseness), _spread(0, columns - 1, columns // coarseness))
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.int64)


def _spread(first: int, last: int, count: int) -> np.ndarray:
    return np.trunc(np.linspace(first, last, count)).astype(np.int64)


def rotary_table(positions: np.ndarray, head_dim: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines for `positions` (L, 3), each fp32 (1, L, 1, head_dim), per pair (cos, cos) and (-sin, sin).

    The head's pairs are shared out to frame, row and column; angle = position / 10000^(k / pairs).
    Computed in fp64: positions are small, but angles decide signs.
    """
    pairs = head_dim // 2
    side = head_dim // 6
    angles = []
    for axis, count in enumerate((pairs - 2 * side, side, side)):
        frequencies = 10000.0 ** -(np.arange(count) / count)
        angles.append(positions[:, axis, None] * frequencies)
    angle = np.repeat(np.concatenate(angles, axis=1), 2, axis=1)[None, :, None, :]
    sines = np.sin(angle)
    sines[..., 0::2] *= -1
    return tuple(torch.from_numpy(x.astype(np.float32)).to(device) for x in (np.cos(angle), sines))
