"""The official checkpoint folder, read strictly: names, shapes and switches are checked before anything is computed."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from pipeline.errors import ModelUnavailable

# What the config of a supported checkpoint says; the other paths of the official program are not built here.
SWITCHES = {
    "enable_adain": True,
    "adain_mode": "attn_norm",
    "zero_timestep": True,
    "enable_framepack": True,
    "framepack_drop_mode": "padd",
    "add_last_motion": True,
    "enable_motioner": False,
    "enable_tsm": False,
    "trainable_token_pos_emb": False,
}

# Official names of the transformer's tensors -> those of SpeechToVideoTransformer, in order of application.
_TRANSFORMER_NAMES = [
    (r"^text_embedding\.0\.", "condition_embedder.text_embedder.linear_1."),
    (r"^text_embedding\.2\.", "condition_embedder.text_embedder.linear_2."),
    (r"^time_embedding\.0\.", "condition_embedder.time_embedder.linear_1."),
    (r"^time_embedding\.2\.", "condition_embedder.time_embedder.linear_2."),
    (r"^time_projection\.1\.", "condition_embedder.time_proj."),
    (r"^head\.head\.", "proj_out."),
    (r"^head\.modulation$", "scale_shift_table"),
    (r"^casual_audio_encoder\.(encoder\.)?", "audio_encoder."),
    (r"^(blocks\.\d+)\.self_attn\.", r"\1.attn1."),
    (r"^(blocks\.\d+)\.cross_attn\.", r"\1.attn2."),
    (r"^(blocks\.\d+)\.norm3\.", r"\1.norm2."),
    (r"^(blocks\.\d+)\.modulation$", r"\1.scale_shift_table"),
    (r"^(blocks\.\d+)\.ffn\.0\.", r"\1.ffn.net.0.proj."),
    (r"^(blocks\.\d+)\.ffn\.2\.", r"\1.ffn.net.2."),
]
_ATTENTION_NAMES = [(r"\.([qkv])\.(weight|bias)$", r".to_\1.\2"), (r"\.o\.(weight|bias)$", r".to_out.0.\1")]

_TEXT_ENCODER_NAMES = [
    (r"^token_embedding\.", "shared."),
    (r"^norm\.", "encoder.final_layer_norm."),
    (r"^blocks\.(\d+)\.norm1\.", r"encoder.block.\1.layer.0.layer_norm."),
    (r"^blocks\.(\d+)\.attn\.", r"encoder.block.\1.layer.0.SelfAttention."),
    (r"^blocks\.(\d+)\.pos_embedding\.embedding\.", r"encoder.block.\1.layer.0.SelfAttention.relative_attention_bias."),
    (r"^blocks\.(\d+)\.norm2\.", r"encoder.block.\1.layer.1.layer_norm."),
    (r"^blocks\.(\d+)\.ffn\.gate\.0\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_0."),
    (r"^blocks\.(\d+)\.ffn\.fc1\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_1."),
    (r"^blocks\.(\d+)\.ffn\.fc2\.", r"encoder.block.\1.layer.1.DenseReluDense.wo."),
]


def _rename(name: str, rules: Iterable[tuple[str, str]]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def transformer_name(official: str, audio_inject_layers: tuple[int, ...]) -> str:
    """The name in SpeechToVideoTransformer of the tensor that official checkpoints (and LoRAs) call `official`.

    Injectors are numbered in official files and lie in their blocks here: injector i in block audio_inject_layers[i].
    """
    match = re.match(r"^audio_injector\.(injector|injector_adain_layers)\.(\d+)\.(.*)$", official)
    if match and int(match[2]) < len(audio_inject_layers):
        part = {"injector": "attn", "injector_adain_layers": "norm"}[match[1]]
        official = f"blocks.{audio_inject_layers[int(match[2])]}.audio_injector.{part}.{match[3]}"
    return _rename(_rename(official, _TRANSFORMER_NAMES), _ATTENTION_NAMES)


def text_encoder_name(official: str) -> str:
    """The name in transformers' UMT5EncoderModel of the tensor that the official file calls `official`."""
    return _rename(official, _TEXT_ENCODER_NAMES)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from `path`. Raises ModelUnavailable."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ModelUnavailable(f"The model file {path} cannot be read: {_reason(error)}.") from error
    if not isinstance(value, dict):
        raise ModelUnavailable(f"The model file {path} does not hold a JSON object.")
    return value


