"""How long a step of the transformer takes, where its time goes, and in how much memory: with random weights."""

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

import torch

from pipeline.benchmarks.naive_port import NaivePort
from pipeline.benchmarks.operations import (
    Taken,
    heavy_calls,
    least,
    plain_product_rate,
    synchronize,
    time_alone,
    time_shares,
    timings,
)
from pipeline.errors import InvalidRequest
from pipeline.model.motion import token_positions
from pipeline.model.placement import Placement, Plan
from pipeline.model.transformer import FP32_PARTS, SpeechToVideoTransformer
from pipeline.request import FRAMES_PER_SECOND, LATENT_STRIDE

PRESETS = {"480p": (20, 56, 104), "704p": (20, 88, 128), "720p": (20, 88, 160)}  # latents: 832x448, 1024x704, 1280x704
USUAL_PASSES = 40 * 2  # of a clip: the steps of a request that says nothing, each with guidance
PROMPT_ROWS = 24
MOTION_LATENTS = 19


@dataclass(frozen=True)
class TransformerSize:
    """The sizes that decide what a step costs; those of the 14B model if nothing is said."""

    dim: int = 5120
    heads: int = 40
    layers: int = 40
    ffn_dim: int = 13824
    audio_inject_layers: tuple[int, ...] = (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39)


SMALL = TransformerSize(dim=1024, heads=8, layers=8, ffn_dim=2816, audio_inject_layers=(0, 2, 4, 6))


@dataclass(frozen=True)
class Workload:
    """What a step is measured on: latents (frames, rows, columns), with the tokens of the motion or without."""

    latents: tuple[int, int, int]
    with_motion: bool = True

    @property
    def tokens(self) -> int:
        """How many there are in all."""
        return len(token_positions(*self.latents, with_motion=self.with_motion))

    @property
    def video_seconds(self) -> float:
        """What a clip of such latents comes to."""
        return self.latents[0] * LATENT_STRIDE / FRAMES_PER_SECOND


@dataclass(frozen=True)
class StepFigures:
    """What was measured of one configuration on one workload; seconds are those of one pass of the transformer."""

    configuration: str
    latents: tuple[int, int, int]
    tokens: int
    passes: list[Taken]
    shares: dict[str, float]  # of the time, 0 to 1, by kind of operation
    alone: Taken  # of the heavy operations, one by one with nothing between them
    flops: int
    plain_flops_per_s: float  # of a plain product in the same dtype, measured in the same run
    peak_bytes: int
    video_s: float

    @property
    def pass_s(self) -> float:
        """Of a typical pass: the median."""
        return median(taken.wall_s for taken in self.passes)

    @property
    def over_alone(self) -> float:
        """The shortest pass, in times of its heavy operations alone."""
        return least(self.passes).wall_s / self.alone.wall_s

    @property
    def processor_over_alone(self) -> float:
        """The same in processor time, which other work on the machine hardly changes."""
        return least(self.passes).processor_s / self.alone.processor_s

    @property
    def flops_per_s(self) -> float:
        """That a typical pass comes to."""
        return self.flops / self.pass_s

    @property
    def of_plain(self) -> float:
        """Its share of what a plain product gives."""
        return self.flops_per_s / self.plain_flops_per_s

    @property
    def usual_s_per_video_s(self) -> float:
        """Seconds of steps for a second of video with 40 steps and guidance."""
        return USUAL_PASSES * self.pass_s / self.video_s


Inputs = dict[str, torch.Tensor]
Pass = Callable[[], torch.Tensor]


def as_it_is(transformer: SpeechToVideoTransformer, inputs: Inputs, noise: torch.Tensor, time: torch.Tensor) -> Pass:
    """The program's own pass: the conditions are encoded once per clip."""
    with torch.no_grad():
        clip = transformer.encode_conditions(**inputs)
    return partial(transformer, noise, time, clip)


def naive(transformer: SpeechToVideoTransformer, inputs: Inputs, noise: torch.Tensor, time: torch.Tensor) -> Pass:
    """The baseline of pipeline/benchmarks/naive_port.py."""
    return partial(NaivePort(transformer).step, noise, time, inputs)


def compiled(transformer: SpeechToVideoTransformer, inputs: Inputs, noise: torch.Tensor, time: torch.Tensor) -> Pass:
    """The program's pass with compiled blocks."""
    transformer.compile_repeated_blocks()
    return as_it_is(transformer, inputs, noise, time)


def by_plan(plan: Plan) -> "Prepare":
    """The program's pass with the weights as a plan of MEMORY has them."""

    def prepare(transformer: SpeechToVideoTransformer, inputs: Inputs, noise: torch.Tensor, time: torch.Tensor) -> Pass:
        placement = Placement(noise.device, transformer.patch_embedding.weight.dtype, plan)
        placement.settle(transformer)
        if plan != "stream":
            transformer.to(noise.device)
        return as_it_is(transformer, inputs, noise, time)

    return prepare


