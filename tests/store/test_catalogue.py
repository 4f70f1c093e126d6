from pathlib import Path

import pytest

from pipeline.errors import InvalidSetting
from pipeline.request import GenerationRequest
from pipeline.store.catalogue import CATALOGUE, entry_for

from .models import UNNEEDED, model_files, needed_files


def test_the_14b_model_is_pinned_to_a_commit_and_the_default():
    entry = entry_for(None)
    assert (entry.name, entry.variant, entry.repository) == ("wan2.2-s2v-14b", "bf16", "Wan-AI/Wan2.2-S2V-14B")
    assert len(entry.revision) == 40
    assert int(entry.revision, 16) > 0
    assert entry == entry_for("wan2.2-s2v-14b", "bf16")


def test_the_sample_model_says_what_it_is_and_has_defaults_that_a_request_accepts():
    entry = entry_for("sample")
    assert entry.folder == Path(__file__).parents[2] / "assets" / "sample_model"
    assert "drawn faces, 128 px" in entry.notice
    assert "MODEL=wan2.2-s2v-14b" in entry.notice
    request = GenerationRequest.parse({"portrait": "a.png", "audio": "a.wav", **entry.defaults})
    assert (request.max_area, request.steps, request.guidance) == (24576, 6, 1.0)


@pytest.mark.parametrize("entry", [entry for entry in CATALOGUE if not entry.weights], ids=lambda entry: entry.name)
def test_every_needed_file_belongs_to_one_component_and_no_other_file_to_any(entry):
    files = model_files()
    assert all(entry.component_of(path) for path in needed_files(files))
    assert not any(entry.component_of(path) for path in UNNEEDED)
    assert entry.component_of("wav2vec2-large-xlsr-53-english/processor_config.json") == "speech encoder"
    assert entry.component_of("config.json") == "transformer"
    assert entry.component_of("else/config.json") is None


def test_a_repository_is_named_with_or_without_its_revision():
    assert entry_for("somebody/some-model").revision == "main"
    assert entry_for("somebody/some-model@v1.0").revision == "v1.0"
    assert entry_for("somebody/some-model@v1.0", None, "v2").revision == "v1.0"
    assert entry_for("somebody/some-model", None, "v2").revision == "v2"
    assert entry_for("wan2.2-s2v-14b", None, "v2").revision == "v2"


def test_a_folder_is_taken_as_it_is(tmp_path):
    entry = entry_for(str(tmp_path))
    assert (entry.folder, entry.repository) == (tmp_path, None)


@pytest.mark.parametrize(
    "model",
    [
        "wan",
        "a/b/c",
        "../models",
        "a/b@",
        "/no/such/folder",
        "a/..",
        "a b/c",
        "a--b/c",
        " ",
        "a/b.git",
        "a/" + "b" * 99,
    ],
)
def test_anything_else_is_refused_in_one_sentence_that_says_what_is_accepted(model):
    with pytest.raises(InvalidSetting, match=r"OWNER/NAME\[@REVISION\]\.$") as raised:
        entry_for(model)
    assert repr(model) in str(raised.value)


def test_wrong_variants_and_revisions_are_refused():
    with pytest.raises(InvalidSetting, match="comes as bf16"):
        entry_for("wan2.2-s2v-14b", "int1")
    with pytest.raises(InvalidSetting, match="variant"):
        entry_for("somebody/some-model", "bf16")
    with pytest.raises(InvalidSetting, match="MODEL_REVISION"):
        entry_for("somebody/some-model", None, "../../etc")