def transformer_shards(folder: Path) -> list[Path]:
    """The transformer's safetensors files, in order. Raises ModelUnavailable where one is missing."""
    index = read_json(folder / "diffusion_pytorch_model.safetensors.index.json")
    names = sorted(set(index.get("weight_map", {}).values()))
    if not names:
        raise ModelUnavailable(f"The index of the model in {folder} lists no files.")
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise ModelUnavailable(f"The model in {folder} lacks its file {name}: download it again.")
    return [folder / name for name in names]


def safetensors_shapes(paths: Iterable[Path]) -> dict[str, tuple[int, ...]]:
    """Official name -> shape of every tensor, from the headers alone."""
    shapes = {}
    for path in paths:
        with open_safetensors(path, "cpu") as file:
            shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return shapes


def open_safetensors(path: Path, device: str) -> Any:
    """`safe_open`, with an error that names the file."""
    try:
        return safe_open(path, framework="pt", device=device)
    except (OSError, SafetensorError) as error:
        raise ModelUnavailable(f"The model file {path} cannot be read: {_reason(error)}.") from error


def read_pickle(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a .pth file, mapped from disk, with nothing but tensors allowed in it."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise ModelUnavailable(f"The model file {path} cannot be read: {_reason(error)}.") from error
    except Exception as error:  # pickle.UnpicklingError and what hostile pickles raise
        raise ModelUnavailable(f"The model file {path} is not a file of weights: {_reason(error)}.") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ModelUnavailable(f"The model file {path} is not a table of tensors.")
    return state


def official_transformer_config(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Arguments of SpeechToVideoTransformer from config.json and, where that is silent, from tensor shapes."""
    path = folder / "config.json"
    config = read_json(path)
    for switch, value in SWITCHES.items():
        if config.get(switch, value) != value:
            raise ModelUnavailable(f"{path} says {switch}={config[switch]!r}; only {value!r} is supported.")
    try:
        heads = config["num_heads"]
        return {
            "num_attention_heads": heads,
            "attention_head_dim": config["dim"] // heads,
            "num_layers": config["num_layers"],
            "ffn_dim": config["ffn_dim"],
            "in_channels": config["in_dim"],
            "out_channels": config["out_dim"],
            "pose_channels": config["cond_dim"],
            "patch_size": shapes["patch_embedding.weight"][2:],
            "text_dim": shapes["text_embedding.0.weight"][1],
            "text_len": config["text_len"],
            "freq_dim": config["freq_dim"],
            "eps": config["eps"],
            "audio_dim": config["audio_dim"],
            "audio_layers": shapes["casual_audio_encoder.weights"][1],
            "audio_tokens": config["num_audio_token"],
            "audio_inject_layers": tuple(config["audio_inject_layers"]),
        }
    except (KeyError, TypeError, IndexError, ZeroDivisionError) as error:
        raise ModelUnavailable(
            f"The model in {folder} does not say its {error}: it is not an S2V checkpoint."
        ) from error


def check_tensors(part: str, module: torch.nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Compare the tensors of `module` with those of its file; raises ModelUnavailable, naming one that differs."""
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    for names, fault in ((wanted.keys() - shapes.keys(), "lacks"), (shapes.keys() - wanted.keys(), "has an unknown")):
        if names:
            raise ModelUnavailable(
                f"The {part} {fault} tensor {min(names)} ({len(names)} in all): wrong or broken file."
            )
    for name, shape in wanted.items():
        if shapes[name] != shape:
            raise ModelUnavailable(f"The {part}'s tensor {name} has shape {shapes[name]}, where {shape} is needed.")


def shapes_of(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Name -> shape."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def assign(module: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Put `tensor` in the place of the parameter `name` of `module`, which may be on the meta device."""
    owner, _, leaf = name.rpartition(".")
    parameter = torch.nn.Parameter(tensor, requires_grad=False)
    setattr(module.get_submodule(owner), leaf, parameter)


def safetensors_items(path: Path, device: str) -> Iterator[tuple[str, torch.Tensor]]:
    """(official name, tensor on `device`) for every tensor of the file, in the order they lie in it."""
    with open_safetensors(path, device) as file:
        for name in file.keys():  # noqa: SIM118
            yield name, file.get_tensor(name)


def _reason(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
