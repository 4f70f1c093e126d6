"""Weights in less memory: of the transformer's blocks, rounded here (torchao) or read from a GGUF file.

The products in the blocks are nearly all of the model; what surrounds them, and the parts that compute in fp32, stay.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.errors import InvalidSetting, ModelUnavailable
from pipeline.model.checkpoint import assign, check_tensors, official_transformer_config, rename, transformer_names
from pipeline.model.transformer import FP32_PARTS, SpeechToVideoTransformer
from pipeline.model.weights import unreadable

log = logging.getLogger(__name__)


def _int8() -> Any:
    from torchao.quantization import Int8WeightOnlyConfig

    return Int8WeightOnlyConfig(version=2, set_inductor_config=False)  # weights of version 1 cannot be pinned


def _fp8() -> Any:
    from torchao.quantization import Float8WeightOnlyConfig

    return Float8WeightOnlyConfig(set_inductor_config=False)


def _fp8_products() -> Any:
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow

    return Float8DynamicActivationFloat8WeightConfig(granularity=PerRow(), set_inductor_config=False)


# int8: one byte a weight, a scale a row. fp8: likewise in floating point. fp8-fast: the products in fp8, too (cards
# from compute capability 8.9 on).
KINDS: Mapping[str, Callable[[], Any]] = {"int8": _int8, "fp8": _fp8, "fp8-fast": _fp8_products}


def quantize_blocks(transformer: SpeechToVideoTransformer, kind: str, device: torch.device) -> None:
    """Round the weights of the products in the blocks to `kind`, block after block on `device`.

    Each block ends where it was. Raises InvalidSetting where `device` cannot compute so.
    """
    from torchao.quantization import quantize_

    for block in transformer.blocks:
        home = next(block.parameters()).device
        try:
            quantize_(block.to(device), KINDS[kind](), filter_fn=_is_product)
        except AssertionError as error:
            raise InvalidSetting(f"MEMORY={kind} cannot be used on this machine: {error}") from error
        block.to(home)


def _is_product(module: nn.Module, name: str) -> bool:
    """Whether to round `module`: not where a row is all zeros, which has no scale (in fp8 torchao makes it nan)."""
    if not isinstance(module, nn.Linear) or "lora_" in name or any(part in name for part in FP32_PARTS):
        return False
    return bool(module.weight.any(dim=1).all())


def load_gguf_transformer(
    folder: Path, path: Path, device: torch.device, dtype: torch.dtype
) -> SpeechToVideoTransformer:
    """The transformer whose config is in `folder` with the weights in the GGUF file `path`, official names.

    Products stay as they are in the file and are unpacked to `dtype` while they compute; all else is unpacked now.
    Raises ModelUnavailable.
    """
    from diffusers.quantizers.gguf.utils import _replace_with_gguf_linear

    tensors = _read(path)
    shapes = {name: tuple(getattr(tensor, "quant_shape", tensor.shape)) for name, tensor in tensors.items()}
    with torch.device("meta"):
        transformer = SpeechToVideoTransformer(**official_transformer_config(folder, shapes))
    names = transformer_names(transformer.config.num_layers, transformer.config.audio_inject_layers)
    check_tensors("transformer", transformer, shapes, names)
    own = {rename(name, names): tensor for name, tensor in tensors.items()}
    packed = {name: tensor for name, tensor in own.items() if _stays_packed(transformer, name, tensor)}
    _replace_with_gguf_linear(transformer, dtype, packed)
    for name, tensor in own.items():
        if name in packed:
            module, _, leaf = name.rpartition(".")
            transformer.get_submodule(module)._parameters[leaf] = tensor.to(device)
        else:
            precise = any(part in name for part in FP32_PARTS)
            assign(transformer, name, _unpacked(tensor).to(device, torch.float32 if precise else dtype))
    return transformer.eval()


def _read(path: Path) -> dict[str, torch.Tensor]:
    from diffusers.models.model_loading_utils import load_gguf_checkpoint

    try:
        tensors = load_gguf_checkpoint(str(path))
    except (OSError, ValueError, IndexError) as error:
        raise unreadable(path, error) from error
    if not tensors:
        raise ModelUnavailable(f"The model file {path} holds no tensors.")
    return {name.removeprefix("model.diffusion_model."): tensor for name, tensor in tensors.items()}


def _stays_packed(transformer: SpeechToVideoTransformer, name: str, tensor: torch.Tensor) -> bool:
    module, _, leaf = name.rpartition(".")
    return (
        hasattr(tensor, "quant_type")
        and leaf == "weight"
        and isinstance(transformer.get_submodule(module), nn.Linear)
        and not any(part in name for part in FP32_PARTS)
    )


def _unpacked(tensor: torch.Tensor) -> torch.Tensor:
    from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

    return dequantize_gguf_tensor(tensor).as_subclass(torch.Tensor) if hasattr(tensor, "quant_type") else tensor
