"""The official checkpoint folder, read strictly: names, shapes and switches are checked before anything is computed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import ModelUnavailable
from pipeline.model.weights import unreadable

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

# Names of modules (or of single tensors) in official files -> those in the classes that are used here.
_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", "norm_q": "norm_q", "norm_k": "norm_k"}
_BLOCK = {
    **{f"self_attn.{official}": f"attn1.{ours}" for official, ours in _ATTENTION.items()},
    **{f"cross_attn.{official}": f"attn2.{ours}" for official, ours in _ATTENTION.items()},
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "modulation": "scale_shift_table",
}
_AUDIO_ENCODER = {
    "weights": "weights",
    "encoder.padding_tokens": "padding_tokens",
    "encoder.final_linear": "final_linear",
    **{f"encoder.{conv}.conv": f"{conv}.conv" for conv in ("conv1_local", "conv1_global", "conv2", "conv3")},
}
_AROUND_BLOCKS = {
    **{name: name for name in ("patch_embedding", "cond_encoder", "trainable_cond_mask")},
    **{f"frame_packer.{name}": f"frame_packer.{name}" for name in ("proj", "proj_2x", "proj_4x")},
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
    **{f"casual_audio_encoder.{official}": f"audio_encoder.{ours}" for official, ours in _AUDIO_ENCODER.items()},
}
_TEXT_BLOCK = {
    "norm1": "layer.0.layer_norm",
    **{f"attn.{name}": f"layer.0.SelfAttention.{name}" for name in "qkvo"},
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}


def transformer_names(num_layers: int, audio_inject_layers: Sequence[int]) -> dict[str, str]:
    """Official name of a module -> its name in SpeechToVideoTransformer.

    Injectors are numbered in official files and lie in their blocks here: injector i in block audio_inject_layers[i].
    """
    names = dict(_AROUND_BLOCKS)
    for n in range(num_layers):
        names |= {f"blocks.{n}.{official}": f"blocks.{n}.{ours}" for official, ours in _BLOCK.items()}
    for i, n in enumerate(audio_inject_layers):
        inside = f"blocks.{n}.audio_injector"
        names |= {f"audio_injector.injector.{i}.{o}": f"{inside}.attn.{ours}" for o, ours in _ATTENTION.items()}
        names[f"audio_injector.injector_adain_layers.{i}.linear"] = f"{inside}.norm.linear"
    return names


def text_encoder_names(num_layers: int) -> dict[str, str]:
    """Official name of a module -> its name in transformers' UMT5EncoderModel."""
    names = {"token_embedding": "shared", "norm": "encoder.final_layer_norm"}
    for n in range(num_layers):
        names |= {f"blocks.{n}.{official}": f"encoder.block.{n}.{ours}" for official, ours in _TEXT_BLOCK.items()}
    return names


def rename(tensor: str, names: Mapping[str, str]) -> str:
    """The name of `tensor` by `names` of modules or tensors; one that they do not know stays as it is."""
    if tensor in names:
        return names[tensor]
    module, _, leaf = tensor.rpartition(".")
    return f"{names[module]}.{leaf}" if module in names else tensor


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from `path`. Raises ModelUnavailable."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise unreadable(path, error) from error
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


def check_tensors(
    part: str, module: torch.nn.Module, shapes: Mapping[str, tuple[int, ...]], names: Mapping[str, str]
) -> None:
    """Compare the tensors that `module` has with the `shapes` (by official name) of those in its file.

    Raises ModelUnavailable, which names a tensor that is missing, unknown or misshapen.
    """
    official = {ours: name for name, ours in names.items()}
    wanted = {rename(name, official): tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    for found, fault in (
        (wanted.keys() - shapes.keys(), "lacks the"),
        (shapes.keys() - wanted.keys(), "has an unknown"),
    ):
        if found:
            raise ModelUnavailable(f"The {part} {fault} tensor {min(found)}: the file is broken or another model's.")
    for name, shape in wanted.items():
        if shapes[name] != shape:
            raise ModelUnavailable(f"The {part}'s tensor {name} has the shape {shapes[name]}; {shape} is needed.")


def shapes_of(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Name -> shape."""
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def assign(module: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    """Put `tensor` in the place of the parameter `name` of `module`, which may be on the meta device."""
    owner, _, leaf = name.rpartition(".")
    parameter = torch.nn.Parameter(tensor, requires_grad=False)
    setattr(module.get_submodule(owner), leaf, parameter)
