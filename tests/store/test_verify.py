import logging

import huggingface_hub
import pytest

from pipeline.errors import ModelUnavailable
from pipeline.store.catalogue import entry_for
from pipeline.store.obtain import obtain_model
from pipeline.store.progress import follow
from pipeline.store.verify import verify_model

from .conftest import PACE
from .hub_server import Fault
from .models import REPOSITORY, SHARDS, T5, listing, needed_files, read_files, write_files


@pytest.fixture
def obtain(entry, settings, places):
    """Obtain the model."""
    return lambda: follow(obtain_model(entry, settings, places, PACE), lambda state: None)


@pytest.fixture
def verify(entry, settings, caplog):
    """Verify the model in a folder; what it showed is in `verify.states`."""
    caplog.set_level(logging.INFO)

    def run(folder, of=entry):
        run.states = []
        return follow(verify_model(of, folder, settings, PACE), run.states.append)

    return run


def test_a_good_model_is_read_wholly_and_left_alone(obtain, verify, hub, files):
    folder = obtain()
    hub.requests.clear()
    before = listing(folder)
    assert verify(folder) == ()
    assert listing(folder) == before
    assert hub.requests == []
    total = sum(map(len, needed_files(files).values()))
    assert {state.state for state in verify.states} == {"checking"}
    assert verify.states[-1].bytes_done == verify.states[-1].bytes_total == total
    assert {state.file for state in verify.states} == set(needed_files(files))


def test_wrong_bytes_of_the_right_length_are_found_named_and_repaired(obtain, verify, hub, files, caplog):
    hub.faults += [Fault(T5, then="flip", times=1), Fault("tokenizer_config.json", then="flip", times=1)]
    folder = obtain()
    assert read_files(folder) != needed_files(files)
    assert {path: len(content) for path, content in read_files(folder).items()} == {
        path: len(content) for path, content in needed_files(files).items()
    }
    hub.sent.clear()
    assert set(verify(folder)) == {T5, "google/umt5-xxl/tokenizer_config.json"}
    assert f"{folder / T5} is damaged" in caplog.text
    assert read_files(folder) == needed_files(files)
    assert set(hub.sent) == {T5, "google/umt5-xxl/tokenizer_config.json"}
    assert verify(folder) == ()


def test_a_missing_file_counts_as_damaged(obtain, verify, hub, files):
    folder = obtain()
    (folder / SHARDS[0]).unlink()
    assert verify(folder) == (SHARDS[0],)
    assert read_files(folder) == needed_files(files)


def test_a_folder_that_somebody_else_filled_is_compared_with_the_hub(verify, hub, files, folder):
    write_files(folder, needed_files(files) | {SHARDS[0]: bytes(len(files[SHARDS[0]]))})
    assert verify(folder) == (SHARDS[0],)
    assert read_files(folder) == needed_files(files)


def test_a_folder_named_by_its_path_is_repaired_from_where_it_came(obtain, verify, hub, files):
    folder = obtain()
    (folder / SHARDS[0]).write_bytes(bytes(len(files[SHARDS[0]])))
    assert verify(folder, entry_for(str(folder))) == (SHARDS[0],)
    assert read_files(folder) == needed_files(files)


def test_a_hugging_face_cache_is_verified_but_not_touched(verify, hub, places, files):
    cache = places.hub_caches[0]
    snapshot = huggingface_hub.snapshot_download(REPOSITORY, cache_dir=cache, endpoint=hub.endpoint)
    assert verify(type(cache)(snapshot)) == ()
    (type(cache)(snapshot) / SHARDS[0]).resolve().write_bytes(bytes(len(files[SHARDS[0]])))
    before = listing(cache)
    with pytest.raises(ModelUnavailable, match=rf"Damaged files in .*: {SHARDS[0]}; .*belongs to a Hugging Face cache"):
        verify(type(cache)(snapshot))
    assert listing(cache) == before


def test_without_hashes_to_compare_with_that_is_said(verify, files, tmp_path, environment, entry):
    write_files(tmp_path / "given", needed_files(files))
    with pytest.raises(ModelUnavailable, match="cannot be verified: their hashes are not known"):
        verify(tmp_path / "given", entry_for(str(tmp_path / "given")))
    environment.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelUnavailable, match="their hashes are on the Hub: the Hub cannot be reached"):
        verify(tmp_path / "given")
