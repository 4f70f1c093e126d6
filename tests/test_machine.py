"""What this machine is, asked of a stand-in for NVIDIA's program where there is no card."""

import os
from pathlib import Path

import pytest

from pipeline.errors import InvalidSetting
from pipeline.machine import Card, cards, output_folder, served_entry
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


def test_a_model_that_was_asked_for_is_served_whatever_the_machine_is(monkeypatch) -> None:
    monkeypatch.setenv("MODEL", "wan2.2-s2v-14b")
    assert served_entry(read_settings()).name == "wan2.2-s2v-14b"


def test_results_go_where_they_are_wanted_and_else_to_the_users_data(monkeypatch, tmp_path: Path) -> None:
    assert output_folder(read_settings()) == tmp_path / "data" / "talking-video" / "outputs"
    monkeypatch.setenv("OUTPUT_DIR", str(tmp_path / "elsewhere"))
    assert output_folder(read_settings()) == tmp_path / "elsewhere"


def test_a_home_that_is_not_there_is_a_sentence(monkeypatch) -> None:
    monkeypatch.setenv("OUTPUT_DIR", "~nobody-of-this-name/x")
    with pytest.raises(InvalidSetting, match="OUTPUT_DIR='~nobody-of-this-name/x' cannot be used: give a folder"):
        read_settings()
