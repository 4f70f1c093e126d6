from dataclasses import replace

import pytest

from pipeline.store.catalogue import entry_for
from pipeline.store.layout import shortcoming
from pipeline.store.manifest import Manifest, ModelFile, write_manifest

from .hub_server import COMMIT
from .models import REPOSITORY, SHARDS, T5, needed_files, write_files

INDEX = "diffusion_pytorch_model.safetensors.index.json"


@pytest.fixture
def filled(folder, files):
    """A folder that somebody else filled."""
    write_files(folder, needed_files(files))
    return folder


@pytest.fixture
def manifest(files):
    """What a download would have written about it."""
    listed = tuple(ModelFile(path, len(content), "0" * 64) for path, content in needed_files(files).items())
    return Manifest(REPOSITORY, "main", COMMIT, listed, complete=True)


def test_a_whole_folder_lacks_nothing_with_and_without_a_manifest(filled, entry, manifest):
    assert shortcoming(filled, entry) is None
    write_manifest(filled, manifest)
    assert shortcoming(filled, entry) is None
    assert shortcoming(filled, entry_for(str(filled))) is None


@pytest.mark.parametrize("path", [SHARDS[1], T5, "google/umt5-xxl/tokenizer.json", INDEX])
def test_a_missing_file_is_named(filled, entry, manifest, path):
    (filled / path).unlink()
    assert shortcoming(filled, entry) == f"{path} is missing"
    write_manifest(filled, manifest)
    assert shortcoming(filled, entry) == f"{path} is missing"


@pytest.mark.parametrize("path", [SHARDS[0], T5, "Wan2.1_VAE.pth", "config.json"])
def test_a_file_that_was_cut_off_is_named(filled, entry, manifest, path):
    length = (filled / path).stat().st_size
    (filled / path).write_bytes((filled / path).read_bytes()[: length // 2 if length > 1000 else 0])
    assert shortcoming(filled, entry) == f"{path} is damaged or not wholly there"
    write_manifest(filled, manifest)
    assert path in shortcoming(filled, entry)
    assert f"instead of {length}" in shortcoming(filled, entry)


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, (5).to_bytes(8, "little") + b"[{}]]", b"12345678{}"])
def test_a_file_that_is_no_safetensors_file_is_named(filled, entry, content):
    (filled / SHARDS[0]).write_bytes(content)
    assert shortcoming(filled, entry) == f"{SHARDS[0]} is damaged or not wholly there"


def test_a_download_that_has_not_ended_is_not_whole(filled, entry, manifest):
    write_manifest(filled, replace(manifest, complete=False))
    assert shortcoming(filled, entry) == "its download has not ended"


def test_another_revision_or_repository_is_passed_over(filled, entry, manifest):
    write_manifest(filled, manifest)
    assert shortcoming(filled, replace(entry, revision=COMMIT)) is None
    assert shortcoming(filled, replace(entry, revision="v2")) == f"it holds revision {COMMIT}"
    assert shortcoming(filled, replace(entry, repository="a/b")) == f"it holds {REPOSITORY}"


def test_a_file_that_this_program_needs_and_the_manifest_does_not_know_is_missing(filled, entry, manifest):
    write_manifest(filled, replace(manifest, files=manifest.files[:-1]))
    assert shortcoming(filled, entry) == f"{manifest.files[-1].path} is missing"


def test_a_damaged_index_and_a_missing_folder_are_told(filled, entry, tmp_path):
    (filled / INDEX).write_text("{")
    assert shortcoming(filled, entry) == f"{INDEX} is damaged"
    assert shortcoming(tmp_path / "none", entry) == "there is no such folder"
    (tmp_path / "file").write_text("")
    assert shortcoming(tmp_path / "file", entry) == "there is no such folder"
