import subprocess

import pytest

from pipeline.store.manifest import (
    MANIFEST,
    Manifest,
    ModelFile,
    read_manifest,
    same_content,
    write_manifest,
    write_whole,
    wrong_sizes,
)
from pipeline.store.progress import follow, states_of

MANIFEST_OF_TWO = Manifest("a/b", "main", "0" * 40, (ModelFile("x", 1, "1" * 40), ModelFile("y/z", 2, "2" * 64)), True)


def is_same(path, file):
    return follow(states_of(same_content(path, file), lambda done: done), lambda done: None)


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    write_manifest(tmp_path, MANIFEST_OF_TWO)
    assert read_manifest(tmp_path) == MANIFEST_OF_TWO
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]
    assert MANIFEST_OF_TWO.total_bytes == 3


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": []}', '{"files": 3}', '{"files": [{}]}', "null"])
def test_a_manifest_that_cannot_be_read_is_taken_as_missing_and_logged(tmp_path, caplog, content):
    (tmp_path / MANIFEST).write_text(content)
    assert read_manifest(tmp_path) is None
    assert "taken as missing" in caplog.text


def test_a_missing_manifest_is_no_matter_for_the_log(tmp_path, caplog):
    assert read_manifest(tmp_path) is None
    assert read_manifest(tmp_path / "none") is None
    assert not caplog.text


def test_hashes_are_those_of_git_and_sha256sum(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"some content" * 1000)
    blob = subprocess.run(["git", "hash-object", path], capture_output=True, text=True, check=True).stdout.strip()
    sha256 = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    for digest in (blob, sha256):
        assert is_same(path, ModelFile("file", path.stat().st_size, digest))
    path.write_bytes(b"Some content" * 1000)
    for digest in (blob, sha256):
        assert not is_same(path, ModelFile("file", path.stat().st_size, digest))


def test_wrong_sizes_are_told_with_both_lengths(tmp_path):
    (tmp_path / "x").write_bytes(b"12")
    assert wrong_sizes(tmp_path, MANIFEST_OF_TWO.files) == ["x has 2 bytes instead of 1", "y/z is missing"]


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "target").mkdir()
    with pytest.raises(OSError, match="target"):
        write_whole(tmp_path / "target", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
