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


TOY = ["--dim=64", "--heads=2", "--layers=2", "--ffn=96", "--latents=2x8x8", "--repeats=1", "--device=cpu"]


def test_a_step_is_measured_in_two_configurations_in_one_run(capsys) -> None:
    assert main(["bench", "steps", *TOY, "--compare", "exact", "naive", "--json"]) == 0
    exact, naive = json.loads(capsys.readouterr().out)["rows"]
    assert (exact["configuration"], naive["configuration"]) == ("exact", "naive")
    assert exact["tokens"] == 2 * 16 + 16 + 16 + 4 + 4  # noisy, portrait, and the motion at three distances
    for row in (exact, naive):
        assert sum(row["shares"].values()) == pytest.approx(1)
        assert row["over_alone"] == pytest.approx(
            min(each["wall_s"] for each in row["passes"]) / row["alone"]["wall_s"]
        )
        assert row["flops_per_s"] == pytest.approx(row["flops"] / row["pass_s"])
        assert row["usual_s_per_video_s"] == pytest.approx(80 * row["pass_s"] / 0.5)
    assert naive["flops"] > exact["flops"]  # what is told of a clip is encoded at every step


@pytest.mark.parametrize("plan", ["int8", "fp8", "stream"])
def test_a_step_is_measured_with_the_weights_of_each_plan(plan: str, capsys) -> None:
    assert main(["bench", "steps", *TOY, "--compare", "exact", plan, "--json"]) == 0
    exact, other = json.loads(capsys.readouterr().out)["rows"]
    assert other["configuration"] == plan
    assert exact["flops"] == other["flops"]


def test_all_matrix_products_and_attentions_of_a_step_are_counted(capsys) -> None:
    assert main(["bench", "steps", *TOY, "--opening", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    noisy, tokens, text, width, inner = 32, 48, 512, 64, 96
    own = 4 * tokens * width * width + 2 * tokens * tokens * width
    words = 2 * tokens * width * width + 2 * (2 * text * width * width) + 2 * tokens * text * width
    sound = 2 * noisy * width * width + 2 * 10 * width * width + 2 * noisy * 5 * width + 2 * 2 * width * width
    blocks = 2 * (2 * (own + words + 2 * tokens * width * inner)) + 2 * sound
    around = 2 * (noisy * width * 16 * 4 * 2) + 2 * (2 * (256 * width + width * width + 6 * width * width))
    assert row["flops"] == pytest.approx(blocks + around, rel=0.01)


@pytest.mark.parametrize(
    "option",
    ["--configuration=fast", "--size=8k", "--latents=20x30x30", "--latents=20", "--repeats=0", "--dim=30", "--heads=0"],
)
def test_a_wrong_option_of_steps_is_one_sentence(option: str, capsys) -> None:
    assert main(["bench", "steps", option, "--device=cpu"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_naive_port_gives_the_programs_numbers() -> None:
    import torch

    from pipeline.benchmarks import steps

    size = steps.TransformerSize(dim=64, heads=2, layers=2, ffn_dim=96, audio_inject_layers=(0,))
    bench = steps.StepBench(size, torch.device("cpu"), torch.float32, repeats=1)
    exact, naive = (bench._prepared(name, steps.Workload((2, 8, 8))) for name in ("exact", "naive"))
    with torch.inference_mode():
        torch.testing.assert_close(naive(), exact(), rtol=1e-4, atol=1e-4)


def test_the_parts_around_the_transformer_are_measured_apart(capsys) -> None:
    checkpoint = Path(__file__).parent / "golden" / "checkpoint"
    options = [f"--model={checkpoint}", "--size=4096", "--audio-seconds=1", "--device=cpu", "--json"]
    assert main(["bench", "parts", *options]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert [each["what"].split()[0] for each in figures] == ["text,", "speech,", "encode", "decode"]
    assert all(each["seconds"] > 0 and each["peak_bytes"] > 10**8 for each in figures)


def test_the_ways_are_not_compared_with_weights_from_elsewhere(monkeypatch, capsys) -> None:
    monkeypatch.setenv("MODEL", "wan2.2-s2v-14b")
    monkeypatch.setenv("MODEL_VARIANT", "q8_0")
    golden = Path(__file__).parent / "golden"
    files = [f"--portrait={golden / 'portrait.png'}", f"--audio={golden / 'speech.wav'}"]
    assert main(["bench", "ways", *files]) == 2
    assert "bench ways needs the model's own weights" in capsys.readouterr().err


def test_the_faster_ways_are_compared_with_the_exact_one(capsys) -> None:
    golden = Path(__file__).parent / "golden"
    files = [f"--portrait={golden / 'portrait.png'}", f"--audio={golden / 'speech.wav'}"]
    small = ["--size=4096", "--steps=3", "--clips=1", "--frames-per-clip=16", "--device=cpu", "--json"]
    assert main(["bench", "ways", f"--model={golden / 'checkpoint'}", *files, *small]) == 0
    rows = {row["way"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"exact", "first-block", "magnitude", "taylor", "int8", "fp8"} <= rows.keys()
    assert rows["exact"] | {"steps_s": 0} == {
        "way": "exact", "steps_s": 0, "speed_up": 1.0, "levels": 0.0, "farthest": 0,
    }  # fmt: skip
    assert 0 < rows["int8"]["levels"] < 5
