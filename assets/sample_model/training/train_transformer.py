"""The transformer: flow matching on the clips' latents, opening clips and clips with a motion memory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from transformers import Wav2Vec2FeatureExtractor

from assets.sample_model.training.clips import CLIPS, Clip, load_clips
from assets.sample_model.training.plain_start import TEXT_WIDTH, make_transformer
from assets.sample_model.training.precision import autocast
from assets.sample_model.training.runs import Run, share, train
from assets.sample_model.training.scenes import FRAMES, SCENES, load_scene
from assets.sample_model.training.train_speech_encoder import as_table, trained_speech_encoder
from pipeline.model.audio_injection import MOTION_LATENTS
from pipeline.model.speech import HeardSpeech
from pipeline.model.transformer import SpeechToVideoTransformer
from pipeline.request import LATENT_STRIDE

STEPS = 1800
GENTLE = ("patch_embedding", "proj_out", "time_embedder", "blocks.0.attn1")
SEED = 40
SHORT, LONG = 6, 20  # latents of a window
HIGH_NOISE = 0.6  # share of the levels that are drawn from 0.9 to 1
MEMORY_NOISE = 0.15  # of the latents that the model remembers: those it makes itself are not clean either
HEARING = 0.2  # what the sound's own loss counts
STEADINESS = 0.5  # what the error's change from one latent to the next counts


@dataclass(frozen=True)
class Window:
    """Some latents of a clip with what the model is told of them: a batch of one."""

    latents: torch.Tensor  # (1, 16, F, h, w)
    portrait: torch.Tensor  # (1, 16, 1, h, w)
    motion: torch.Tensor | None  # (1, 16, 19, h, w)
    audio: torch.Tensor  # (1, 25, D, 4 F)
    movement: torch.Tensor  # (4 F, 2): opening and width of the mouth
    weight: torch.Tensor  # (h, w)


class Student(nn.Module):
    """The transformer, and what must be able to tell the mouth from its audio tokens, so that it listens."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = make_transformer()
        width = self.transformer.config.num_attention_heads * self.transformer.config.attention_head_dim
        self.told = nn.Linear((self.transformer.config.audio_tokens + 2) * width, 2 * LATENT_STRIDE)


