"""Pictures in: a user's portrait, upright and opaque, and how it fills the video's frame."""

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.errors import InvalidRequest
from pipeline.media.files import check_input, shown
from pipeline.request import cover_size

MIN_SIDE = 64  # pixels
MAX_PIXELS = 80_000_000  # below the size at which Pillow warns of decompression bombs
BACKGROUND = "white"  # under transparent pictures
ACCEPTED = "a JPEG, PNG or WebP picture"
FORMATS = ("JPEG", "PNG", "WEBP")
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

logger = logging.getLogger(__name__)


def open_portrait(path: Path) -> Image.Image:
    """The picture in `path` (its first frame), RGB, turned upright, laid on white where it is transparent.

    Size is checked from the header, before any pixel is decoded.
    Raises InvalidRequest if it is not a whole JPEG, PNG or WebP of at least 64 pixels a side and 80 megapixels in all.
    """
    check_input(path, "portrait", ACCEPTED)
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_size(path, *image.size)
            image.load()
            return _opaque(_upright(image))
    except InvalidRequest:
        raise
    except Image.UnidentifiedImageError:
        raise InvalidRequest(f"portrait: {shown(path)} is not {ACCEPTED}; give one.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(path) from None
    except Exception as error:  # a decoder may raise anything on a damaged file
        logger.info("portrait refused: %r", error)
        raise InvalidRequest(f"portrait: {shown(path)} is damaged or incomplete; save the picture again.") from None


def fit_portrait(image: Image.Image, height: int, width: int) -> np.ndarray:
    """`image` (RGB) scaled to cover `height` x `width` and its centre cut out: uint8 (H, W, 3)."""
    rows, columns = cover_size(image.height, image.width, height, width)
    top, left = round((rows - height) / 2), round((columns - width) / 2)
    scaled = image.resize((columns, rows), Image.Resampling.BILINEAR)
    return np.array(scaled.crop((left, top, left + width, top + height)))


@dataclass(frozen=True)
class Crop:
    """The part of a picture that the model sees, in shares of its width and height."""

    left: float
    top: float
    width: float
    height: float


def crop_of(image_height: int, image_width: int, height: int, width: int) -> Crop:
    """What `fit_portrait` cuts out of an image of that size for a frame of `height` x `width`."""
    rows, columns = cover_size(image_height, image_width, height, width)
    shares = width / columns, height / rows
    return Crop((1 - shares[0]) / 2, (1 - shares[1]) / 2, *shares)


def _check_size(path: Path, width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise InvalidRequest(
            f"portrait: {shown(path)} has {width}x{height} pixels; give at least {MIN_SIDE} on each side."
        )
    if width * height > MAX_PIXELS:
        raise _too_large(path)


def _too_large(path: Path) -> InvalidRequest:
    return InvalidRequest(
        f"portrait: {shown(path)} has more than {MAX_PIXELS // 1_000_000} megapixels; give a smaller picture."
    )


def _upright(image: Image.Image) -> Image.Image:
    """Undo the camera's turn. A broken tag is no reason to refuse a picture."""
    try:
        turn = UPRIGHT.get(image.getexif().get(ORIENTATION))
    except Exception as error:
        logger.info("orientation tag ignored: %r", error)
        turn = None
    return image if turn is None else image.transpose(turn)


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
        image = Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    picture = image.convert("RGBA")
    background = Image.new("RGBA", picture.size, BACKGROUND)
    return Image.alpha_composite(background, picture).convert("RGB")