Prepare = Callable[[SpeechToVideoTransformer, Inputs, torch.Tensor, torch.Tensor], Pass]
BY_PLAN: tuple[Plan, ...] = ("int8", "fp8", "fp8-fast", "stream")
CONFIGURATIONS: dict[str, Prepare] = {
    "exact": as_it_is,
    "naive": naive,
    "compiled": compiled,
    **{plan: by_plan(plan) for plan in BY_PLAN},
}


@dataclass(frozen=True)
class StepBench:
    """One transformer of random weights, measured in several configurations: `size`, on `device`, in `dtype`."""

    size: TransformerSize
    device: torch.device
    dtype: torch.dtype
    repeats: int
    plain: dict[torch.dtype, float] = field(default_factory=dict)

    def measure(self, name: str, workload: Workload) -> StepFigures:
        """`name` is one of CONFIGURATIONS. Raises InvalidRequest where the model does not fit the memory."""
        gc.collect()
        memory = PeakMemory(self.device)
        try:
            run = self._prepared(name, workload)
            with torch.inference_mode():
                passes = timings(run, self.repeats)
            peak = memory.peak_bytes()
            # Recorded as it is: what a compiler makes of the operations cannot be repeated alone.
            calls = heavy_calls(self._prepared("exact", workload) if name == "compiled" else run)
            shares = time_shares(run, self.device)
        except torch.OutOfMemoryError:
            sides = "x".join(map(str, workload.latents))
            raise InvalidRequest(f"size: a pass at {sides} latents, {name}, does not fit this card's memory.") from None
        return StepFigures(
            configuration=name,
            latents=workload.latents,
            tokens=workload.tokens,
            passes=passes,
            shares=shares,
            alone=time_alone(calls),
            flops=sum(call.flops * count for call, count in calls.items()),
            plain_flops_per_s=self._plain_rate(),
            peak_bytes=peak,
            video_s=workload.video_seconds,
        )

    def _prepared(self, name: str, workload: Workload) -> Pass:
        """One pass on drawn weights and inputs, the same ones each time."""
        torch.manual_seed(0)
        home = torch.device("cpu") if name in BY_PLAN else self.device  # whole, they may not fit the card
        transformer = random_transformer(self.size, home, self.dtype)
        inputs = random_inputs(transformer, workload, self.device)
        noise = torch.randn(1, 16, *workload.latents, device=self.device)
        return CONFIGURATIONS[name](transformer, inputs, noise, torch.full((1,), 500, device=self.device))

    def _plain_rate(self) -> float:
        if self.dtype not in self.plain:
            self.plain[self.dtype] = plain_product_rate(self.dtype, self.device)
        return self.plain[self.dtype]


def random_transformer(size: TransformerSize, device: torch.device, dtype: torch.dtype) -> SpeechToVideoTransformer:
    """A transformer whose weights are noise small enough for its numbers to stay finite; FP32_PARTS in fp32."""
    with torch.device("meta"):
        transformer = SpeechToVideoTransformer(
            num_attention_heads=size.heads,
            attention_head_dim=size.dim // size.heads,
            num_layers=size.layers,
            ffn_dim=size.ffn_dim,
            audio_inject_layers=size.audio_inject_layers,
        )
    for name, parameter in list(transformer.named_parameters()):
        precise = any(part in name for part in FP32_PARTS)
        values = torch.empty(parameter.shape, device=device, dtype=torch.float32 if precise else dtype)
        values.normal_(0, 1 / math.sqrt(max(1, parameter.shape[-1])))
        owner, _, leaf = name.rpartition(".")
        setattr(transformer.get_submodule(owner), leaf, torch.nn.Parameter(values, requires_grad=False))
    return transformer.eval()


def random_inputs(transformer: SpeechToVideoTransformer, workload: Workload, device: torch.device) -> Inputs:
    """What `encode_conditions` takes, drawn."""
    config = transformer.config
    frames, *sides = workload.latents
    shapes = {
        "text": (1, PROMPT_ROWS, config.text_dim),
        "audio": (1, config.audio_layers, config.audio_dim, frames * LATENT_STRIDE),
        "reference": (1, config.in_channels, 1, *sides),
    }
    if workload.with_motion:
        shapes["motion"] = (1, config.in_channels, MOTION_LATENTS, *sides)
    return {name: torch.randn(shape, device=device) for name, shape in shapes.items()}


class PeakMemory:
    """The most memory that is taken from its making on: of the card, or of this process."""

    def __init__(self, device: torch.device):
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far

    def peak_bytes(self) -> int:
        """In bytes."""
        if self.device.type == "cuda":
            synchronize(self.device)
            return torch.cuda.max_memory_allocated(self.device)
        status = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
