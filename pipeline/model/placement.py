"""Where the parts of the model live and how precise they are, by what the machine has."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from typing import Literal

import torch
from diffusers.hooks import apply_group_offloading

from pipeline.errors import InvalidRequest
from pipeline.machine import require_room_for
from pipeline.model.freed_memory import keep_freed_memory
from pipeline.model.quantization import KINDS, quantize_blocks
from pipeline.model.transformer import SpeechToVideoTransformer

log = logging.getLogger(__name__)

# Card memory from which each plan is chosen. The bf16 model's parts are 46 GB, and decoding 720p needs 18 GB more; the
# transformer alone is 33 GB, and its work at 480p needs 5 GB more, at 704p 10, at 720p 12 to 15 (allocations counted at
# these sizes, not yet seen on a card). In int8 it is 17 GB, which leaves a card of 24 GB room for the work at 480p.
RESIDENT_BYTES = 70_000_000_000
OFFLOAD_BYTES = 47_000_000_000
INT8_BYTES = 23_000_000_000
Plan = Literal["resident", "offload", "int8", "fp8", "fp8-fast", "stream"]
# What each plan is, with the memory that the 14B model's parts take on the card; the work comes on top.
PLANS: dict[Plan, str] = {
    "resident": "all parts stay on the card, 46 GB in bf16",
    "offload": "each part comes for as long as it works, the transformer with 33 GB in bf16",
    "int8": "each part comes for as long as it works, the transformer with 17 GB in int8",
    "fp8": "each part comes for as long as it works, the transformer with 17 GB in fp8",
    "fp8-fast": "each part comes for as long as it works, the transformer with 17 GB in fp8, which it computes in, too",
    "stream": "each part comes for as long as it works, of the transformer one block after the other",
}
# Where the memory does not suffice, the plan that needs less.
SMALLER: dict[Plan, Plan] = {"resident": "offload", "offload": "stream", "int8": "stream", "fp8": "stream",
                             "fp8-fast": "stream"}  # fmt: skip


@dataclass(frozen=True)
class Placement:
    """The device that computes, the dtype of transformer and text encoder, and a plan for the device's memory.

    The plans are described in PLANS.
    """

    device: torch.device
    dtype: torch.dtype
    plan: Plan

    @contextmanager
    def on_device(self, module: torch.nn.Module) -> Iterator[torch.nn.Module]:
        """`module` on the device for as long as the context lasts, or where its hooks want it if its blocks stream."""
        if self.plan == "resident" or (self.plan == "stream" and isinstance(module, SpeechToVideoTransformer)):
            yield module
            return
        at_home = [(owner, name, tensor) for owner in module.modules() for name, tensor in _own_tensors(owner)]
        try:
            _move(at_home, self.device)
            yield module
        finally:
            for owner, name, tensor in at_home:
                _put(owner, name, tensor)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    @property
    def loading_device(self) -> torch.device:
        """Where tensors are read to."""
        return self.device if self.plan == "resident" else torch.device("cpu")

    def smaller(self) -> "Placement | None":
        """The same with the plan that needs less memory, None where there is none."""
        return replace(self, plan=SMALLER[self.plan]) if self.plan in SMALLER else None

    def resettle(self, modules: Iterable[torch.nn.Module]) -> None:
        """Put parts that lived by another plan, and may be anywhere, where they are to live by this one."""
        for module in modules:
            with torch.inference_mode(False):
                module.to("cpu")
                self.settle(module)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def settle(self, module: torch.nn.Module) -> None:
        """Put a loaded part where it is to live."""
        if self.plan == "resident":
            module.to(self.device)
        elif isinstance(module, SpeechToVideoTransformer):
            if self.plan in KINDS:
                quantize_blocks(module, self.plan, self.device)
            if self.plan == "stream":
                self._stream(module)

    def _stream(self, transformer: SpeechToVideoTransformer) -> None:
        for block in transformer.blocks:
            apply_group_offloading(
                block,
                onload_device=self.device,
                offload_device=torch.device("cpu"),
                offload_type="leaf_level",
                use_stream=self.device.type == "cuda",
            )
        for name, child in transformer.named_children():
            if name != "blocks":
                child.to(self.device)
        transformer.scale_shift_table.data = transformer.scale_shift_table.data.to(self.device)

    def describe(self) -> str:
        """The placement in a few words, for people."""
        precision = str(self.dtype).removeprefix("torch.")
        if self.device.type == "cpu":
            threads = torch.get_num_threads()
            cpu = f"on the CPU with {threads} {'thread' if threads == 1 else 'threads'}, in {precision}"
            return cpu + (f", weights in {self.plan}" if self.plan in KINDS else "")
        return f"on {torch.cuda.get_device_name(self.device)}, in {precision}, {self.plan} ({PLANS[self.plan]})"


def _own_tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The parameters and buffers of `module` itself."""
    for name, tensor in chain(module._parameters.items(), module._buffers.items()):
        if tensor is not None:
            yield name, tensor


