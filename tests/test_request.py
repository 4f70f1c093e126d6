"""What is accepted as a request, and what it comes to."""

import random
from typing import Any

import pytest

from pipeline.errors import InvalidRequest
from pipeline.request import MEANINGS, SIZES, GenerationRequest, cover_size, explained, output_size, plan_clips

INPUTS = {"portrait": "portrait.png", "audio": "voice.wav"}


def request(**values: Any) -> GenerationRequest:
    return GenerationRequest.parse(INPUTS | values)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"steps": 0}, "steps: 0 is not accepted; give a whole number from 1 to 200."),
        ({"steps": 2.5}, "steps: 2.5 is not accepted; give a whole number from 1 to 200."),
        ({"guidance": -1}, "guidance: -1 is not accepted; give a number from 0 to 20."),
        ({"guidance": "nan"}, "guidance: 'nan' is not accepted; give a number from 0 to 20."),
        (
            {"seed": "abc"},
            "seed: 'abc' is not accepted; give a whole number from 0 to 4294967295, or -1 for a drawn one.",
        ),
        ({"frames_per_clip": 79}, "frames_per_clip: 79 is not accepted; give a multiple of 4 from 4 to 160."),
        ({"solver": "euler"}, "solver: 'euler' is not accepted; give unipc or dpm++."),
        (
            {"max_area": "4k"},
            "size: '4k' is not accepted; give 480p, 704p, 720p, or an area in pixels from 4096 to 921600.",
        ),
        ({"colour": 1}, "colour: there is no such setting."),
        (
            {"audio_duration": 0.05},
            "audio_duration: 0.05 is not accepted; give seconds, at least 0.2, or nothing for all of the audio.",
        ),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_accepted(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        request(**values)
    assert str(error.value) == sentence


def test_every_field_says_what_it_means_and_what_is_accepted() -> None:
    fields = GenerationRequest.model_fields
    assert set(MEANINGS) == set(fields)
    assert explained("guidance") == "how strictly prompt and audio are followed: a number from 0 to 20"
    assert all(field.description for field in fields.values())


def test_a_missing_input_is_named() -> None:
    with pytest.raises(InvalidRequest, match="audio is missing: give the path of an audio file"):
        GenerationRequest.parse({"portrait": "portrait.png"})


def test_a_very_long_value_is_shown_in_part() -> None:
    with pytest.raises(InvalidRequest) as error:
        request(prompt="x" * 5000)
    assert len(str(error.value)) < 200


def test_empty_optional_fields_of_a_form_mean_nothing_given() -> None:
    empty = request(max_clips="", audio_duration="", pose_video="")
    assert (empty.max_clips, empty.audio_duration, empty.pose_video) == (None, None, None)


def test_a_size_by_name_is_its_area() -> None:
    assert request(max_area="704p").max_area == 704 * 1024


def test_a_request_survives_json() -> None:
    there = request(seed=7, pose_video="pose.mp4")
    assert GenerationRequest.model_validate_json(there.model_dump_json()) == there


# seconds of audio, first-frame mode -> frames of the video, clips of 80 frames
@pytest.mark.parametrize(
    ("seconds", "first_frame", "frames", "clips"),
    [
        (0.2, False, 4, 1),
        (4.8125, False, 77, 1),  # 77 frames and 3 of warm-up: a whole clip
        (4.82, False, 78, 2),
        (5.0, True, 80, 1),  # without warm-up the official count would have a second, silent clip
        (5.005, True, 81, 2),
        (7.4, False, 119, 2),
        (300.0, False, 4800, 61),
    ],
)
def test_frames_and_clips_are_those_that_the_audio_needs(
    seconds: float, first_frame: bool, frames: int, clips: int
) -> None:
    plan = plan_clips(request(first_frame=first_frame), (512, 512), seconds)
    assert (plan.frames, plan.clips) == (frames, clips)
    assert plan.generated_frames >= plan.frames > plan.generated_frames - 80
    assert plan.frames_through(plan.clips) == plan.frames


def test_a_limit_of_clips_cuts_the_video() -> None:
    plan = plan_clips(request(max_clips=2), (512, 512), 60.0)
    assert (plan.clips, plan.frames, plan.generated_frames) == (2, 157, 157)
    assert [plan.frames_through(clip) for clip in range(4)] == [0, 77, 157, 157]


def test_the_lead_is_silence_before_the_audio_and_not_needed_in_first_frame_mode() -> None:
    assert plan_clips(request(), (512, 512), 5).lead_frames == 3
    assert plan_clips(request(sync_lead_frames=0), (512, 512), 5).lead_frames == 0
    assert plan_clips(request(first_frame=True), (512, 512), 5).lead_frames == 0


@pytest.mark.parametrize(
    ("image", "area", "size"),
    [
        ((512, 512), SIZES["720p"], (512, 512)),  # not enlarged
        ((832, 480), SIZES["480p"], (832, 448)),
        ((720, 1280), SIZES["720p"], (704, 1280)),
        ((1080, 1920), SIZES["704p"], (640, 1088)),
        ((288, 512), 24576, (128, 192)),
        ((512, 512), 4096, (64, 64)),
    ],
)
def test_the_output_has_the_official_size(image: tuple[int, int], area: int, size: tuple[int, int]) -> None:
    assert output_size(*image, area) == size


def test_any_output_fits_its_area_in_multiples_of_64_and_can_be_cut_from_the_scaled_image() -> None:
    draw = random.Random(1)
    for _ in range(3000):
        image = draw.randint(64, 6000), draw.randint(64, 6000)
        area = draw.choice([4096, 16384, *SIZES.values()])
        height, width = output_size(*image, area)
        assert height % 64 == width % 64 == 0
        assert height >= 64
        assert width >= 64
        assert height * width <= area or 64 in (height, width)
        rows, columns = cover_size(*image, height, width)
        assert rows >= height
        assert columns >= width


@pytest.mark.parametrize("image", [(64, 1_000_000), (1_000_000, 64)])
def test_a_portrait_that_fits_no_output_is_refused(image: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequest, match="too long and thin"):
        plan_clips(request(), image, 5)


def test_a_portrait_four_times_as_long_as_wide_fits_every_size() -> None:
    for area in (16384, *SIZES.values()):
        plan = plan_clips(request(max_area=area), (2000, 500), 5)
        assert plan.height * plan.width <= area


def test_an_image_is_scaled_by_its_shorter_side_where_that_covers_and_further_where_not() -> None:
    assert cover_size(512, 512, 64, 64) == (64, 64)
    assert cover_size(288, 512, 128, 192) == (128, 227)
    assert cover_size(500, 600, 448, 832) == (694, 832)  # the official resize would leave black bars: 448 x 537