def train_transformer(folder: Path) -> None:
    """Train or go on training; the result is the state of the run "transformer"."""
    torch.manual_seed(SEED)
    clips = load_clips(folder)
    features = load_features(folder)
    movements = {number: torch.from_numpy(as_table(load_scene(folder, number))[:, :2]) for number in features}
    student = make_student()
    run = Run("transformer", folder, STEPS, muon_lr=0.004, adam_lr=0.0005, seed=SEED, gentle=GENTLE)

    def loss(_: int, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
        clip = clips[rng.integers(len(clips))]
        return flow_loss(student, draw_window(clip, features[clip.scene], movements[clip.scene], rng), rng)

    train(run, student, loss)


def make_student() -> Student:
    """A new one. Words stay without effect; what shapes patches and time learns gently."""
    student = Student()
    transformer = student.transformer
    transformer.register_to_config(text_len=1)  # no words are learned: one row of them does in training
    frozen = [transformer.condition_embedder.text_embedder, transformer.cond_encoder]
    frozen += [part for block in transformer.blocks for part in (block.attn2, block.norm2)]
    for part in frozen:
        part.requires_grad_(False)
    flat_patches(transformer)
    return student


def flat_patches(transformer: SpeechToVideoTransformer) -> SpeechToVideoTransformer:
    """`transformer` itself, its patches computed by PatchConv3d from now on."""
    for part in (transformer.patch_embedding, transformer.frame_packer):
        for conv in part.modules():
            if isinstance(conv, nn.Conv3d):
                conv.__class__ = PatchConv3d
    return transformer


class PatchConv3d(nn.Conv3d):
    """Kernels side by side, as one product: PyTorch's own way is slow on a CPU, and fails in bf16."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        frames, rows, columns = self.kernel_size
        patches = x.unflatten(4, (-1, columns)).unflatten(3, (-1, rows)).unflatten(2, (-1, frames))
        values = patches.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)  # (B, F, h, w, values of a patch)
        return F.linear(values.float(), self.weight.flatten(1), self.bias).movedim(-1, 1)


@torch.no_grad()
def make_features(folder: Path) -> None:
    """What the trained speech encoder says to each scene, (25, D, frames), kept in half precision."""
    (folder / "features").mkdir(exist_ok=True)
    encoder = trained_speech_encoder(folder).wav2vec2
    for number in share(min(SCENES, CLIPS)):
        if not _features(folder, number).exists():
            heard = HeardSpeech(Wav2Vec2FeatureExtractor(), encoder, load_scene(folder, number).heard, FRAMES)
            torch.save(heard.features(encoder, 0, FRAMES).half(), _features(folder, number))


def load_features(folder: Path) -> dict[int, torch.Tensor]:
    """By scene, fp32 (25, D, frames)."""
    return {int(path.stem): torch.load(path).float() for path in (folder / "features").glob("*.pt")}


def draw_window(clip: Clip, features: torch.Tensor, movement: torch.Tensor, rng: np.random.Generator) -> Window:
    """A part of `clip`, drawn by lot: with the motion memory before it, or as an opening clip."""
    total = clip.latents.shape[1]
    with_memory = rng.random() < 0.5 and total >= MOTION_LATENTS + SHORT
    earliest = MOTION_LATENTS if with_memory else 0
    count = min(LONG if rng.random() < 0.15 else SHORT, total - earliest)
    start = int(rng.integers(earliest, total - count + 1))
    if not with_memory and clip.first == 0 and rng.random() < 0.5:
        start = 0
    motion = clip.latents[None, :, start - MOTION_LATENTS : start] if with_memory else None
    if motion is not None:
        noise = torch.from_numpy(rng.standard_normal(motion.shape, np.float32))
        motion = motion + MEMORY_NOISE * rng.random() * noise
    frames = slice(clip.first + LATENT_STRIDE * start, clip.first + LATENT_STRIDE * (start + count))
    return Window(
        latents=clip.latents[None, :, start : start + count],
        portrait=clip.portrait[None],
        motion=motion,
        audio=features[None, ..., frames],
        movement=movement[frames],
        weight=clip.weight,
    )


def flow_loss(student: Student, window: Window, rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
    """How far the predicted flow is from noise minus latents, at a level drawn by lot; the mouth counts most."""
    high = rng.random() < HIGH_NOISE
    level = float(rng.uniform(0.9, 1.0) if high else rng.uniform(0.2, 0.9))
    noise = torch.from_numpy(rng.standard_normal(window.latents.shape, np.float32))
    noisy = (1 - level) * window.latents + level * noise
    with autocast():
        clip = student.transformer.encode_conditions(
            torch.zeros(1, 1, TEXT_WIDTH), window.audio, window.portrait, motion=window.motion
        )
        flow = student.transformer(noisy, torch.tensor([1000 * level]), clip)
        tokens = torch.cat([clip.audio_tokens, clip.audio_vectors[:, :, None]], dim=2).flatten(2)
        told = student.told(tokens).float().view(-1, 2)
    error = level * (flow.float() - noise + window.latents)  # of the latents that it comes to
    value = weighted(error, window.weight)
    unsteady = weighted(changes(error, after_known=window.motion is not None), window.weight)
    heard = F.mse_loss(told, window.movement)
    stands = weighted(window.portrait - window.latents, window.weight)
    notes = {"share": value.item() / stands.item(), "heard": heard.item()}
    return (value + STEADINESS * unsteady) / (level**2 + 0.1) + HEARING * heard, notes


def weighted(error: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The mean square of `error` (1, 16, F, h, w), by the `weight` (h, w) of its places."""
    return (error**2 * weight).mean() / weight.mean()


def changes(error: torch.Tensor, after_known: bool) -> torch.Tensor:
    """Of `error` (1, 16, F, h, w) from one latent to the next: flicker. After latents that are known, the first too."""
    before = (0, 0, 0, 0, int(after_known), 0)
    return F.pad(error, before).diff(dim=2)


def _features(folder: Path, number: int) -> Path:
    return folder / "features" / f"{number:04}.pt"


def trained_transformer(folder: Path) -> SpeechToVideoTransformer:
    """What the run left, with the length of texts that the official model has."""
    torch.manual_seed(SEED)
    student = Student()
    student.load_state_dict(torch.load(folder / "transformer.pt", weights_only=True)["model"])
    return student.transformer.eval()
