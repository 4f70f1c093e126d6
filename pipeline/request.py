"""What a user asks for, and what that means in clips, frames and pixels. All numbers are checked here; no torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from pipeline.errors import InvalidRequest

FRAMES_PER_SECOND = 16
LATENT_STRIDE = 4  # video frames per latent frame
MOTION_FRAMES = 73  # frames that a clip remembers of those before it: 1 + 4 * 18, 19 latent frames
WARM_UP_FRAMES = 3  # of the opening clip, not shown
SIDE_MULTIPLE = 64  # the output's sides are multiples of this
SIZES = {"480p": 480 * 832, "704p": 704 * 1024, "720p": 720 * 1280}  # the largest area in pixels
MIN_AUDIO_SECONDS = 0.2
MAX_SEED = 2**32 - 1

Speed = Literal["exact", "first-block", "magnitude", "taylor"]


def area_of(size: Any) -> Any:
    """The area in pixels that a size preset stands for; anything else is returned as it came."""
    return SIZES.get(size, size) if isinstance(size, str) else size


def _optional(value: Any) -> Any:
    """An empty form field means that nothing was given."""
    return None if value == "" else value


class GenerationRequest(BaseModel):
    """One video to make. Each field's description says what is accepted; errors and API pages quote it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    portrait: Annotated[Path, Field(description="the path of a JPEG, PNG or WebP picture")]
    audio: Annotated[Path, Field(description="the path of an audio file")]
    prompt: Annotated[str, Field(max_length=4000, description="a text of at most 4000 characters")] = (
        "a person is talking"
    )
    negative_prompt: Annotated[
        str, Field(max_length=4000, description="a text of at most 4000 characters; empty: the model's own")
    ] = ""
    max_area: Annotated[
        int,
        BeforeValidator(area_of),
        Field(ge=4096, le=921_600, description="480p, 704p, 720p, or an area in pixels from 4096 to 921600"),
    ] = SIZES["480p"]
    steps: Annotated[int, Field(ge=1, le=200, description="a whole number from 1 to 200")] = 40
    guidance: Annotated[float, Field(ge=0, le=20, description="a number from 0 to 20")] = 4.5
    shift: Annotated[float, Field(ge=0.1, le=20, description="a number from 0.1 to 20")] = 3.0
    solver: Annotated[Literal["unipc", "dpm++"], Field(description="unipc or dpm++")] = "unipc"
    seed: Annotated[
        int, Field(ge=-1, le=MAX_SEED, description=f"a whole number from 0 to {MAX_SEED}, or -1 for a drawn one")
    ] = -1
    frames_per_clip: Annotated[int, Field(ge=4, le=160, multiple_of=4, description="a multiple of 4 from 4 to 160")] = (
        80
    )
    max_clips: Annotated[
        Annotated[int, Field(ge=1, le=10_000)] | None,
        BeforeValidator(_optional),
        Field(description="a whole number from 1 to 10000, or nothing for as many as the audio asks"),
    ] = None
    audio_start: Annotated[
        float, Field(ge=0, le=86_400, description="seconds from the start of the audio, from 0 to 86400")
    ] = 0.0
    audio_duration: Annotated[
        Annotated[float, Field(ge=MIN_AUDIO_SECONDS, le=86_400)] | None,
        BeforeValidator(_optional),
        Field(description="seconds, at least 0.2, or nothing for all of the audio"),
    ] = None
    pose_video: Annotated[
        Path | None, BeforeValidator(_optional), Field(description="the path of a video file, or nothing")
    ] = None
    first_frame: Annotated[bool, Field(description="true or false")] = False
    sync_lead_frames: Annotated[int, Field(ge=0, le=16, description="a whole number from 0 to 16")] = WARM_UP_FRAMES

    speed: Annotated[
        Speed, Field(description="exact, or a faster way that is not: first-block, magnitude or taylor")
    ] = "exact"
    guidance_share: Annotated[
        float, Field(ge=0, le=1, description="the share of the steps that use guidance, from the first on, 0 to 1")
    ] = 1.0

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> "GenerationRequest":
        """Check `values` (field name -> value as typed) as a whole.

        Raises InvalidRequest, which names the first wrong field, its value, and what would be accepted.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise InvalidRequest(_sentence(error)) from None


MEANINGS = {
    "portrait": "who talks",
    "audio": "what is said",
    "prompt": "what is seen",
    "negative_prompt": "what should not be seen",
    "max_area": "the size at most",
    "steps": "denoising steps of each clip",
    "guidance": "how strictly prompt and audio are followed",
    "shift": "the larger, the more of the steps go into coarse shapes",
    "solver": "how a step is computed from those before",
    "seed": "what the noise is drawn from",
    "frames_per_clip": "the length of a clip",
    "max_clips": "after how many clips the video ends at the latest",
    "audio_start": "where in the audio the video begins",
    "audio_duration": "how much of the audio is used",
    "pose_video": "a video whose movements are followed",
    "first_frame": "whether the video begins with the portrait itself",
    "sync_lead_frames": "frames by which the model hears the audio later, so that lips are on the sound",
    "speed": "whether steps are computed whole",
    "guidance_share": "how long guidance is used",
}


def explained(name: str) -> str:
    """What the request's field `name` means, and what is accepted."""
    return f"{MEANINGS[name]}: {GenerationRequest.model_fields[name].description}"


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0])
    field = GenerationRequest.model_fields.get(name)
    if field is None:
        return f"{name}: there is no such setting."
    shown = "size" if name == "max_area" else name
    if first["type"] == "missing":
        return f"{shown} is missing: give {field.description}."
    return f"{shown}: {_short(first['input'])} is not accepted; give {field.description}."


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True)
class ClipPlan:
    """What a request comes to: the output's pixels, and its frames as the model makes them, clip after clip."""

    height: int  # pixels, a multiple of 64
    width: int  # pixels, a multiple of 64
    frames: int  # of the finished video, at 16 a second
    clips: int
    frames_per_clip: int  # a multiple of 4
    warm_up_frames: int  # made and dropped at the start of the opening clip: 3, or 0 in first-frame mode
    lead_frames: int  # of silence that the model hears before the audio, so that the warm-up falls on it

    @property
    def seconds(self) -> float:
        """Length of the finished video."""
        return self.frames / FRAMES_PER_SECOND

    @property
    def generated_frames(self) -> int:
        """Frames that the model gives in all, before the video is cut to the audio."""
        return self.clips * self.frames_per_clip - self.warm_up_frames

    def frames_through(self, clip: int) -> int:
        """Frames of the finished video that are there once `clip` (from 1; 0 is none) is done."""
        return max(0, min(self.frames, clip * self.frames_per_clip - self.warm_up_frames))


