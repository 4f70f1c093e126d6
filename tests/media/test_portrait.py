"""Pictures in: turned upright, made opaque, checked, and scaled to cover."""

import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import InvalidRequest
from pipeline.media.portrait import fit_portrait, open_portrait

from .samples import noise, write_movie, write_sound

RED, GREEN, BLUE, YELLOW, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 255, 255)
STORED_AS = {  # what a camera does to an upright picture before it notes the orientation
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def quarters(width: int = 96, height: int = 64) -> Image.Image:
    """A picture with another colour in every quarter."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    image.paste(YELLOW, (width // 2, height // 2, width, height))
    return image


def photo(width: int = 300, height: int = 200) -> Image.Image:
    """A picture with much detail."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def corners(image: Image.Image) -> list[tuple[int, int, int]]:
    right, bottom = image.width - 5, image.height - 5
    return [image.getpixel(place) for place in ((4, 4), (right, 4), (4, bottom), (right, bottom))]


def refusal(path: Path) -> str:
    with pytest.raises(InvalidRequest) as refused:
        open_portrait(path)
    sentence = str(refused.value)
    assert sentence.startswith("portrait: ")
    assert sentence.endswith(".")
    assert str(path.parent) not in sentence
    return sentence


@pytest.mark.parametrize("orientation", STORED_AS)
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_the_cameras_orientation_is_honoured(tmp_path: Path, orientation: int, suffix: str) -> None:
    turn = STORED_AS[orientation]
    stored = quarters() if turn is None else quarters().transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"portrait.{suffix}", exif=exif, quality=95)
    opened = open_portrait(tmp_path / f"portrait.{suffix}")
    assert opened.size == (96, 64)
    assert np.allclose(corners(opened), [RED, GREEN, BLUE, YELLOW], atol=12)


def test_a_broken_orientation_tag_is_ignored(tmp_path: Path) -> None:
    quarters().save(tmp_path / "portrait.jpg", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff broken")
    assert open_portrait(tmp_path / "portrait.jpg").size == (96, 64)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_what_is_transparent_becomes_white(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "portrait.png"
    if mode in ("RGBA", "LA"):
        image = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
        image.paste((90, 90, 90, 255), (32, 0, 64, 64))
        image.convert(mode).save(path)
    else:  # one colour stands for transparency
        image = Image.new("RGB", (64, 64), BLUE)
        image.paste((90, 90, 90), (32, 0, 64, 64))
        image = image.quantize(4) if mode == "P" else image
        image.save(path, transparency=image.getpixel((4, 4)))
    opened = open_portrait(path)
    assert opened.mode == "RGB"
    assert opened.getpixel((4, 4)) == WHITE
    assert np.allclose(opened.getpixel((40, 4)), 90, atol=2)


def test_half_transparent_pixels_are_mixed_with_white(tmp_path: Path) -> None:
    Image.new("RGBA", (64, 64), (0, 0, 0, 128)).save(tmp_path / "portrait.webp", lossless=True)
    assert np.allclose(open_portrait(tmp_path / "portrait.webp").getpixel((9, 9)), 127, atol=1)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB"])
def test_every_kind_of_png_becomes_rgb(tmp_path: Path, mode: str) -> None:
    Image.new("L", (64, 64), 255).convert(mode).save(tmp_path / "portrait.png")
    opened = open_portrait(tmp_path / "portrait.png")
    assert (opened.mode, opened.getpixel((9, 9))) == ("RGB", WHITE)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (64, 64), (0, 255, 255, 0)).save(tmp_path / "portrait.jpg", quality=95)
    assert np.allclose(open_portrait(tmp_path / "portrait.jpg").getpixel((9, 9)), RED, atol=6)


def test_16_bit_grey_keeps_its_brightness(tmp_path: Path) -> None:
    Image.fromarray(np.full((64, 64), 30_000, np.uint16)).save(tmp_path / "portrait.png")
    assert open_portrait(tmp_path / "portrait.png").getpixel((9, 9)) == (116, 116, 116)


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_of_an_animated_picture_the_first_frame_is_taken(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (64, 64), colour) for colour in (RED, GREEN)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], duration=100, lossless=True)
    assert open_portrait(tmp_path / f"a.{suffix}").getpixel((9, 9)) == RED


def test_64_pixels_a_side_are_enough_and_63_are_not(tmp_path: Path) -> None:
    path = tmp_path / "portrait.png"
    photo(64, 64).save(path)
    assert open_portrait(path).size == (64, 64)
    photo(500, 63).save(path)
    assert "has 500x63 pixels; give at least 64 on each side" in refusal(path)
    photo(1, 1).save(path)
    assert "has 1x1 pixels" in refusal(path)


@pytest.mark.parametrize("side", [9_000, 9_600, 20_000])
def test_a_huge_picture_is_refused_by_its_header(tmp_path: Path, side: int) -> None:
    row = zlib.compress(bytes(1 + side))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)), (b"IDAT", row), (b"IEND", b"")]
    data = b"".join(struct.pack(">I", len(c)) + t + c + struct.pack(">I", zlib.crc32(t + c)) for t, c in chunks)
    (tmp_path / "portrait.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    tracemalloc.start()
    try:
        started = time.monotonic()
        assert "more than 80 megapixels" in refusal(tmp_path / "portrait.png")
        assert time.monotonic() - started < 1
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_truncated_picture_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"portrait.{suffix}"
    photo().save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    assert "damaged or incomplete" in refusal(path)


def test_what_is_not_a_picture_is_refused_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "portrait.png"
    write_movie(tmp_path / "film.mp4", 4, 16).rename(path)
    assert "is not a JPEG, PNG or WebP picture" in refusal(path)
    write_sound(tmp_path / "sound.wav", noise(1.0, 16_000), 16_000).rename(path)
    assert "is not a JPEG, PNG or WebP picture" in refusal(path)
    path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    assert "is not a JPEG, PNG or WebP picture" in refusal(path)
    photo().save(path, format="GIF")
    assert "is not a JPEG, PNG or WebP picture" in refusal(path)
    path.write_bytes(b"")
    assert "is empty" in refusal(path)
    path.unlink()
    assert "there is no file 'portrait.png'" in refusal(path)


def test_the_official_resize_is_used_where_it_covers() -> None:
    image = photo(512, 288)
    scaled = image.resize((227, 128), Image.Resampling.BILINEAR)  # 227 = int(128 * 512 / 288)
    expected = np.asarray(scaled)[:, 18 : 18 + 192]  # 18 = round((227 - 192) / 2)
    assert np.array_equal(fit_portrait(image, 128, 192), expected)


@pytest.mark.parametrize("seed", range(20))
def test_no_picture_leaves_bars(seed: int) -> None:
    width, height, columns, rows = np.random.default_rng(seed).integers([64, 64, 1, 1], [900, 900, 12, 12])
    fitted = fit_portrait(Image.new("RGB", (width, height), WHITE), 64 * rows, 64 * columns)
    assert fitted.shape == (64 * rows, 64 * columns, 3)
    assert fitted.dtype == np.uint8
    assert fitted.min() == 255


def test_the_centre_is_kept() -> None:
    fitted = fit_portrait(quarters(640, 64), 64, 128)
    assert np.allclose(corners(Image.fromarray(fitted)), [RED, GREEN, BLUE, YELLOW], atol=2)
