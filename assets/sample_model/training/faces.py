"""Drawn faces that talk: a look made from a seed, and its frames as mouth, eyes and head move.

All is drawn at three times the size and reduced. Lengths are pixels of the finished frame.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

SQUARE, UPRIGHT = (128, 128), (192, 128)  # (height, width) of the frames that the model is trained for
SCALE = 3  # drawn so many times larger
SWAY = 2.0  # pixels that the head moves to any side at most

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]  # left, top, right, bottom

LIGHT_SKIN, DARK_SKIN, LIP_RED = (250, 218, 196), (84, 52, 38), (168, 40, 52)
MOUTH_DARK, TEETH, TONGUE = (52, 14, 18), (245, 242, 232), (196, 84, 92)
HAIRS = ((28, 24, 24), (58, 38, 28), (104, 66, 40), (196, 156, 92), (150, 62, 36), (140, 138, 140), (96, 40, 88))
STYLES = ("bald", "short", "side", "bob", "long", "bun", "curly")
IRISES = ((64, 42, 30), (58, 92, 60), (60, 96, 140), (40, 40, 44), (110, 84, 48))


@dataclass(frozen=True)
class Face:
    """How somebody looks, and where in the frame."""

    size: tuple[int, int]  # height and width of the frame
    centre: tuple[float, float]  # of the head: x, y
    half_width: float
    half_height: float
    skin: Colour
    hair: Colour
    style: str
    iris: Colour
    clothes: Colour
    collar: int  # 0 round, 1 V-neck, 2 shirt
    backdrop: tuple[Colour, Colour]
    discs: tuple[tuple[float, float, float, Colour], ...]  # soft lights behind: x, y, radius, colour
    mouth_half_width: float
    smile: float  # how far the corners of the mouth stand above its middle
    lip: float  # thickness
    eye: float  # half the eye's width
    brow: float  # thickness
    nose: float
    glasses: bool

    @property
    def mouth(self) -> tuple[float, float]:
        return self.centre[0], self.centre[1] + 0.52 * self.half_height

    @property
    def max_opening(self) -> float:
        return 0.36 * self.half_height

    @property
    def eyes(self) -> tuple[tuple[float, float], tuple[float, float]]:
        x, y = self.centre[0], self.centre[1] - 0.12 * self.half_height
        return (x - 0.42 * self.half_width, y), (x + 0.42 * self.half_width, y)

    @property
    def mouth_box(self) -> Box:
        """All that the mouth can reach while the head sways."""
        x, y = self.mouth
        across = 1.2 * self.mouth_half_width + 2 + SWAY
        above, below = 0.3 * self.max_opening + 5 + SWAY, 0.8 * self.max_opening + 5 + SWAY
        return _box(x - across, y - above, x + across, y + below)

    @property
    def eyes_box(self) -> Box:
        (left, y), (right, _) = self.eyes
        return _box(
            left - self.eye - 3 - SWAY, y - self.eye - 3 - SWAY, right + self.eye + 3 + SWAY, y + self.eye + 3 + SWAY
        )


@dataclass(frozen=True)
class Movement:
    """What a face does, one value per frame, float32 (T,)."""

    opening: np.ndarray  # of the mouth, 0 to 1
    width: np.ndarray  # of the mouth, -1 (round) to 1 (broad)
    blink: np.ndarray  # 0 open, 1 shut
    sway_x: np.ndarray  # of the head, pixels
    sway_y: np.ndarray

    def __len__(self) -> int:
        return len(self.opening)

    def part(self, first: int, count: int) -> "Movement":
        """`count` frames from `first` on."""
        return Movement(*(getattr(self, name)[first : first + count] for name in Movement.__annotations__))


def still(frames: int = 1) -> Movement:
    """The face of a portrait: mouth shut, eyes open, upright."""
    return Movement(*(np.zeros(frames, np.float32) for _ in range(5)))


def make_face(rng: np.random.Generator, size: tuple[int, int] = SQUARE) -> Face:
    """A look, drawn by lot."""
    height, width = size
    half_width = rng.uniform(31, 38)
    half_height = half_width * rng.uniform(1.14, 1.3)
    middle = 0.5 * height if height == width else 0.42 * height
    return Face(
        size=size,
        centre=(width / 2 + rng.uniform(-6, 6), middle + rng.uniform(-4, 5)),
        half_width=half_width,
        half_height=half_height,
        skin=_jitter(rng, _mix(LIGHT_SKIN, DARK_SKIN, rng.uniform(0, 1)), 8),
        hair=_jitter(rng, HAIRS[rng.integers(len(HAIRS))], 10),
        style=str(rng.choice(STYLES)),
        iris=IRISES[rng.integers(len(IRISES))],
        clothes=_any_colour(rng, 20, 220),
        collar=int(rng.integers(3)),
        backdrop=(_any_colour(rng, 60, 235), _any_colour(rng, 60, 235)),
        discs=tuple(
            (rng.uniform(0, width), rng.uniform(0, height), rng.uniform(12, 34), _any_colour(rng, 80, 240))
            for _ in range(rng.integers(0, 4))
        ),
        mouth_half_width=half_width * rng.uniform(0.40, 0.5),
        smile=rng.uniform(0, 2.5),
        lip=rng.uniform(1.8, 3.2),
        eye=half_width * rng.uniform(0.19, 0.24),
        brow=rng.uniform(1.2, 2.6),
        nose=half_width * rng.uniform(0.12, 0.2),
        glasses=rng.random() < 0.15,
    )


def draw_portrait(face: Face) -> Image.Image:
    """The face at rest."""
    return Image.fromarray(draw_video(face, still())[0])


def draw_video(face: Face, movement: Movement) -> np.ndarray:
    """The face in motion, uint8 (T, H, W, 3)."""
    height, width = face.size
    backdrop, person = _draw_backdrop(face), _draw_person(face)
    frames = np.empty((len(movement), height, width, 3), np.uint8)
    for i in range(len(movement)):
        layer = person.copy()
        pen = ImageDraw.Draw(layer)
        _draw_eyes(pen, face, float(movement.blink[i]))
        _draw_mouth(pen, face, float(movement.opening[i]), float(movement.width[i]))
        shift = (-float(movement.sway_x[i]) * SCALE, -float(movement.sway_y[i]) * SCALE)
        frames[i] = _reduce(layer, shift, backdrop)
    return frames


def _reduce(layer: Image.Image, shift: tuple[float, float], backdrop: Image.Image) -> np.ndarray:
    """`layer`, moved, at the finished size over the backdrop. Its rim is transparent or repeats its last rows."""
    width, height = backdrop.size
    rim = int(SWAY + 1) * SCALE
    left, top = rim + shift[0], rim + shift[1]
    box = (left, top, left + width * SCALE, top + height * SCALE)
    person = layer.resize((width, height), Image.Resampling.BOX, box)
    return np.asarray(Image.alpha_composite(backdrop, person).convert("RGB"))


def _draw_backdrop(face: Face) -> Image.Image:
    height, width = face.size
    ramp = np.linspace(0, 1, height)[:, None, None]
    pixels = np.array(face.backdrop[0]) * (1 - ramp) + np.array(face.backdrop[1]) * ramp
    image = Image.fromarray(np.broadcast_to(pixels, (height, width, 3)).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for x, y, radius, colour in face.discs:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return image.filter(ImageFilter.GaussianBlur(5)).convert("RGBA")


def _draw_person(face: Face) -> Image.Image:
    """Everything that does not talk or blink, on a transparent layer with a rim for the sway, SCALE times as large."""
    rim = int(SWAY + 1)
    size = (face.size[1] + 2 * rim) * SCALE, (face.size[0] + 2 * rim) * SCALE
    layer = Image.new("RGBA", size)
    pen = ImageDraw.Draw(layer)
    _draw_hair_behind(pen, face)
    _draw_body(pen, face)
    _draw_head(pen, face)
    layer = _shade(layer, face)
    _draw_hair_in_front(layer, face)
    _draw_features(ImageDraw.Draw(layer), face)
    return layer


def _draw_hair_behind(pen: ImageDraw.ImageDraw, face: Face) -> None:
    (x, y), a, b = face.centre, face.half_width, face.half_height
    if face.style in ("bob", "long"):
        down = 0.75 * b if face.style == "bob" else 1.5 * b
        _ellipse(pen, x, y - 0.12 * b, 1.2 * a, 1.02 * b, face.hair)
        pen.rounded_rectangle(_scaled(x - 1.2 * a, y - 0.2 * b, x + 1.2 * a, y + down), 8 * SCALE, fill=face.hair)
    if face.style == "bun":
        _ellipse(pen, x, y - 1.08 * b, 0.42 * a, 0.3 * b, face.hair)
    if face.style == "curly":
        for angle in np.linspace(0.85 * np.pi, 2.15 * np.pi, 11):
            _ellipse(
                pen, x + 1.0 * a * np.cos(angle), y - 0.1 * b + 0.95 * b * np.sin(angle), 0.36 * a, 0.36 * a, face.hair
            )


def _draw_body(pen: ImageDraw.ImageDraw, face: Face) -> None:
    (x, y), a, b = face.centre, face.half_width, face.half_height
    top, bottom = y + 1.12 * b, face.size[0] + 10
    pen.rectangle(_scaled(x - 0.42 * a, y + 0.6 * b, x + 0.42 * a, top + 6), fill=_mix(face.skin, (60, 20, 10), 0.25))
    pen.rounded_rectangle(_scaled(x - 1.6 * a, top, x + 1.6 * a, bottom + 40), 16 * SCALE, fill=face.clothes)
    skin, light = _mix(face.skin, (60, 20, 10), 0.25), _mix(face.clothes, (255, 255, 255), 0.5)
    if face.collar == 0:
        _ellipse(pen, x, top, 0.46 * a, 5, skin)
    if face.collar == 1:
        pen.polygon(_points([(x - 0.42 * a, top), (x + 0.42 * a, top), (x, top + 13)]), fill=skin)
    if face.collar == 2:
        for side in (-1, 1):
            corner = [(x, top + 9), (x + side * 0.5 * a, top - 2), (x + side * 0.62 * a, top + 11)]
            pen.polygon(_points(corner), fill=light)


def _draw_head(pen: ImageDraw.ImageDraw, face: Face) -> None:
    (x, y), a, b = face.centre, face.half_width, face.half_height
    for side in (-1, 1):
        _ellipse(pen, x + side * a, y + 0.02 * b, 0.14 * a, 0.2 * b, _mix(face.skin, LIP_RED, 0.12))
    angle = np.linspace(0, 2 * np.pi, 90)
    narrow = 1 - 0.13 * np.clip(np.sin(angle), 0, 1) ** 2  # towards the chin
    outline = np.stack([x + a * narrow * np.cos(angle), y + b * np.sin(angle)], axis=1)
    pen.polygon(_points(outline), fill=face.skin)


def _shade(layer: Image.Image, face: Face) -> Image.Image:
    """Soft light from above left, and warm cheeks."""
    (x, y), a, b = face.centre, face.half_width, face.half_height
    shade, warm = Image.new("L", layer.size), Image.new("L", layer.size)
    _ellipse(ImageDraw.Draw(shade), x + 0.9 * a, y + 0.3 * b, 0.6 * a, 1.0 * b, 70)
    for side in (-1, 1):
        _ellipse(ImageDraw.Draw(warm), x + side * 0.55 * a, y + 0.25 * b, 0.22 * a, 0.16 * b, 60)
    alpha = layer.getchannel("A")
    for mask, colour in ((shade, (40, 16, 24)), (warm, (214, 84, 76))):
        soft = mask.filter(ImageFilter.GaussianBlur(7 * SCALE))
        layer = Image.composite(Image.new("RGBA", layer.size, (*colour, 255)), layer, soft)
        layer.putalpha(alpha)
    return layer


def _draw_hair_in_front(layer: Image.Image, face: Face) -> None:
    """The hair is what is left of a larger head above a hairline."""
    if face.style == "bald":
        return
    (x, y), a, b = face.centre, face.half_width, face.half_height
    hair, bare = Image.new("L", layer.size), Image.new("L", layer.size)
    _ellipse(ImageDraw.Draw(hair), x, y - 0.06 * b, 1.06 * a, 1.02 * b, 255)
    aside = 0.35 * a if face.style in ("side", "long") else 0
    low = 0.34 if face.style in ("bob", "curly") else 0.48
    _ellipse(ImageDraw.Draw(bare), x + aside, y + 0.45 * b, 0.98 * a, (0.45 + low) * b, 255)
    ImageDraw.Draw(bare).rectangle((0, (_at(y + 0.1 * b)), *layer.size), fill=255)
    layer.paste((*face.hair, 255), mask=ImageChops.subtract(hair, bare))


def _draw_features(pen: ImageDraw.ImageDraw, face: Face) -> None:
    (x, y), b = face.centre, face.half_height
    dark = _mix(face.skin, (60, 10, 10), 0.35)
    pen.arc(_scaled(x - face.nose, y + 0.12 * b, x + face.nose, y + 0.27 * b), 20, 160, fill=dark, width=SCALE + 1)
    for ex, ey in face.eyes:
        lift = face.eye + 3.5
        brow = [(ex - face.eye, ey - lift), (ex, ey - lift - 1.5), (ex + face.eye, ey - lift)]
        colour = _mix(face.hair, (40, 30, 30), 0.4)
        pen.line(_points(brow), fill=colour, width=round(face.brow * SCALE), joint="curve")


def _draw_eyes(pen: ImageDraw.ImageDraw, face: Face, blink: float) -> None:
    lid, line = _mix(face.skin, (90, 30, 30), 0.15), _mix(face.skin, (20, 5, 5), 0.7)
    for x, y in face.eyes:
        wide, high = face.eye, 0.72 * face.eye
        _ellipse(pen, x, y, wide, high, (246, 246, 244))
        _ellipse(pen, x, y, 0.56 * wide, 0.56 * wide, face.iris)
        _ellipse(pen, x, y, 0.28 * wide, 0.28 * wide, (12, 10, 12))
        _ellipse(pen, x - 0.16 * wide, y - 0.18 * wide, 0.13 * wide, 0.13 * wide, (255, 255, 255))
        if blink > 0:
            cover = y - high + 2 * high * blink
            pen.chord(
                _scaled(x - wide - 0.5, y - high - 0.5, x + wide + 0.5, y + high + 0.5), *_arc(y, high, cover), fill=lid
            )
        pen.arc(_scaled(x - wide, y - high, x + wide, y + high), 200, 340, fill=line, width=SCALE)
        if face.glasses:
            pen.ellipse(
                _scaled(x - 1.5 * wide, y - 1.4 * wide, x + 1.5 * wide, y + 1.4 * wide),
                outline=(40, 40, 44),
                width=SCALE,
            )


def _arc(y: float, high: float, cover: float) -> tuple[float, float]:
    """The angles, in degrees clockwise from the right, of the chord at height `cover` of an eye around `y`."""
    lift = np.degrees(np.arcsin(np.clip((y - cover) / high, -1, 1)))
    return 180 + lift, 360 - lift


def _draw_mouth(pen: ImageDraw.ImageDraw, face: Face, opening: float, width: float) -> None:
    """Lips around a dark room with teeth and tongue in it; shut, the lips meet in a line."""
    x, y = face.mouth
    half = face.mouth_half_width * (1 + 0.2 * width)
    gap = face.max_opening * opening
    lips = _mix(face.skin, LIP_RED, 0.6)
    across = np.linspace(-1, 1, 25)
    arch = np.sqrt(1 - across**2)
    line = y + face.smile * (0.5 - across**2)
    upper, lower = line - 0.28 * gap * arch, line + 0.72 * gap * arch
    places = x + half * across
    outside = _outline(x + (half + 1.2) * across, upper - face.lip * arch**0.7, lower + 1.15 * face.lip * arch**0.7)
    pen.polygon(_points(outside), fill=lips)
    if gap < 0.8:
        pen.line(_points(np.stack([places, line], axis=1)), fill=_mix(lips, MOUTH_DARK, 0.75), width=SCALE)
        return
    pen.polygon(_points(_outline(places, upper, lower)), fill=MOUTH_DARK)
    teeth = np.minimum(upper + min(0.3 * gap, 3.5), lower)
    pen.polygon(_points(_outline(places[3:-3], upper[3:-3], teeth[3:-3])), fill=TEETH)
    tongue = np.maximum(lower - 0.3 * gap * arch, teeth)
    pen.polygon(_points(_outline(places[5:-5], tongue[5:-5], lower[5:-5])), fill=TONGUE)


def _outline(places: np.ndarray, upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    return np.concatenate([np.stack([places, upper], axis=1), np.stack([places, lower], axis=1)[::-1]])


def _at(value: float) -> float:
    return (value + int(SWAY + 1)) * SCALE


def _scaled(*lengths: float) -> tuple[float, ...]:
    return tuple(_at(length) for length in lengths)


def _points(places: np.ndarray | list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(_at(x), _at(y)) for x, y in places]


def _ellipse(pen: ImageDraw.ImageDraw, x: float, y: float, half_width: float, half_height: float, fill: object) -> None:
    pen.ellipse(_scaled(x - half_width, y - half_height, x + half_width, y + half_height), fill=fill)


def _box(left: float, top: float, right: float, bottom: float) -> Box:
    return int(np.floor(left)), int(np.floor(top)), int(np.ceil(right)), int(np.ceil(bottom))


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    return tuple(round(a * (1 - share) + b * share) for a, b in zip(one, other, strict=True))


def _jitter(rng: np.random.Generator, colour: Colour, spread: int) -> Colour:
    return tuple(int(np.clip(c + rng.integers(-spread, spread + 1), 0, 255)) for c in colour)


def _any_colour(rng: np.random.Generator, low: int, high: int) -> Colour:
    return tuple(int(c) for c in rng.integers(low, high, 3))
