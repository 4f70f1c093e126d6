"""What the user gives -> what the transformer is told: prompt, portrait and pose as tensors."""

import html
import re

import ftfy
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from transformers import PreTrainedTokenizerBase, UMT5EncoderModel

from pipeline.request import cover_size

TEXT_LEN = 512

# The model's own negative prompt, used where the user gives none.
NEGATIVE_PROMPT = (
    "画面模糊，最差质量，画面模糊，细节模糊不清，情绪激动剧烈，手快速抖动，字幕，丑陋的，残缺的，多余的手指，画得不好的手部，"
    "画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)


def clean_prompt(prompt: str) -> str:
    """`prompt` with broken characters mended, HTML entities resolved and white space collapsed."""
    text = html.unescape(html.unescape(ftfy.fix_text(prompt)))
    return re.sub(r"\s+", " ", text.strip()).strip()


def encode_prompt(tokenizer: PreTrainedTokenizerBase, encoder: UMT5EncoderModel, prompt: str) -> torch.Tensor:
    """`prompt` -> (tokens, D of the encoder), in the encoder's dtype: the rows of real tokens, at most 512."""
    tokens = tokenizer(
        clean_prompt(prompt),
        max_length=TEXT_LEN,
        padding="max_length",
        truncation=True,
        add_special_tokens=True,
        return_tensors="pt",
    ).to(encoder.device)
    hidden = encoder(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state
    return hidden[0, : int(tokens.attention_mask.sum())]


def portrait_pixels(portrait: np.ndarray) -> torch.Tensor:
    """uint8 (H, W, 3) -> fp32 (3, 1, H, W) in [-1, 1]."""
    return (torch.from_numpy(portrait).permute(2, 0, 1).float() / 255 * 2 - 1)[:, None]


def pose_pixels(frames: np.ndarray, count: int, height: int, width: int) -> torch.Tensor:
    """Pose `frames`, uint8 (at most count, h, w, 3) -> fp32 (3, count, height, width) in [-1, 1], -1 past the end.

    Scaled to cover and cut to the centre like the portrait, bilinear with antialiasing.
    """
    pixels = torch.full((3, count, height, width), -1.0)
    for i, frame in enumerate(frames):  # one by one: as floats, a clip of large frames would fill the memory
        shown = torch.from_numpy(frame).permute(2, 0, 1).float() / 255 * 2 - 1
        pixels[:, i] = _cover(shown[None], height, width)[0]
    return pixels


def _cover(images: torch.Tensor, height: int, width: int) -> torch.Tensor:
    rows, columns = cover_size(images.shape[-2], images.shape[-1], height, width)
    scaled = F.interpolate(images, size=(rows, columns), mode="bilinear", antialias=True, align_corners=False)
    top, left = round((rows - height) / 2.0), round((columns - width) / 2.0)
    return scaled[..., top : top + height, left : left + width]
