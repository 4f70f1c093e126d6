"""LoRA files on the transformer: in the names of the official program, of diffusers, or of ComfyUI and its trainers."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from pipeline.errors import InvalidSetting, ModelUnavailable
from pipeline.model.checkpoint import transformer_names
from pipeline.model.hub_file import find_file
from pipeline.model.transformer import SpeechToVideoTransformer
from pipeline.model.weights import open_weights

log = logging.getLogger(__name__)

ADAPTER = "lora"
PREFIXES = ("diffusion_model.", "transformer.", "base_model.model.", "model.", "lora_unet_")
SIDES = {"lora_A": "A", "lora_down": "A", "lora_B": "B", "lora_up": "B"}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Lora:
    """A LoRA and how strongly it counts: `source` is a file, a folder or OWNER/NAME[@REVISION][/FILE] on the Hub."""

    source: str
    strength: float = 1.0


def apply_lora(transformer: SpeechToVideoTransformer, lora: Lora) -> None:
    """Add `lora` to `transformer`, beside its weights, which stay as they are: `transformer.unload_lora()` ends it.

    Raises InvalidSetting where there is no such LoRA, or none for this model.
    """
    path = find_file("LORA", lora.source, ".safetensors")
    state = lora_state(transformer, path)
    transformer.load_lora_adapter(state, prefix=None, adapter_name=ADAPTER)
    transformer.set_adapters(ADAPTER, lora.strength)
    log.info("The LoRA %s changes %d of the model's products, at %g.", path.name, len(state) // 2, lora.strength)


def lora_state(transformer: SpeechToVideoTransformer, path: Path) -> dict[str, torch.Tensor]:
    """The LoRA in `path` in the names of `transformer`: MODULE.lora_A.weight (rank, in), MODULE.lora_B.weight.

    An alpha is multiplied in. Entries for modules that this model does not have are left out and told of in the log.
    Raises InvalidSetting where it cannot be read, nothing is left, or a shape is another model's.
    """
    try:
        tensors = dict(open_weights(path).tensors(CPU, lambda _: torch.float32, lambda _: None))
    except ModelUnavailable as error:
        raise InvalidSetting(f"LORA: {path.name} cannot be read, give a whole safetensors file: {error}") from error
    modules = _modules(transformer)
    sides: dict[str, dict[str, torch.Tensor]] = {}
    foreign = 0
    for key, tensor in tensors.items():
        module, part = _split(key, modules)
        if module is None or part is None:
            foreign += 1
            continue
        sides.setdefault(module, {})[part] = tensor
    whole = {module: parts for module, parts in sides.items() if {"A", "B"} <= parts.keys()}
    if not whole:
        raise InvalidSetting(f"LORA: {path.name} holds nothing for this model; it may be another model's.")
    if foreign:
        log.warning("%d of the %d entries of %s are left out: this model has no such part.", foreign, len(tensors),
                    path.name)  # fmt: skip
    return {name: tensor for module, parts in whole.items() for name, tensor in _fitted(transformer, module, parts)}


def _modules(transformer: SpeechToVideoTransformer) -> dict[str, str]:
    """Every name of a product, in each style -> its name in `transformer`."""
    config = transformer.config
    official = transformer_names(config.num_layers, config.audio_inject_layers)
    own = {name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)}
    names = {name: name for name in own} | {theirs: ours for theirs, ours in official.items() if ours in own}
    return names | {name.replace(".", "_"): ours for name, ours in names.items()}


def _split(key: str, modules: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The module that `key` belongs to, and which part of its LoRA it is: "A", "B" or "alpha"."""
    name = key
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    module, _, leaf = name.removesuffix(".weight").removesuffix(".default").rpartition(".")
    return modules.get(module), "alpha" if leaf == "alpha" else SIDES.get(leaf)


def _fitted(
    transformer: SpeechToVideoTransformer, module: str, parts: Mapping[str, torch.Tensor]
) -> list[tuple[str, torch.Tensor]]:
    """Both sides of the LoRA of `module` with its alpha multiplied in, as precise as the module computes."""
    linear = transformer.get_submodule(module)
    down, up = parts["A"], parts["B"]
    if down.shape[1:] != (linear.in_features,) or up.shape != (linear.out_features, down.shape[0]):
        raise InvalidSetting(f"LORA: its part for {module} has other sizes than this model's; it is another model's.")
    scale = float(parts["alpha"]) / down.shape[0] if "alpha" in parts else 1.0
    dtype = torch.float32 if linear.weight.dtype == torch.float32 else transformer.patch_embedding.weight.dtype
    return [(f"{module}.lora_A.weight", (down * scale).to(dtype)), (f"{module}.lora_B.weight", up.to(dtype))]
