"""Muon: momentum whose every step is turned into the nearest orthogonal matrix; AdamW for what is not a matrix."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import nn

from assets.sample_model.training.precision import COMPUTE

Named = Iterable[tuple[str, nn.Parameter]]


class Muon(torch.optim.Optimizer):
    """For weights of two and more axes, taken as matrices (outputs, all the rest).

    The processes share the work: each turns some of the matrices and tells the others.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95):
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            ways = _turned_together([self._way(weight, group["momentum"]) for weight in weights])
            for weight, way in zip(weights, ways, strict=True):
                size = max(1, way.shape[0] / way.shape[1]) ** 0.5
                weight.sub_(way.view_as(weight), alpha=group["lr"] * size)

    def _way(self, weight: nn.Parameter, momentum: float) -> torch.Tensor:
        """Where `weight` should go, as a matrix."""
        speed = self.state[weight].setdefault("speed", torch.zeros_like(weight))
        speed.lerp_(weight.grad, 1 - momentum)
        return weight.grad.lerp(speed, momentum).flatten(1)


def _turned_together(matrices: list[torch.Tensor]) -> list[torch.Tensor]:
    """Each of `matrices` turned by one of the processes, by turns."""
    rank, processes = dist.get_rank(), dist.get_world_size()
    own = [orthogonal(m) if i % processes == rank else torch.zeros_like(m) for i, m in enumerate(matrices)]
    flat = torch.cat([matrix.flatten() for matrix in own])
    dist.all_reduce(flat)
    parts = flat.split([matrix.numel() for matrix in matrices])
    return [part.view_as(matrix) for part, matrix in zip(parts, matrices, strict=True)]


def orthogonal(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """`matrix` with its singular values brought near 1 by Newton and Schulz's iteration of the fifth order."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = (x / (x.norm() + 1e-7)).to(COMPUTE)  # the singular values need only come near 1
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.T if tall else x).float()


def make_optimisers(
    named: Named, muon_lr: float, adam_lr: float, gentle: tuple[str, ...] = ()
) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, AdamW for norms, biases and single vectors, of those that are to be trained.

    AdamW also for matrices with one of `gentle` in their name: Muon turns all of a matrix, also what is right already.
    """
    matrices, others = [], []
    for name, parameter in named:
        if parameter.requires_grad:
            shape = parameter.flatten(1).shape if parameter.ndim > 1 else (1, 1)
            is_gentle = any(part in name for part in gentle)
            (matrices if min(shape) > 1 and not is_gentle else others).append(parameter)
    return [Muon(matrices, muon_lr), torch.optim.AdamW(others, adam_lr, betas=(0.9, 0.95), weight_decay=0.0)]
