"""A training run: so many steps on two processes that share their gradients, saved on the way, taken up again."""

import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from assets.sample_model.training.optimiser import make_optimisers

PROCESSES = 2
LOG_EVERY, SAVE_EVERY = 10, 40  # steps

# What one step costs: of the step, with the random numbers of this step and process; also what is worth a line.
Loss = Callable[[int, np.random.Generator], tuple[torch.Tensor, dict[str, float]]]


@dataclass(frozen=True)
class Run:
    """Name and length of a run, and its rates."""

    name: str
    folder: Path  # for state and log
    steps: int
    muon_lr: float
    adam_lr: float
    seed: int
    warm_up: int = 20  # steps of rising rate
    final: float = 0.02  # share of the rate that is left at the end
    gentle: tuple[str, ...] = ()  # parts of names of what begins near its goal

    @property
    def state(self) -> Path:
        return self.folder / f"{self.name}.pt"

    @property
    def is_done(self) -> bool:
        return self.state.exists() and torch.load(self.state, mmap=True)["step"] >= self.steps

    def rate(self, step: int) -> float:
        """The share of the rate at `step`: up in a line, level for a half, down along a cosine."""
        down = max(0.0, 2 * step / self.steps - 1)
        level = self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * down))
        return min(1.0, (step + 1) / self.warm_up) * level


def together(work: Callable[[Path], None], folder: Path) -> None:
    """Do `work` in PROCESSES processes that know of each other, each on one core."""
    with tempfile.TemporaryDirectory() as meeting:
        torch.multiprocessing.spawn(_process, (work, folder, f"file://{meeting}/place"), nprocs=PROCESSES)


def _process(rank: int, work: Callable[[Path], None], folder: Path, meeting: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", meeting, rank=rank, world_size=PROCESSES)
    work(folder)
    dist.destroy_process_group()


def share(count: int) -> range:
    """The numbers below `count` that are this process's."""
    return range(dist.get_rank(), count, PROCESSES)


def train(run: Run, model: nn.Module, loss: Loss) -> None:
    """Train what of `model` wants a gradient, from the last saved step on. All processes call it."""
    rank = dist.get_rank()
    optimisers = make_optimisers(model.named_parameters(), run.muon_lr, run.adam_lr, run.gentle)
    rates = [group["lr"] for optimiser in optimisers for group in optimiser.param_groups]
    first = _load(run, model, optimisers)
    started, notes = time.monotonic(), []
    for step in range(first, run.steps):
        for group, rate in zip((g for o in optimisers for g in o.param_groups), rates, strict=True):
            group["lr"] = rate * run.rate(step)
        value, values = loss(step, np.random.default_rng((run.seed, step, rank)))
        value.backward()
        _share_gradients(model)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        notes.append({"loss": value.item(), **values})
        if rank == 0 and (step + 1) % LOG_EVERY == 0:
            means = {key: float(np.mean([note[key] for note in notes if key in note])) for key in notes[-1]}
            write_log(run.folder, {"run": run.name, "step": step + 1, "s": time.monotonic() - started, **means})
            notes.clear()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == run.steps:
            _save(run, model, optimisers, step + 1)


def write_log(folder: Path, line: dict[str, object]) -> None:
    """One line of JSON, numbers to four digits."""
    rounded = {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in line.items()}
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps(rounded) + "\n")


def _share_gradients(model: nn.Module) -> None:
    """Every process goes on with the mean of all gradients; what got none counts as zero."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    grads = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    norm = (flat := flat / PROCESSES).norm()
    flat *= min(1.0, 1.0 / (norm.item() + 1e-6))
    for weight, part in zip(weights, flat.split([weight.numel() for weight in weights]), strict=True):
        weight.grad = part.view_as(weight)


def _load(run: Run, model: nn.Module, optimisers: list[torch.optim.Optimizer]) -> int:
    if not run.state.exists():
        return 0
    state = torch.load(run.state, weights_only=True)
    model.load_state_dict(state["model"])
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    return state["step"]


def _save(run: Run, model: nn.Module, optimisers: list[torch.optim.Optimizer], step: int) -> None:
    if dist.get_rank() == 0:
        parts = {"model": model.state_dict(), "optimisers": [o.state_dict() for o in optimisers], "step": step}
        torch.save(parts, run.state.with_suffix(".part"))
        run.state.with_suffix(".part").replace(run.state)
    dist.barrier()
