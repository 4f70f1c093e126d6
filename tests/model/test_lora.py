"""LoRAs in three styles of names give the same, at strength 0 nothing, and leave no trace once they are unloaded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from pipeline.__main__ import main
from pipeline.errors import InvalidSetting
from pipeline.model.checkpoint import transformer_names
from pipeline.model.hub_file import find_file
from pipeline.model.lora import Lora, apply_lora
from pipeline.model.transformer import SpeechToVideoTransformer

from .conftest import flow
from .golden import CASES, CHECKPOINT, expected_video

OFFICIAL = ("blocks.0.self_attn.q", "blocks.1.cross_attn.o", "blocks.1.ffn.0", "audio_injector.injector.1.k",
            "time_projection.1", "head.head")  # fmt: skip
RANK, ALPHA = 4, 2.0


def lora_tensors(transformer: SpeechToVideoTransformer) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Official module name -> down and up."""
    names = transformer_names(transformer.config.num_layers, transformer.config.audio_inject_layers)
    generator = torch.Generator().manual_seed(0)
    return {
        name: (
            torch.randn(RANK, transformer.get_submodule(names[name]).in_features, generator=generator),
            torch.randn(transformer.get_submodule(names[name]).out_features, RANK, generator=generator) * 0.05,
        )
        for name in OFFICIAL
    }


def write(path: Path, style: str, transformer: SpeechToVideoTransformer) -> Path:
    names = transformer_names(transformer.config.num_layers, transformer.config.audio_inject_layers)
    state = {}
    for name, (down, up) in lora_tensors(transformer).items():
        if style == "official":
            state |= {f"{name}.lora_A.weight": down * ALPHA / RANK, f"{name}.lora_B.weight": up}
        elif style == "diffusers":
            module = f"transformer.{names[name]}"
            state |= {f"{module}.lora_A.weight": down * ALPHA / RANK, f"{module}.lora_B.weight": up}
        else:
            module = f"diffusion_model.{name}" if style == "comfyui" else f"lora_unet_{name.replace('.', '_')}"
            state |= {f"{module}.lora_down.weight": down, f"{module}.lora_up.weight": up}
            state[f"{module}.alpha"] = torch.tensor(ALPHA)
    save_file(state | {"diffusion_model.blocks.0.norm3.diff": torch.zeros(8)}, path)
    return path


@torch.inference_mode()
def merged(transformer: SpeechToVideoTransformer, strength: float) -> None:
    """What a LoRA means: W + strength * alpha / rank * up @ down."""
    names = transformer_names(transformer.config.num_layers, transformer.config.audio_inject_layers)
    for name, (down, up) in lora_tensors(transformer).items():
        transformer.get_submodule(names[name]).weight += strength * ALPHA / RANK * up @ down


@pytest.mark.parametrize("style", ["official", "diffusers", "comfyui", "kohya"])
def test_every_style_gives_what_the_lora_means(style: str, transformer, tmp_path: Path) -> None:
    apply_lora(transformer, Lora(str(write(tmp_path / "x.safetensors", style, transformer)), 0.7))
    changed = flow(transformer)
    transformer.unload_lora()
    usual = flow(transformer)
    merged(transformer, 0.7)
    assert (changed - usual).abs().max() > 0.01
    torch.testing.assert_close(changed, flow(transformer), rtol=0, atol=2e-5)


def test_at_strength_0_it_is_nothing_and_unloaded_it_leaves_no_trace(transformer, tmp_path: Path) -> None:
    before, weights = flow(transformer), {name: tensor.clone() for name, tensor in transformer.state_dict().items()}
    path = write(tmp_path / "x.safetensors", "comfyui", transformer)
    apply_lora(transformer, Lora(str(path), 0.0))
    assert torch.equal(flow(transformer), before)
    transformer.unload_lora()
    apply_lora(transformer, Lora(str(path), 1.0))
    assert not torch.equal(flow(transformer), before)
    transformer.unload_lora()
    assert torch.equal(flow(transformer), before)
    after = transformer.state_dict()
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in weights.items())


def test_a_folder_stands_for_its_one_file(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("x")
    (tmp_path / "a.safetensors").write_bytes(b"")
    assert find_file("LORA", str(tmp_path), ".safetensors").name == "a.safetensors"
    (tmp_path / "b.safetensors").write_bytes(b"")
    with pytest.raises(InvalidSetting, match=r"holds 2 \.safetensors files"):
        find_file("LORA", str(tmp_path), ".safetensors")
    with pytest.raises(InvalidSetting, match="give a file, a folder or"):
        find_file("LORA", "no such file.bin", ".safetensors")


def test_another_models_lora_is_refused(transformer, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    save_file({"unet.down.0.lora_A.weight": torch.zeros(4, 8)}, other)
    with pytest.raises(InvalidSetting, match="holds nothing for this model"):
        apply_lora(transformer, Lora(str(other)))
    save_file({"blocks.0.self_attn.q.lora_A.weight": torch.zeros(4, 8),
               "blocks.0.self_attn.q.lora_B.weight": torch.zeros(8, 4)}, other)  # fmt: skip
    with pytest.raises(InvalidSetting, match="other sizes"):
        apply_lora(transformer, Lora(str(other)))
    other.write_bytes(b"x" * 100)
    with pytest.raises(InvalidSetting, match=r"LORA: other\.safetensors cannot be read, give a whole safetensors file"):
        apply_lora(transformer, Lora(str(other)))


def test_the_command_line_uses_a_lora_and_refuses_one_that_is_not_there(tmp_path: Path, transformer, capsys) -> None:
    options = [f"--{name.replace('_', '-')}={value}" for name, value in CASES["no_guidance"].items()]
    command = ["generate", f"--model={CHECKPOINT}", "--device=cpu", f"--output={tmp_path / 'v.mp4'}", *options]
    frames = []
    for strength in ("0", "1"):
        path = write(tmp_path / "x.safetensors", "comfyui", transformer)
        made = tmp_path / f"{strength}.npy"
        assert main([*command, f"--frames={made}", f"--lora={path}", f"--lora-strength={strength}"]) == 0
        frames.append(np.load(made).astype(int))
    numbers, pixels = expected_video("no_guidance")
    assert np.abs(frames[0][numbers] - (pixels.transpose(1, 2, 3, 0) + 1) * 127.5).max() <= 1
    assert np.abs(frames[1] - frames[0]).max() > 3
    capsys.readouterr()
    for wrong in ("--lora=nowhere.bin", "--lora-strength=much"):
        assert main([*command, wrong]) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith("LORA"), said