def _put(module: torch.nn.Module, name: str, tensor: torch.Tensor) -> None:
    (module._parameters if name in module._parameters else module._buffers)[name] = tensor


def _move(tensors: list[tuple[torch.nn.Module, str, torch.Tensor]], device: torch.device) -> None:
    """Put copies on `device` in the place of `tensors`, which stay where they are, to be put back for nothing."""
    copies: dict[int, torch.Tensor] = {}  # one for each tensor, which may be used in several places
    with torch.inference_mode(False):
        for module, name, tensor in tensors:
            copy = copies.setdefault(id(tensor), tensor if tensor.device == device else tensor.to(device))
            if isinstance(tensor, torch.nn.Parameter) and not isinstance(copy, torch.nn.Parameter):
                copy = copies[id(tensor)] = torch.nn.Parameter(copy, requires_grad=False)
            _put(module, name, copy)


def choose_placement(
    memory: str, device: str | None, dtype: str | None, worker: int = 0, workers: int = 1, packed: bool = False
) -> Placement:
    """The placement for MEMORY=`memory`; `device` and `dtype` None are what the machine has and what suits it.

    It is that of the `worker`-th (from 0) of `workers`, each with a card of its own or its share of the cores. To be
    called on the thread that works: that gets card and share. A transformer that comes `packed` is not rounded as well.
    Raises InvalidRequest where a card is asked for and there is none, and InvalidSetting where there are fewer than
    workers.
    """
    chosen = device_of(worker, workers, device, torch.cuda.device_count() if torch.cuda.is_available() else 0)
    precision = getattr(torch, dtype or ("bfloat16" if chosen.type == "cuda" else "float32"))
    if chosen.type == "cpu":
        keep_freed_memory()
        share_cores(workers)
        placement = Placement(chosen, precision, memory if memory in KINDS else "resident")
    else:
        torch.cuda.set_device(chosen)  # streams are made on the thread's current card, wherever the tensors lie
        total = torch.cuda.get_device_properties(chosen).total_memory
        placement = Placement(chosen, precision, plan_for(total, packed) if memory == "auto" else memory)
    log.info("The model works %s.", placement.describe())
    return placement


def device_of(worker: int, workers: int, device: str | None, cards: int) -> torch.device:
    """The device of the `worker`-th (from 0) of `workers` where torch can use `cards`; raises as choose_placement."""
    if device == "cuda" and not cards:
        raise InvalidRequest("device: 'cuda' is not accepted: this machine has no usable CUDA card; give cpu.")
    if not cards or device == "cpu":
        return torch.device("cpu")
    require_room_for(workers, cards)
    return torch.device("cuda", worker)


def share_cores(workers: int) -> None:
    """Let this thread compute with its part of the machine, which `workers` share."""
    if workers > 1:
        torch.set_num_threads(max(1, all_threads() // workers))


@cache
def all_threads() -> int:
    """How many threads torch computes with by itself: what OMP_NUM_THREADS says, or the cores."""
    return torch.get_num_threads()


def plan_for(card_bytes: int, packed: bool = False) -> Plan:
    """The plan for a card with `card_bytes` of memory; a transformer that comes `packed` is small without rounding."""
    if card_bytes >= RESIDENT_BYTES:
        return "resident"
    if card_bytes >= OFFLOAD_BYTES:
        return "offload"
    small: Plan = "offload" if packed else "int8"
    return small if card_bytes >= INT8_BYTES else "stream"
