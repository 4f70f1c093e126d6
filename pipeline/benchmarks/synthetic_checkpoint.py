"""A checkpoint of a given size in the official layout, to measure with: its numbers are noise that repeats itself.

The transformer and the text encoder take all of the size, four blocks and two layers as wide as it allows; the other
parts are the sample model's.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from transformers import UMT5Config, UMT5EncoderModel

from pipeline.model.checkpoint import SWITCHES, rename, text_encoder_names, transformer_names
from pipeline.model.loading import SPEECH_ENCODER_FOLDER, TEXT_ENCODER_FILE, TOKENIZER_FOLDER, VAE_FILE
from pipeline.model.transformer import SpeechToVideoTransformer
from pipeline.store.catalogue import SAMPLE

SHARDS = 4
HEAD_WIDTH = 128
AUDIO_WIDTH = 32  # of the sample model's speech encoder
PATTERN = 2**22  # numbers that are drawn


def write_checkpoint(folder: Path, size_bytes: int) -> None:
    """Write the largest checkpoint of at most `size_bytes` into `folder`; one file at a time is in memory."""
    heads = 1
    while _size(heads + 1) <= size_bytes:
        heads += 1
    for name in (SPEECH_ENCODER_FOLDER, TOKENIZER_FOLDER):
        shutil.copytree(SAMPLE.folder / name, folder / name)
    shutil.copyfile(SAMPLE.folder / VAE_FILE, folder / VAE_FILE)
    noise = torch.randn(PATTERN).bfloat16()
    transformer, text_encoder = _parts(heads)
    _write_transformer(folder, transformer, noise)
    _write_text_encoder(folder, text_encoder, noise)


def _size(heads: int) -> int:
    return sum(2 * parameter.numel() for part in _parts(heads) for parameter in part.parameters())


def _parts(heads: int) -> tuple[SpeechToVideoTransformer, UMT5EncoderModel]:
    """Both parts at this width, on the meta device."""
    width = heads * HEAD_WIDTH
    with torch.device("meta"):
        transformer = SpeechToVideoTransformer(
            num_attention_heads=heads,
            attention_head_dim=HEAD_WIDTH,
            num_layers=4,
            ffn_dim=round(2.7 * heads) * HEAD_WIDTH,  # as many times the width as in the 14B model
            text_dim=width,
            audio_dim=AUDIO_WIDTH,
            audio_inject_layers=(0, 2),
        )
        config = UMT5Config(
            vocab_size=4096, d_model=width, d_kv=64, d_ff=5 * width // 2, num_layers=2, num_heads=2 * heads
        )
        return transformer, UMT5EncoderModel(config)


def _write_transformer(folder: Path, transformer: SpeechToVideoTransformer, noise: torch.Tensor) -> None:
    config = transformer.config
    names = transformer_names(config.num_layers, config.audio_inject_layers)
    shapes = _official_shapes(transformer, names)
    weight_map = {}
    for number, shard in enumerate(_shards(shapes), 1):
        file = f"diffusion_pytorch_model-{number:05}-of-{SHARDS:05}.safetensors"
        save_file({name: _filled(shapes[name], noise) for name in shard}, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    own = {
        "dim": config.num_attention_heads * config.attention_head_dim,
        "num_heads": config.num_attention_heads,
        "in_dim": config.in_channels,
        "out_dim": config.out_channels,
        "cond_dim": config.pose_channels,
        "num_audio_token": config.audio_tokens,
    }
    same = ("num_layers", "ffn_dim", "text_len", "freq_dim", "eps", "audio_dim", "audio_inject_layers")
    (folder / "config.json").write_text(json.dumps(own | {name: config[name] for name in same} | SWITCHES))


def _write_text_encoder(folder: Path, encoder: UMT5EncoderModel, noise: torch.Tensor) -> None:
    del encoder.encoder.embed_tokens  # the same as `shared`, which alone is in the file
    shapes = _official_shapes(encoder, text_encoder_names(encoder.config.num_layers))
    torch.save({name: _filled(shape, noise) for name, shape in shapes.items()}, folder / TEXT_ENCODER_FILE)


def _official_shapes(module: nn.Module, names: Mapping[str, str]) -> dict[str, torch.Size]:
    """Official name -> shape of every tensor of `module`; `names` are as in checkpoint.py."""
    official = {ours: name for name, ours in names.items()}
    return {rename(name, official): tensor.shape for name, tensor in module.state_dict().items()}


def _shards(shapes: Mapping[str, torch.Size]) -> Iterator[list[str]]:
    """The names in SHARDS groups of about the same size."""
    share = sum(shape.numel() for shape in shapes.values()) / SHARDS
    groups: list[list[str]] = [[] for _ in range(SHARDS)]
    done = 0
    for name, shape in shapes.items():
        groups[min(int(done / share), SHARDS - 1)].append(name)
        done += shape.numel()
    return iter(groups)


def _filled(shape: torch.Size, noise: torch.Tensor) -> torch.Tensor:
    """bf16 of this shape, `noise` again and again."""
    tensor = torch.empty(shape, dtype=torch.bfloat16)
    for part in tensor.view(-1).split(len(noise)):
        part.copy_(noise[: len(part)])
    return tensor
