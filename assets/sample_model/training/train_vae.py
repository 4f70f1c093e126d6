"""The video autoencoder: first on pictures, then on close-ups of mouths and eyes in motion, at last on whole faces."""

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, WanResample, WanResidualBlock

from assets.sample_model.training.faces import SQUARE, SWAY, UPRIGHT, Face, Movement, draw_video, make_face
from assets.sample_model.training.planar import decode, encode, make_planar
from assets.sample_model.training.runs import Run, train
from assets.sample_model.training.scenes import SCENES, load_scene
from pipeline.request import LATENT_STRIDE

BASE_WIDTH = 12
CLOSE_UP = 64  # pixels a side
SEED = 1
SQUARES, AFAR = 16, 6.0  # pixels a side, and what the means of such squares count once details are learned


@dataclass(frozen=True)
class Lesson:
    """What one run trains on."""

    name: str
    frames: int  # 1 + 4 n
    batch: int
    steps: int
    muon_lr: float
    noise: float  # share of the latents' spread that the decoder must bear
    close: bool = False  # close-ups
    afar: float = 0.0  # what means of squares count


LESSONS = (
    Lesson("vae-pictures", frames=1, batch=2, steps=1300, muon_lr=0.006, noise=0.08),
    Lesson("vae-moving", frames=5, batch=2, steps=850, muon_lr=0.004, noise=0.02, close=True),
    Lesson("vae-longer", frames=13, batch=1, steps=110, muon_lr=0.002, noise=0.05, afar=AFAR),
)


def train_vae(folder: Path) -> None:
    """Train or go on training; the result is the state of the last lesson."""
    torch.manual_seed(SEED)
    vae = make_planar(make_vae())
    for number, lesson in enumerate(LESSONS):
        run = Run(lesson.name, folder, lesson.steps, lesson.muon_lr, 0.003, SEED + number)
        train(run, vae, lambda _, rng, lesson=lesson: reconstruction_loss(vae, lesson, folder, rng))


