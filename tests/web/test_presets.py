"""Three ways to make a video."""

from pipeline.request import GenerationRequest
from pipeline.store.catalogue import CATALOGUE
from pipeline.web.presets import HIGH, PREVIEW, STANDARD, presets

USUAL = {"size": "480p", "steps": 40}


def test_a_preview_is_a_quick_look_and_the_high_preset_takes_its_time() -> None:
    made = presets(USUAL)

    assert made[PREVIEW] == {"size": 199_680, "steps": 14, "max_clips": 1}
    assert made[STANDARD] == {"size": "480p", "steps": 40, "max_clips": None}
    assert made[HIGH] == {"size": "720p", "steps": 50, "max_clips": None}


def test_a_preview_of_a_small_model_is_not_made_worse_than_can_be_seen() -> None:
    assert presets({"size": 24_576, "steps": 6})[PREVIEW] == {"size": 24_576, "steps": 4, "max_clips": 1}
    assert presets({"size": 4096, "steps": 3})[PREVIEW] == {"size": 4096, "steps": 3, "max_clips": 1}


def test_every_preset_of_every_model_is_accepted() -> None:
    fields = {name: field.get_default() for name, field in GenerationRequest.model_fields.items()}
    for entry in CATALOGUE:
        defaults = fields | dict(entry.defaults)
        for values in presets({"size": defaults["max_area"], "steps": defaults["steps"]}).values():
            request = {"max_area": values["size"], "steps": values["steps"], "max_clips": values["max_clips"]}
            assert GenerationRequest.parse({**defaults, "portrait": "x", "audio": "x", **request})
