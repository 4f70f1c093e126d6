"""From the settings to a loaded model: what is told on the way, and what is said where it fails."""

import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import ModelUnavailable
from pipeline.events import ModelState
from pipeline.machine import asks_first
from pipeline.preparation import prepare_model
from pipeline.settings import Settings
from pipeline.store.catalogue import ModelEntry, entry_for

CHECKPOINT = Path(__file__).parent / "golden" / "checkpoint"
SHARD = "diffusion_pytorch_model-00002-of-00002.safetensors"
REPOSITORY = "somebody/golden-s2v"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return shutil.copytree(CHECKPOINT, tmp_path / "models" / REPOSITORY)


def prepare(entry: ModelEntry, folder: Path) -> list[ModelState]:
    """Make it ready on the CPU; gives all states."""
    states: list[ModelState] = []
    prepare_model(entry, Settings(model_cache_dir=folder.parents[1]), states.append, "cpu")
    return states


def test_the_loading_tells_how_far_it_is_file_by_file_to_the_last_byte(copy: Path, caplog) -> None:
    caplog.set_level("INFO")
    states = prepare(entry_for(REPOSITORY), copy)
    assert states[0].state == "checking"
    threads = "1 thread" if torch.get_num_threads() == 1 else f"{torch.get_num_threads()} threads"
    assert (states[-1].state, states[-1].message) == ("ready", f"on the CPU with {threads}, in float32")
    read = [state for state in states if state.bytes_total]
    assert {state.state for state in read} == {"loading"}
    parts = ["text encoder", "speech encoder", "video autoencoder", "transformer 1 of 2", "transformer 2 of 2"]
    assert list(dict.fromkeys(state.message for state in read)) == [f"Loading {part}" for part in parts]
    assert read[-1].file == SHARD
    weights = [path for path in copy.rglob("*") if path.suffix in (".pth", ".safetensors")]
    assert {state.bytes_total for state in read} == {sum(path.stat().st_size for path in weights)}
    done = [state.bytes_done for state in read]
    assert done == sorted(done)
    assert done[-1] == read[-1].bytes_total
    assert re.search(r"loading \d\.\d of 8\.\d MB, .*: Loading text encoder", caplog.text)


@pytest.mark.parametrize(
    ("model", "remedy"),
    [
        (REPOSITORY, f"`python -m pipeline download --verify --model {REPOSITORY}` finds it and fetches it again."),
        (None, "put a whole copy of the model into {folder}."),
    ],
    ids=["from the Hub", "a folder"],
)
def test_a_failed_loading_says_which_file_and_what_to_do(model: str | None, remedy: str, copy: Path) -> None:
    tensors = load_file(copy / SHARD)
    save_file(tensors | {"stranger": next(iter(tensors.values())).clone()}, copy / SHARD)
    with pytest.raises(ModelUnavailable) as error:
        prepare(entry_for(model or str(copy)), copy)
    assert "transformer has an unknown tensor stranger" in str(error.value)
    assert str(error.value).endswith("; if a file is damaged, " + remedy.format(folder=copy))
    assert str(error.value).count("\n") == 0


@pytest.mark.parametrize("host", ["RUNPOD_POD_ID", "RUNPOD_ENDPOINT_ID", "SPACE_ID", "container"])
def test_only_somebodys_own_computer_asks_and_only_where_no_model_is_named(host: str, monkeypatch) -> None:
    monkeypatch.delenv("RUNPOD_ENDPOINT_ID", raising=False)
    assert asks_first(Settings())
    assert not asks_first(Settings(model="wan2.2-s2v-14b"))
    monkeypatch.setenv(host, "x")
    assert not asks_first(Settings())