def trained_vae(folder: Path) -> AutoencoderKLWan:
    """What the last lesson left, its latents brought to the mean and spread that Wan's users take for granted.

    The change goes into the flat kernels of size 1 after the encoder and before the decoder, so that nothing is lost.
    """
    vae = make_vae()
    vae.load_state_dict(torch.load(folder / f"{LESSONS[-1].name}.pt", weights_only=True)["model"])
    latents = torch.cat([_sample_latents(vae, number) for number in range(8)], dim=1).double()
    mean, std = latents.mean(dim=1), latents.std(dim=1)
    wanted_mean, wanted_std = (
        torch.tensor(values).double() for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    gain, channels = wanted_std / std, vae.config.z_dim
    out, back = vae.quant_conv, vae.post_quant_conv
    with torch.no_grad():
        out.weight[:channels] *= gain.view(-1, 1, 1, 1, 1)
        out.bias[:channels] = (out.bias[:channels] - mean) * gain + wanted_mean
        back.bias += (back.weight.flatten(1).double() @ (mean - wanted_mean / gain)).float()
        back.weight /= gain.view(1, -1, 1, 1, 1)
    return vae


@torch.no_grad()
def _sample_latents(vae: AutoencoderKLWan, number: int) -> torch.Tensor:
    """(16, n) of a short video."""
    rng = np.random.default_rng((SEED, number))
    frames = draw_video(make_face(rng), random_movement(rng, 9))
    planar = make_planar(copy.deepcopy(vae))
    return encode(planar, to_pixels(frames)[None])[0].flatten(1)


def make_vae() -> AutoencoderKLWan:
    """A new one that codes the mean colour of every 8 x 8 pixels, in space and time, and has the rest to learn.

    A few channels carry red, green and blue, their negatives and a constant from one end to the other: the constant
    keeps the norms from hiding how light it is, and silu(x) - silu(-x) = x. All other weights are random, but the
    residual branches small, and no kernel sees the past yet. A network without these rails finds edges long before
    colours.
    """
    vae = AutoencoderKLWan(base_dim=BASE_WIDTH)
    with torch.no_grad():
        for module in vae.modules():
            if isinstance(module, WanCausalConv3d) and module.kernel_size == (3, 3, 3):
                module.weight[:, :, :2] = 0
                module.weight.mul_(3**0.5)
            if isinstance(module, WanResidualBlock):
                module.conv2.weight.mul_(0.2)
                if isinstance(module.conv_shortcut, WanCausalConv3d):
                    _set_rails(module.conv_shortcut.weight[:, :, 0, 0, 0], module.conv_shortcut.bias)
            if isinstance(module, WanResample):
                _set_plain_resample(module)
        for coder in (vae.encoder, vae.decoder):
            _set_ends(coder)
        for conv in (vae.quant_conv, vae.post_quant_conv):
            conv.weight[:, :, 0, 0, 0] = torch.eye(conv.in_channels)
            conv.bias.zero_()
    return vae


COLOURS, RAILS, CONSTANT = 3, 7, 3.0  # rails: three colours, their negatives, the constant


def _set_rails(weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Let the matrix `weight` pass the rails on as they are."""
    weight[:RAILS] = torch.eye(weight.shape[0], weight.shape[1])[:RAILS]
    bias[:RAILS] = 0


def _set_plain_resample(resample: WanResample) -> None:
    """Down: the mean of 2 x 2 pixels and of two frames. Up: every pixel four times, every frame twice.

    Onto the mean of two frames comes half their difference, turned into other channels, and off it again on the way up.
    With the mean alone neither side would have a reason to learn movement: nothing said of it, and nobody listening.
    """
    conv = resample.resample[1]
    taps = conv.weight[..., :2, :2] if resample.mode.startswith("down") else conv.weight[..., 1:2, 1:2]
    conv.weight[:RAILS] = 0
    conv.bias[:RAILS] = 0
    taps[:RAILS] = torch.eye(conv.out_channels, conv.in_channels)[:RAILS, :, None, None] / taps[0, 0].numel()
    if resample.mode.endswith("3d"):
        time, one = resample.time_conv, torch.eye(conv.in_channels)
        turn = _turn(conv.in_channels) / 2
        time.weight.zero_()
        time.bias.zero_()
        if time.stride[0] == 2:
            time.weight[:, :, 1, 0, 0] = (one - turn) / 2
            time.weight[:, :, 2, 0, 0] = (one + turn) / 2
        else:
            time.weight[:, :, 2, 0, 0] = torch.cat([one - turn.T, one + turn.T])


def _turn(channels: int) -> torch.Tensor:
    """An orthogonal matrix, the same for each number of channels."""
    drawn = torch.randn(channels, channels, generator=torch.Generator().manual_seed(channels))
    return torch.linalg.qr(drawn).Q


def _set_ends(coder: torch.nn.Module) -> None:
    """The colours onto the rails at the beginning and off them at the end."""
    start, end = coder.conv_in, coder.conv_out
    one = torch.eye(COLOURS)
    start.weight[:RAILS] = 0
    start.bias[:RAILS] = 0
    start.weight[:COLOURS, :COLOURS, 2, 1, 1] = one
    start.weight[COLOURS : 2 * COLOURS, :COLOURS, 2, 1, 1] = -one
    start.bias[RAILS - 1] = CONSTANT
    end.weight.mul_(0.2)
    end.weight[:COLOURS] = 0
    end.bias.zero_()
    gain = CONSTANT / end.in_channels**0.5
    end.weight[:COLOURS, :COLOURS, 2, 1, 1] = gain * one
    end.weight[:COLOURS, COLOURS : 2 * COLOURS, 2, 1, 1] = -gain * one


def reconstruction_loss(
    vae: AutoencoderKLWan, lesson: Lesson, folder: Path, rng: np.random.Generator
) -> tuple[torch.Tensor, dict[str, float]]:
    """How far frames are from themselves after encoding and decoding; mouth and eyes count more.

    In close-ups by squares, for which half a movement is better than none: by its absolute values an error of few
    pixels stays what it is until most of it is understood.
    """
    pixels, weight = draw_batch(lesson, folder, rng)
    latents = encode(vae, pixels)
    spread = latents.detach().std(dim=(0, 2, 3, 4), keepdim=True)
    latents = latents + lesson.noise * spread * torch.from_numpy(rng.standard_normal(latents.shape, np.float32))
    decoded = decode(vae, latents)
    error = decoded - pixels
    value = movement_loss(error, weight) if lesson.close else picture_loss(error, weight, lesson.afar)
    shift = 127.5 * from_afar(error.detach()).abs().mean().item()  # of 256 levels
    notes = {"psnr": psnr(decoded.detach(), pixels), "shift": shift, **movement_kept(decoded.detach(), pixels)}
    return value + 1e-4 * latents.square().mean(), notes


def movement_loss(error: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The error's squares, and those of its steps from frame to frame."""
    return (weight * error.square()).mean() + 3 * (weight * error.diff(dim=-3).square()).mean()


def movement_kept(decoded: torch.Tensor, pixels: torch.Tensor) -> dict[str, float]:
    """Of the steps between frames of one latent: their energy, and how much of it the decoded ones give back."""
    true, found = (within_latents(frames.diff(dim=-3)) for frames in (pixels, decoded))
    return {"moved": float((true * true).mean()), "kept": float((true * found).mean())} if true.numel() else {}


def within_latents(steps: torch.Tensor) -> torch.Tensor:
    """(..., 4 n, H, W), the steps from frame to frame -> (..., 3 n, H, W): without those from latent to latent."""
    return steps.unflatten(-3, (-1, LATENT_STRIDE))[..., 1:, :, :].flatten(-4, -3)


def picture_loss(error: torch.Tensor, weight: torch.Tensor, afar: float) -> torch.Tensor:
    """The error, and its steps from pixel to pixel and from frame to frame: blur and flicker cost more than a shade.

    And once more as seen from afar: a shift of colour over a whole cheek is next to nothing in every pixel, but grows
    each time that a clip goes on from what the last one's pictures were encoded to, and shows as a jump. Not before
    details are learned: while the rate is high such shifts come and go, and to chase them keeps pictures blurred.
    """
    shade = (weight * error.abs()).mean()
    rows = (weight[..., 1:, :] * error.diff(dim=-2).abs()).mean()
    columns = (weight[..., 1:] * error.diff(dim=-1).abs()).mean()
    frames = (weight * error.diff(dim=-3).abs()).mean() if error.shape[-3] > 1 else 0
    return shade + rows + columns + frames + afar * from_afar(error).abs().mean()


def from_afar(error: torch.Tensor) -> torch.Tensor:
    """Means of SQUARES x SQUARES pixels, of (..., H, W)."""
    return error.unflatten(-2, (-1, SQUARES)).unflatten(-1, (-1, SQUARES)).mean(dim=(-3, -1))


def psnr(one: torch.Tensor, other: torch.Tensor) -> float:
    """In decibels, for values in [-1, 1]."""
    return float(10 * torch.log10(4 / F.mse_loss(one.clamp(-1, 1), other)))


def draw_batch(lesson: Lesson, folder: Path, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames, fp32 (B, 3, T, H, W) in [-1, 1], and what their pixels count, (B, 1, 1, H, W)."""
    size = SQUARE if rng.random() < 0.75 else UPRIGHT
    samples = []
    for _ in range(lesson.batch):
        face = make_face(rng, size)
        frames = to_pixels(draw_video(face, draw_movement(lesson.frames, folder, rng)))
        weight = pixel_weight(face, 10 if lesson.close else 3)
        place = close_up(face, rng) if lesson.close else (...,)
        samples.append((frames[place], weight[place]))
    return tuple(torch.stack(parts) for parts in zip(*samples, strict=True))


def draw_movement(frames: int, folder: Path, rng: np.random.Generator) -> Movement:
    """A picture's can be any; in motion mostly what a face does to speech, which is quick."""
    if frames == 1 or rng.random() < 0.3:
        return random_movement(rng, frames)
    movement = load_scene(folder, int(rng.integers(SCENES))).movement
    return movement.part(int(rng.integers(len(movement) - frames)), frames)


def close_up(face: Face, rng: np.random.Generator) -> tuple[object, ...]:
    """Where CLOSE_UP x CLOSE_UP pixels about the mouth, or now and then the eyes, lie in (..., H, W)."""
    left, top, right, bottom = face.mouth_box if rng.random() < 0.8 else face.eyes_box
    middle = np.array([top + bottom, left + right]) // 2 + rng.integers(-12, 13, 2)
    first = np.clip(middle - CLOSE_UP // 2, 0, np.array(face.size) - CLOSE_UP) // 8 * 8
    return ..., *(slice(start, start + CLOSE_UP) for start in first.tolist())


def to_pixels(frames: np.ndarray) -> torch.Tensor:
    """uint8 (T, H, W, 3) -> fp32 (3, T, H, W) in [-1, 1]."""
    return torch.from_numpy(frames).permute(3, 0, 1, 2).float() / 127.5 - 1


def pixel_weight(face: Face, inside: float = 3) -> torch.Tensor:
    """(1, 1, H, W): 1, and `inside` in the boxes of mouth and eyes."""
    weight = torch.ones(1, 1, *face.size)
    for left, top, right, bottom in (face.mouth_box, face.eyes_box):
        weight[..., top:bottom, left:right] = inside
    return weight


def random_movement(rng: np.random.Generator, frames: int) -> Movement:
    """Movement that goes everywhere: for one frame as for many, at the pace of speech."""
    ticks = np.arange(frames) + 1000 * rng.random((5, 1))
    pace = rng.uniform(0.15, 0.5, (5, 1)) * np.array([1, 1, 1, 0.3, 0.3])[:, None]  # a head is slow
    waves = 0.5 + 0.5 * np.sin(ticks * pace) * np.cos(0.37 * ticks * pace + 1)
    opening = np.clip(1.7 * waves[0] - 0.5, 0, 1)
    blink = np.clip(6 * waves[2] - 4.8, 0, 1)
    sway = SWAY * (2 * waves[3:] - 1) * 0.9
    return Movement(*(x.astype(np.float32) for x in (opening, 2 * waves[1] - 1, blink, *sway)))
