"""Where the parts of the model live and how precise they are, by what the machine has."""

import ctypes
import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from diffusers.hooks import apply_group_offloading

from pipeline.errors import InvalidRequest
from pipeline.model.transformer import SpeechToVideoTransformer

log = logging.getLogger(__name__)

# Card memory from which everything stays there: the bf16 model's parts are 46 GB, and decoding and attention need more.
RESIDENT_BYTES = 70_000_000_000
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # names and numbers from glibc's malloc.h
Plan = Literal["resident", "offload", "stream"]


@dataclass(frozen=True)
class Placement:
    """The device that computes, the dtype of transformer and text encoder, and a plan for the device's memory.

    resident: all parts stay on the device. offload: the transformer stays, the other parts come for as long as they
    work. stream: the transformer's blocks, too, come one after the other from the machine's memory.
    """

    device: torch.device
    dtype: torch.dtype
    plan: Plan

    @contextmanager
    def on_device(self, module: torch.nn.Module) -> Iterator[torch.nn.Module]:
        """`module` on the device for as long as the context lasts."""
        module.to(self.device)
        try:
            yield module
        finally:
            if self.plan != "resident":
                module.to("cpu")
                torch.cuda.empty_cache()

    @property
    def loading_device(self) -> torch.device:
        """Where the transformer's tensors are read to."""
        return torch.device("cpu") if self.plan == "stream" else self.device

    def place(self, transformer: SpeechToVideoTransformer) -> None:
        """Put the loaded `transformer` where the plan wants it."""
        if self.plan != "stream":
            return
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
        if self.device.type == "cpu":
            return "on the CPU, in float32" if self.dtype == torch.float32 else "on the CPU, in bfloat16"
        return f"on {torch.cuda.get_device_name(self.device)}, {self.plan}, in {str(self.dtype).removeprefix('torch.')}"


def choose_placement(memory: str, device: str | None, dtype: str | None) -> Placement:
    """The placement for MEMORY=`memory`; `device` and `dtype` None are what the machine has and what suits it."""
    usable = torch.cuda.is_available()
    if device == "cuda" and not usable:
        raise InvalidRequest("device: 'cuda' is not accepted: this machine has no usable CUDA card; give cpu.")
    chosen = torch.device(device or ("cuda" if usable else "cpu"))
    precision = getattr(torch, dtype or ("bfloat16" if chosen.type == "cuda" else "float32"))
    if chosen.type == "cpu":
        keep_freed_memory()
        plan: Plan = "resident"
    elif memory == "auto":
        total = torch.cuda.get_device_properties(chosen).total_memory
        plan = "resident" if total >= RESIDENT_BYTES else "offload"
    else:
        plan = memory
    placement = Placement(chosen, precision, plan)
    log.info("The model works %s.", placement.describe())
    return placement


def keep_freed_memory() -> None:
    """Let glibc use the memory of freed tensors again, where there is a glibc.

    By default it gives large blocks back to the system and takes them again page by page, which costs a step on the CPU
    some 5 % of its time (transformer of width 1024, 5,760 tokens: 8.8 s, and 8.4 s with this).
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 2**30)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
