"""What `bench` measures."""

import json
from pathlib import Path

import pytest

from pipeline.__main__ import main


def test_a_start_is_measured_on_a_checkpoint_that_is_removed_afterwards(tmp_path: Path, capfd) -> None:
    assert main(["bench", "load", "--size-gb=0.05", "--device=cpu", "--json", f"--dir={tmp_path}"]) == 0
    figures = json.loads(capfd.readouterr().out)
    assert 0.03e9 < figures["files_bytes"] <= 0.06e9
    assert 2 * figures["files_bytes"] * 0.9 < figures["weights_bytes"] < 2.2 * figures["files_bytes"]  # in float32
    assert figures["weights_bytes"] < figures["peak_bytes"] < figures["allowed_bytes"] + 10**9
    assert 0 < figures["libraries_s"] < figures["ready_s"]
    assert figures["ratio"] == pytest.approx(figures["ready_s"] / (sum(figures["plain_read_s"]) / 2))
    assert not list(tmp_path.glob("bench-*"))


@pytest.mark.parametrize("option", ["--size-gb=0.001", "--size-gb=nan", "--dir=/nowhere"])
def test_a_wrong_option_is_one_sentence(option: str, capsys) -> None:
    assert main(["bench", "load", option]) == 2
    said = capsys.readouterr().err
    assert "is not accepted; give" in said
    assert said.count("\n") == 1


def test_a_checkpoint_that_does_not_fit_is_refused_before_it_is_written(tmp_path: Path, capsys) -> None:
    assert main(["bench", "load", "--size-gb=1000000", f"--dir={tmp_path}"]) == 1
    assert "free" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
