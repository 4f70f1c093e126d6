"""A model whose transformer comes as one GGUF file from elsewhere: two downloads, shown as any other."""

from collections.abc import Iterator

import pytest

from pipeline.__main__ import main
from pipeline.errors import InvalidSetting
from pipeline.settings import Settings
from pipeline.store.catalogue import CATALOGUE, entry_for, gguf_entry, with_weights_from
from pipeline.store.obtain import obtain_files
from pipeline.store.progress import follow

from .hub_server import Hub
from .models import REPOSITORY, SHARDS

PACKED = {"Small-Q4.gguf": b"GGUF" + bytes(150_000), "Small-Q8.gguf": b"GGUF" + bytes(250_000)}


@pytest.fixture
def hub(files: dict[str, bytes], environment: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub(REPOSITORY, files | PACKED) as hub:
        environment.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


@pytest.mark.timeout(120)
def test_its_file_is_fetched_in_the_place_of_the_official_weights(hub: Hub, settings: Settings) -> None:
    found, states = {}, []
    for name, content in PACKED.items():
        entry = with_weights_from(entry_for(REPOSITORY), gguf_entry(f"{REPOSITORY}/{name}"))
        found[name] = follow(obtain_files(entry, settings), states.append)
        assert found[name].gguf.read_bytes() == content
    assert all(files.gguf.is_file() for files in found.values())  # the second did not push the first out
    assert not any((files.folder / shard).exists() for files in found.values() for shard in SHARDS)
    assert f"{REPOSITORY}/Small-Q4.gguf" in {state.model for state in states if state.state == "downloading"}
    asked = len(hub.requests)
    entry = with_weights_from(entry_for(REPOSITORY), gguf_entry(f"{REPOSITORY}/Small-Q4.gguf"))
    assert follow(obtain_files(entry, settings), states.append) == found["Small-Q4.gguf"]
    assert len(hub.requests) == asked


@pytest.mark.timeout(120)
def test_the_command_fetches_both_and_verifies_both(hub: Hub, environment, models, capsys) -> None:
    environment.setenv("GGUF", f"{REPOSITORY}/Small-Q8.gguf")
    environment.setenv("MODEL", REPOSITORY)
    assert main(["download", "--dir", str(models)]) == 0
    environment.setenv("MODEL", "sample")  # which the option is stronger than
    folder, packed = capsys.readouterr().out.split()
    assert folder == str(models / REPOSITORY)
    damaged = PACKED["Small-Q8.gguf"][:-1] + b"x"
    (models / REPOSITORY / "Small-Q8" / "Small-Q8.gguf").write_bytes(damaged)
    assert main(["download", "--model", REPOSITORY, "--dir", str(models), "--verify"]) == 0
    assert "Small-Q8.gguf was damaged and has been fetched again." in capsys.readouterr().out
    assert packed.endswith("Small-Q8/Small-Q8.gguf")
    assert (models / REPOSITORY / "Small-Q8" / "Small-Q8.gguf").read_bytes() == PACKED["Small-Q8.gguf"]


def test_a_file_of_ones_own_is_used_as_it_is(tmp_path) -> None:
    (tmp_path / "x[1].gguf").write_bytes(b"GGUF")
    for source in (tmp_path, tmp_path / "x[1].gguf"):
        entry = with_weights_from(entry_for("sample"), gguf_entry(str(source)))
        assert follow(obtain_files(entry, Settings()), lambda _: None).gguf == tmp_path / "x[1].gguf"
    (tmp_path / "y.gguf").write_bytes(b"GGUF")
    with pytest.raises(InvalidSetting, match=r"holds 2 \.gguf files: name the one that is meant"):
        gguf_entry(str(tmp_path))


@pytest.mark.parametrize("source", ["nobody", "some/repository", "a/b/c.bin", "../x.gguf", "a/b@/c.gguf"])
def test_what_names_no_gguf_file_is_refused(source: str) -> None:
    with pytest.raises(InvalidSetting, match=r"GGUF=.* cannot be used: give a file, a folder or OWNER/NAME"):
        gguf_entry(source)


def test_the_smaller_variants_need_less_and_say_where_it_comes_from() -> None:
    entries = [entry for entry in CATALOGUE if entry.name == "wan2.2-s2v-14b"]
    assert [entry.variant for entry in entries] == ["bf16", "q8_0", "q5_k_m", "q4_k_m"]
    sizes = [entry.total_bytes for entry in entries]
    assert sizes == sorted(sizes, reverse=True)
    assert 25e9 < entry_for("wan2.2-s2v-14b", "q4_k_m").total_bytes < 28e9
    assert not entry_for("wan2.2-s2v-14b", "q4_k_m").component_of(SHARDS[0])
