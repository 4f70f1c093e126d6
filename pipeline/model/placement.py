"""Where the parts of the model live and how precise they are, by what the machine has."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Placement:
    """device and dtype of the transformer; `resident`: the other parts stay on the device, else only while in use."""

    device: torch.device
    dtype: torch.dtype
    resident: bool

    @contextmanager
    def on_device(self, module: torch.nn.Module) -> Iterator[torch.nn.Module]:
        """`module` on the device for as long as the context lasts."""
        module.to(self.device)
        try:
            yield module
        finally:
            if not self.resident:
                module.to("cpu")
                torch.cuda.empty_cache()
