"""What a clip is becoming while it is denoised: colours from latents by a linear map, without the decoder."""

import numpy as np
import torch
from diffusers import SchedulerMixin
from torch.nn.functional import avg_pool2d

STIFFNESS = 0.02  # of the fit, against the variance of the latents, about 1: one picture does not show all directions


def fit_colours(latents: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """The linear map that best gives the colours of a picture from its latents, fp32 (17, 3) on the CPU.

    `latents` (16, 1, h, w) are those of `pixels`, (3, 1, H, W) in [-1, 1]. The last row is what is added to all. One
    picture is enough, and the best one is the portrait: its clip has the same colours. Any autoencoder will do.
    """
    points = _points(latents[:, 0])
    height, width = latents.shape[-2:]
    size = (pixels.shape[-2] // height, pixels.shape[-1] // width)
    colours = avg_pool2d(pixels[:, 0].cpu().float(), size).flatten(1).T
    held = STIFFNESS * len(points) * torch.eye(points.shape[1])
    held[-1, -1] = 0
    return torch.linalg.solve(points.T @ points + held, points.T @ colours)


def draw(latents: torch.Tensor, colours: torch.Tensor) -> np.ndarray:
    """The middle frame of `latents` (1, 16, F, h, w) in `colours` from `fit_colours`: uint8 (h, w, 3)."""
    frame = latents[0, :, latents.shape[2] // 2]
    pixels = (_points(frame) @ colours).reshape(*frame.shape[1:], 3)
    return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


def clean_guess(scheduler: SchedulerMixin) -> torch.Tensor:
    """The clean latents (1, 16, F, h, w) as the last step predicts them: what `scheduler` works with itself."""
    return scheduler.model_outputs[-1]


def _points(latents: torch.Tensor) -> torch.Tensor:
    """(16, h, w) -> fp32 (h * w, 17) on the CPU, each with a 1 at its end."""
    flat = latents.float().cpu().flatten(1).T
    return torch.cat([flat, torch.ones(len(flat), 1)], dim=1)