def plan_clips(request: GenerationRequest, portrait_size: tuple[int, int], audio_seconds: float) -> ClipPlan:
    """Plan `request` for a portrait of (height, width) pixels and `audio_seconds` of chosen audio.

    frames = ceil(seconds * 16); clips = ceil((frames + warm-up) / frames per clip), at most `max_clips`.
    Raises InvalidRequest where no output of the portrait's shape fits the size.
    """
    height, width = output_size(*portrait_size, request.max_area)
    if height * width > request.max_area:
        raise InvalidRequest(
            f"portrait: {portrait_size[1]}x{portrait_size[0]} pixels are too long and thin for this size; "
            "give a picture that is at most four times as long as it is wide."
        )
    warm_up = 0 if request.first_frame else WARM_UP_FRAMES
    frames = math.ceil(round(audio_seconds * FRAMES_PER_SECOND, 6))
    clips = math.ceil((frames + warm_up) / request.frames_per_clip)
    clips = min(clips, request.max_clips or clips)
    return ClipPlan(
        height=height,
        width=width,
        frames=min(frames, clips * request.frames_per_clip - warm_up),
        clips=clips,
        frames_per_clip=request.frames_per_clip,
        warm_up_frames=warm_up,
        lead_frames=0 if request.first_frame else request.sync_lead_frames,
    )


def output_size(image_height: int, image_width: int, max_area: int) -> tuple[int, int]:
    """The output's (height, width): multiples of 64, at most `max_area` pixels, near the image's aspect.

    The official program's search over scales, its formula for the smallest scale included. Images are hardly enlarged:
    each side grows by less than 64.
    """
    area = image_height * image_width
    if area <= max_area:
        smallest, largest = 0.1, 1.0
    else:
        d = SIDE_MULTIPLE - 1
        b, c = d * (image_height + image_width), d * d - max_area
        smallest = (-b + math.sqrt(max(0.0, b * b - 2 * area * c))) / (2 * area)
        largest = math.sqrt(max_area / area)
    for i in range(100):
        scale = largest - (largest - smallest) * i / 100
        height, width = (_round_up(int(side * scale)) for side in (image_height, image_width))
        if 0 < height * width <= max_area:
            return height, width
    aspect = image_height / image_width
    return _round_down(math.sqrt(max_area * aspect)), _round_down(math.sqrt(max_area / aspect))


def _round_up(side: int) -> int:
    return -(-side // SIDE_MULTIPLE) * SIDE_MULTIPLE


def _round_down(side: float) -> int:
    return max(1, int(side) // SIDE_MULTIPLE) * SIDE_MULTIPLE


def cover_size(image_height: int, image_width: int, height: int, width: int) -> tuple[int, int]:
    """The (height, width) to which an image is scaled so that its centre can be cut out at `height` x `width`.

    The official resize (shorter side to the smaller of height and width) where that covers; it leaves black bars where
    it does not, so there the smallest scale that covers, rounded up.
    """
    short, long = (
        min(height, width),
        int(min(height, width) * max(image_height, image_width) / min(image_height, image_width)),
    )
    rows, columns = (short, long) if image_height <= image_width else (long, short)
    if rows >= height and columns >= width:
        return rows, columns
    scale = max(height / image_height, width / image_width)
    return max(height, math.ceil(image_height * scale)), max(width, math.ceil(image_width * scale))
