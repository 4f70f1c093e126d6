import os
from dataclasses import replace

import huggingface_hub
import pytest

from pipeline.errors import ModelUnavailable
from pipeline.settings import Settings
from pipeline.store.catalogue import entry_for
from pipeline.store.locations import find_model, standard_places

from .hub_server import COMMIT
from .models import REPOSITORY, SHARDS, listing, needed_files, write_files
from .mounts import make_read_only, small_disk


@pytest.fixture
def whole(files):
    """What a whole folder holds."""
    return needed_files(files)


@pytest.fixture
def machine(places, tmp_path):
    """A machine with two volumes, both empty."""
    for name in ("runpod-volume", "workspace"):
        (tmp_path / name).mkdir()
    return replace(places, volumes=(tmp_path / "runpod-volume", tmp_path / "workspace"))


def fill_cache(hub, cache):
    """A Hugging Face cache, filled by the real client."""
    return huggingface_hub.snapshot_download(REPOSITORY, cache_dir=cache, endpoint=hub.endpoint)


def test_with_nothing_anywhere_the_first_volume_is_where_it_goes(machine, entry, tmp_path):
    search = find_model(entry, Settings(), machine)
    assert (search.found, search.destination) == (None, tmp_path / "runpod-volume" / "models" / REPOSITORY)
    assert {reason for _, reason in search.passed_over} == {"there is no such folder"}
    assert len(search.passed_over) == 3


def test_without_volumes_it_goes_under_the_users_cache(places, entry):
    assert find_model(entry, Settings(), places).destination == places.user_cache / "models" / REPOSITORY


def test_the_given_folder_for_models_comes_first_to_read_and_to_write(machine, entry, settings, folder, whole):
    assert find_model(entry, settings, machine).destination == folder
    write_files(machine.volumes[0] / "models" / REPOSITORY, whole)
    write_files(folder, whole)
    assert find_model(entry, settings, machine).found == folder


def test_a_place_that_has_it_whole_wins_over_one_that_has_it_in_part(machine, entry, settings, folder, whole):
    write_files(folder, dict(list(whole.items())[1:]))
    write_files(machine.volumes[1] / "models" / REPOSITORY, whole)
    search = find_model(entry, settings, machine)
    assert search.found == machine.volumes[1] / "models" / REPOSITORY
    assert (folder, f"{SHARDS[0]} is missing") in search.passed_over
    lines = list(search.lines())
    assert f"passed over {folder}: {SHARDS[0]} is missing" in lines
    assert lines[-1] == f"found the model in {search.found}"


def test_a_hugging_face_cache_is_used_as_it_is_before_the_volumes(machine, entry, hub, whole):
    snapshot = fill_cache(hub, machine.hub_caches[0])
    write_files(machine.volumes[0] / "models" / REPOSITORY, whole)
    before = listing(machine.hub_caches[0])
    for revision in ("main", COMMIT):
        assert str(find_model(replace(entry, revision=revision), Settings(), machine).found) == snapshot
    assert listing(machine.hub_caches[0]) == before


def test_a_hugging_face_cache_with_another_revision_or_a_hole_is_passed_over(machine, entry, hub):
    snapshot = fill_cache(hub, machine.hub_caches[0])
    assert find_model(replace(entry, revision="f" * 40), Settings(), machine).found is None
    os.unlink(f"{snapshot}/{SHARDS[1]}")
    search = find_model(entry, Settings(), machine)
    assert search.found is None
    assert SHARDS[1] in {str(folder): reason for folder, reason in search.passed_over}[snapshot]


def test_a_read_only_volume_that_is_filled_is_found_and_left_alone(places, entry, whole, tmp_path):
    with small_disk(tmp_path / "data", 20_000_000) as volume:
        folder = volume / "models" / REPOSITORY
        write_files(folder, whole)
        make_read_only(volume)
        before = listing(volume)
        assert find_model(entry, Settings(), replace(places, volumes=(volume,))).found == folder
        assert listing(volume) == before


def test_a_volume_that_cannot_be_written_is_no_destination(places, entry, tmp_path):
    with small_disk(tmp_path / "data", 20_000_000) as volume:
        make_read_only(volume)
        search = find_model(entry, Settings(), replace(places, volumes=(volume,)))
        assert search.destination == places.user_cache / "models" / REPOSITORY
        with pytest.raises(ModelUnavailable, match=r"cannot be written: set MODEL_CACHE_DIR"):
            find_model(entry, Settings(model_cache_dir=volume / "mine"), places)


def test_looking_for_a_place_leaves_nothing_behind(machine, entry, settings, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    find_model(entry, settings, machine)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_explicit_folder_is_used_or_what_it_lacks_is_said(places, tmp_path, whole):
    given = tmp_path / "given"
    write_files(given, whole)
    before = listing(given)
    assert find_model(entry_for(str(given)), Settings(), places).found == given
    assert listing(given) == before
    (given / SHARDS[0]).unlink()
    with pytest.raises(ModelUnavailable, match=f"The folder {given} does not hold .*: {SHARDS[0]} is missing"):
        find_model(entry_for(str(given)), Settings(), places)


def test_the_places_of_this_machine_are_those_of_hugging_face_and_the_mounted_volumes():
    places = standard_places()
    assert huggingface_hub.constants.HF_HUB_CACHE in map(str, places.hub_caches)
    assert all(os.path.ismount(volume) for volume in places.volumes)
    assert places.user_cache.is_absolute()
