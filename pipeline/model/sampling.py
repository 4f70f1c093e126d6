"""Denoise one clip, as the official program does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, SchedulerMixin, UniPCMultistepScheduler

# (latents, timestep) -> flow
Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def make_scheduler(solver: str, steps: int, shift: float, device: torch.device) -> SchedulerMixin:
    """A fresh solver, "unipc" or "dpm++", with the official noise levels, for one clip."""
    if solver == "unipc":
        scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
        scheduler.set_timesteps(sigmas=np.linspace(0.999, 0, steps + 1)[:-1], device=device)
    else:
        scheduler = DPMSolverMultistepScheduler(
            algorithm_type="dpmsolver++", prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
        )
        scheduler.set_timesteps(steps, device=device)
        sigmas = np.linspace(1, 0, steps + 1)[:-1]
        sigmas = shift * sigmas / (1 + (shift - 1) * sigmas)
        scheduler.timesteps = torch.from_numpy((1000 * sigmas).astype(np.int64)).to(device)
        # The solver keeps its noise levels on the CPU: reading one must not wait for the GPU.
        scheduler.sigmas = torch.from_numpy(np.append(sigmas, 0.0)).float()
    scheduler.set_begin_index(0)
    return scheduler


@dataclass
class Denoising:
    """One clip on its way: after `done` steps of `scheduler` its latents are `latents`, fp32 (1, 16, F, h, w)."""

    scheduler: SchedulerMixin
    latents: torch.Tensor
    done: int = 0

    def steps(self, predict: Predict) -> Iterator[int]:
        """Do what is left to do; gives the number of steps that are done, after each.

        A step that fails leaves everything as it was before, and the work can go on from there.
        """
        for timestep in self.scheduler.timesteps[self.done :]:
            flow = predict(self.latents, timestep.expand(self.latents.shape[0]))
            with _whole_or_not_at_all(self.scheduler):
                self.latents = self.scheduler.step(flow, timestep, self.latents, return_dict=False)[0]
            self.done += 1
            yield self.done


@contextmanager
def _whole_or_not_at_all(scheduler: SchedulerMixin) -> Iterator[None]:
    """Put `scheduler` back where it was if its step fails; it never changes the tensors that it remembers."""
    before = {name: list(value) if isinstance(value, list) else value for name, value in vars(scheduler).items()}
    try:
        yield
    except BaseException:
        vars(scheduler).update(before)
        raise


def guided(conditional: Predict, unconditional: Predict, guidance: float) -> Predict:
    """Classifier-free guidance: away from the unconditional prediction, `guidance` times as far as the conditional."""

    def predict(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        told, untold = conditional(latents, timestep), unconditional(latents, timestep)
        return untold + guidance * (told - untold)

    return predict


def guided_at_once(both: Predict, guidance: float) -> Predict:
    """The same from one call of `both` for two samples, the conditional and the unconditional."""

    def predict(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        told, untold = both(latents.repeat(2, 1, 1, 1, 1), timestep.repeat(2)).split(1)
        return untold + guidance * (told - untold)

    return predict
