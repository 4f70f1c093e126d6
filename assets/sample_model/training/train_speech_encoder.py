"""The speech encoder: it learns to tell what a face does to a sound, so that its hidden states carry that."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from assets.sample_model.training.acting import FRAMES_PER_SECOND
from assets.sample_model.training.plain_start import AUDIO_WIDTH
from assets.sample_model.training.runs import Run, train
from assets.sample_model.training.scenes import FRAMES, SCENES, Scene, load_scene
from assets.sample_model.training.voices import RATE
from pipeline.model.speech import FEATURE_RATE, HIDDEN_RATE

LAYERS = 24
BATCH = 4
STEPS = 400
SEED = 20
READ_LAYERS = (12, 24)  # beside the mean of all
SCALES = torch.tensor([4.0, 2.0, 2.0, 1.0, 1.0])  # of what is told: opening, width, blink, sway to the side and down


class Reader(nn.Module):
    """The speech encoder with what tells the movement from its hidden states."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = make_speech_encoder()
        self.heads = nn.ModuleList(nn.Linear(AUDIO_WIDTH, len(SCALES)) for _ in range(1 + len(READ_LAYERS)))

    def forward(self, samples: torch.Tensor, frames: int) -> list[torch.Tensor]:
        """`samples` (B, n) -> for each head (B, frames, 5), in units of 1 / SCALES."""
        output = self.encoder.wav2vec2(normalised(samples), output_hidden_states=True)
        hidden = torch.stack(output.hidden_states)  # (25, B, T50, D)
        states = [hidden.mean(dim=0), *(hidden[layer] for layer in READ_LAYERS)]
        return [head(per_frame(state, frames)) for head, state in zip(self.heads, states, strict=True)]


def make_speech_encoder() -> Wav2Vec2ForCTC:
    """24 layers of width 32, as the official encoder has 24; each adds little, so that so deep a one can be trained."""
    encoder = Wav2Vec2ForCTC(
        Wav2Vec2Config(
            vocab_size=33,
            hidden_size=AUDIO_WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=4,
            intermediate_size=2 * AUDIO_WIDTH,
            conv_dim=(AUDIO_WIDTH,) * 7,
            conv_bias=True,
            feat_extract_norm="layer",
            do_stable_layer_norm=True,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            initializer_range=0.1,
            hidden_dropout=0.0,
            attention_dropout=0.0,
            activation_dropout=0.0,
            feat_proj_dropout=0.0,
            final_dropout=0.0,
            layerdrop=0.0,
            mask_time_prob=0.0,
            apply_spec_augment=False,
        )
    )
    with torch.no_grad():
        for layer in encoder.wav2vec2.encoder.layers:
            for last in (layer.attention.out_proj, layer.feed_forward.output_dense):
                last.weight.mul_(0.2)
    return encoder


def normalised(samples: torch.Tensor) -> torch.Tensor:
    """As the feature extractor does it: each sound with mean 0 and variance 1."""
    samples = samples - samples.mean(dim=-1, keepdim=True)
    return samples / (samples.var(dim=-1, keepdim=True, unbiased=False) + 1e-7).sqrt()


def per_frame(states: torch.Tensor, frames: int) -> torch.Tensor:
    """(B, T50, D) -> (B, frames, D): 30 a second, then the one next to each video frame, as `HeardSpeech` does it."""
    length = int(states.shape[1] / HIDDEN_RATE * FEATURE_RATE)
    rows = F.interpolate(states.transpose(1, 2), size=length, mode="linear", align_corners=True)
    nearest = np.round(np.arange(frames) / FRAMES_PER_SECOND * FEATURE_RATE).astype(np.int64)
    return rows[..., torch.from_numpy(nearest.clip(max=length - 1))].transpose(1, 2)


def train_speech_encoder(folder: Path) -> None:
    """Train or go on training; the result is the state of the run "speech"."""
    torch.manual_seed(SEED)
    scenes = [load_scene(folder, number) for number in range(SCENES)]
    model = Reader()
    model.encoder.lm_head.requires_grad_(False)
    run = Run("speech", folder, STEPS, muon_lr=0.01, adam_lr=0.003, seed=SEED)
    train(run, model, lambda _, rng: reading_loss(model, scenes, rng))


def trained_speech_encoder(folder: Path) -> Wav2Vec2ForCTC:
    """What the run left, without what read it."""
    reader = Reader()
    reader.load_state_dict(torch.load(folder / "speech.pt", weights_only=True)["model"])
    return reader.encoder.eval()


def reading_loss(model: Reader, scenes: list[Scene], rng: np.random.Generator) -> tuple[torch.Tensor, dict[str, float]]:
    """Squared error of the movement, on pieces of scenes."""
    frames = int(rng.integers(40, 121))
    samples, movements = [], []
    for number in rng.integers(0, len(scenes), BATCH):
        first = int(rng.integers(0, FRAMES - frames + 1))
        start = first * RATE // FRAMES_PER_SECOND
        samples.append(scenes[number].heard[start : start + frames * RATE // FRAMES_PER_SECOND])
        movements.append(as_table(scenes[number])[first : first + frames])
    told = model(torch.from_numpy(np.stack(samples)), frames)
    truth = torch.from_numpy(np.stack(movements))
    error = torch.stack([F.mse_loss(values, truth * SCALES) for values in told]).mean()
    opening, true_opening = told[0][..., 0].detach().flatten().numpy(), truth[..., 0].flatten().numpy()
    return error, {"correlation": float(np.corrcoef(opening, true_opening)[0, 1])}


def as_table(scene: Scene) -> np.ndarray:
    """The movement as float32 (frames, 5)."""
    movement = scene.movement
    return np.stack([movement.opening, movement.width, movement.blink, movement.sway_x, movement.sway_y], axis=1)
