"""Small pictures for the page: what a job is becoming, and what it has become."""

import io

import numpy as np
from PIL import Image

SIDE = 192  # pixels, the longer one at most
QUALITY = 80  # JPEG


def small_jpeg(picture: np.ndarray | Image.Image) -> bytes:
    """A picture, uint8 (h, w, 3) or RGB, as a JPEG of at most 192 pixels a side; smaller ones keep their size."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    scale = SIDE / max(image.size)
    if scale < 1:
        image = image.resize([max(1, round(side * scale)) for side in image.size], reducing_gap=2.0)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=QUALITY)
    return data.getvalue()
