"""What this machine is, asked of a stand-in for NVIDIA's program where there is no card."""

import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from pipeline.errors import InvalidSetting
from pipeline.machine import Card, cards, check_workers, output_folder, served_entry, usable_cards
from pipeline.settings import read_settings


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts a program called nvidia-smi that prints these lines before all others."""

    def install(*lines: str, status: int = 0) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines) + f"exit {status}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)

    return install


def test_a_card_is_what_its_driver_says(driver) -> None:
    driver("NVIDIA H100 80GB HBM3, 81559, 570.124.06")
    assert cards() == [Card("NVIDIA H100 80GB HBM3", 81559 * 2**20, "570.124.06")]
    assert served_entry(read_settings()).name == "wan2.2-s2v-14b"


def test_a_card_that_is_too_small_serves_the_sample_model(driver) -> None:
    driver("NVIDIA GeForce RTX 3060, 12288, 550.54")
    assert served_entry(read_settings()).name == "sample"


@pytest.mark.parametrize("lines", [(), ("No devices were found",), ("Card, [N/A], 1",)])
def test_a_driver_without_cards_is_no_card(lines: tuple[str, ...], driver) -> None:
    driver(*lines, status=6 if lines else 0)
    assert cards() == []
    assert served_entry(read_settings()).name == "sample"


@pytest.mark.parametrize("packed", [{"gguf": "somebody/packed/x.gguf"}, {"model_variant": "q8_0"}])
@pytest.mark.parametrize("memory", ["int8", "fp8", "fp8-fast"])
def test_packed_weights_are_not_rounded_as_well(memory: str, packed: dict[str, str]) -> None:
    given = {"model": "wan2.2-s2v-14b"} | packed
    with pytest.raises(InvalidSetting, match=f"MEMORY={memory} cannot be used with weights that are packed already"):
        served_entry(read_settings(given | {"memory": memory}))
    assert served_entry(read_settings(given | {"memory": "offload"})).weights is not None


def test_a_model_that_was_asked_for_is_served_whatever_the_machine_is(monkeypatch) -> None:
    monkeypatch.setenv("MODEL", "wan2.2-s2v-14b")
    assert served_entry(read_settings()).name == "wan2.2-s2v-14b"


CARD = "NVIDIA H100 80GB HBM3, 81559, 570.124.06"


@pytest.mark.parametrize(("workers", "fits"), [(1, True), (2, True), (3, False)])
def test_each_worker_needs_a_card_of_its_own(workers: int, fits: bool, driver, monkeypatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    driver(CARD, CARD)
    with nullcontext() if fits else pytest.raises(InvalidSetting) as error:
        check_workers(read_settings({"workers": workers}))
    if error:
        assert str(error.value) == (
            "WORKERS=3 cannot be used: each worker needs a card of its own, and this machine has 2."
        )


def test_without_cards_any_number_of_workers_shares_the_cores(driver) -> None:
    driver(status=9)
    check_workers(read_settings({"workers": 100}))


@pytest.mark.parametrize(
    ("visible", "count"),
    [("0", 1), ("1,0", 2), ("GPU-1,GPU-2,GPU-3", 2), ("", 0), ("-1", 0), ("0,-1,1", 1), (" 0 , 1 ", 2)],
)
def test_cards_that_are_hidden_from_programs_do_not_count(visible: str, count: int, driver, monkeypatch) -> None:
    driver(CARD, CARD)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert len(usable_cards()) == count
    assert served_entry(read_settings()).name == ("wan2.2-s2v-14b" if count else "sample")


@pytest.mark.parametrize(
    ("visible", "workers", "served"),
    [
        *((None, 1, "sample"), ("1", 1, "wan2.2-s2v-14b"), ("1,0", 1, "wan2.2-s2v-14b"), ("1,0", 2, "sample")),
        *(("GPU-b", 1, "wan2.2-s2v-14b"), ("GPU-a", 1, "sample"), ("MIG-c", 1, "sample"), ("2", 1, "sample")),
    ],
)
def test_the_cards_that_work_decide_which_model_is_served(
    visible: str | None, workers: int, served: str, driver, monkeypatch
) -> None:
    driver("NVIDIA GeForce RTX 4090, 24564, 570.86, GPU-a1", "NVIDIA H100, 81559, 570.86, GPU-b2")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert served_entry(read_settings({"workers": workers})).name == served


def test_workers_and_torchrun_exclude_each_other(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_workers(read_settings())
    with pytest.raises(
        InvalidSetting, match="WORKERS=2 cannot be used under torchrun, which has all cards work on one"
    ):
        check_workers(read_settings({"workers": 2}))


def test_workers_and_compiled_blocks_exclude_each_other() -> None:
    with pytest.raises(InvalidSetting, match="WORKERS=2 cannot be used with COMPILE=on"):
        check_workers(read_settings({"workers": 2, "compile": "on"}))


def test_results_go_where_they_are_wanted_and_else_to_the_users_data(monkeypatch, tmp_path: Path) -> None:
    assert output_folder(read_settings()) == tmp_path / "data" / "talking-video" / "outputs"
    monkeypatch.setenv("OUTPUT_DIR", str(tmp_path / "elsewhere"))
    assert output_folder(read_settings()) == tmp_path / "elsewhere"


def test_a_home_that_is_not_there_is_a_sentence(monkeypatch) -> None:
    monkeypatch.setenv("OUTPUT_DIR", "~nobody-of-this-name/x")
    with pytest.raises(InvalidSetting, match="OUTPUT_DIR='~nobody-of-this-name/x' cannot be used: give a folder"):
        read_settings()
