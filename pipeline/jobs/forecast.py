"""How long a job will take, judged by what the same model on the same machine took for earlier ones.

What is measured stands in the jobs' journals: for each clip when its denoising, its second step, its decoding and its
writing began. A first step is counted with the clip's other fixed costs and never taken for the pace of the others:
in a new process it carries what is compiled and loaded then. What went by before the first stage, where libraries are
imported, does not count at all.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, log
from statistics import median

from pipeline.events import ClipReady, StageChanged, Started, StepDone
from pipeline.jobs.journal import NOBODY, Line, Maker
from pipeline.request import LATENT_STRIDE, MOTION_FRAMES, ClipPlan, GenerationRequest

PATCH_PIXELS = 256  # of the output, 16 x 16, that one token of a latent frame stands for
MEMORY_LATENTS = 1 + MOTION_FRAMES // LATENT_STRIDE
MEMORY_TOKENS = 1 + 1 / 4 + 4 / 16  # of the motion memory, in latent frames: near, middle and far
# At so many tokens attention, which grows with their square, takes as much as all else, which grows with their number:
# three times the 14B model's width and once its feed-forward's. The sample model's sizes lie far below.
EVEN_TOKENS = 3 * 5120 + 13824
# What each costs whatever its size (calls, started kernels), as so many more tokens of a pass and pixels of a decoded
# and of a written frame: fitted to the sample model at 64 to 192 pixels a side, between what it shows on one core and
# on two. To large pictures it is next to nothing.
PASS_TOKENS = 220
DECODE_PIXELS = 3_000
WRITE_PIXELS = 30_000
BEFORE = ("denoise", "steps", "decode")  # what a clip's writing comes after, if nobody's wish stands between the lines
ENCODING = 0.5  # what encoding a latent frame takes of the time that decoding it does, about


@dataclass(frozen=True)
class Measured:
    """What one job took, in seconds per unit of work, each the median of its clips."""

    maker: Maker
    speed: str  # of its request
    tokens: float  # of its opening clip
    start_s: float  # the conditions at the start
    clip_s: float  # a clip, besides all that follows
    step_s: float  # a token of a pass of the transformer
    decode_s: float  # a pixel of a latent frame, decoded
    write_s: float  # a pixel of a frame, written


def measure(request: GenerationRequest, lines: Iterable[Line]) -> Measured | None:
    """What the job with this request and journal has measured; None before the end of its first clip."""
    start_s, spans, plan, maker = 0.0, {}, None, NOBODY
    for before, line in pairwise(lines):
        if isinstance(before.event, Started):
            plan, maker, start_s = before.event.plan, before.maker, 0.0
        seconds = line.elapsed_s - before.elapsed_s
        match before.event, line.event:
            case StageChanged("text" | "speech" | "portrait"), StageChanged():
                start_s += seconds
            case StageChanged(stage, clip), StepDone() | StageChanged() | ClipReady():
                spans[stage, clip] = seconds
            case StepDone(clip), StageChanged():
                spans["steps", clip] = seconds
    clips = [clip for stage, clip in spans if stage == "encode" and all((part, clip) in spans for part in BEFORE)]
    if plan is None or not clips:
        return None
    return _measured(request, plan, maker, start_s, spans, clips)


def _measured(
    request: GenerationRequest,
    plan: ClipPlan,
    maker: Maker,
    start_s: float,
    spans: dict[tuple[str, int], float],
    clips: list[int],
) -> Measured:
    firsts = [spans["denoise", clip] for clip in clips]
    others = [spans["steps", clip] / max(1, request.steps - 1) for clip in clips]
    steps = firsts if request.steps == 1 else others
    work = [step_work(request, plan, clip) for clip in clips]
    return Measured(
        maker=maker,
        speed=request.speed,
        tokens=clip_tokens(request, plan, 1),
        start_s=start_s,
        clip_s=max(0.0, min(first - step for first, step in zip(firsts, steps, strict=True))),
        step_s=median(step / amount for step, amount in zip(steps, work, strict=True)),
        decode_s=median(spans["decode", clip] / decode_work(request, plan, clip) for clip in clips),
        write_s=median(spans["encode", clip] / write_work(plan) for clip in clips),
    )


def expected_s(request: GenerationRequest, plan: ClipPlan, known: Iterable[Measured]) -> float | None:
    """Seconds of work that `request` will take; None where nothing is `known` (the newest last).

    Steps are judged by the job whose clips were nearest in size, fixed costs by the smallest seen.
    """
    known = _alike(request, known)
    if not known:
        return None
    clip_s = min(job.clip_s for job in known)
    return min(job.start_s for job in known) + sum(_clips_s(request, plan, _nearest(request, plan, known), clip_s))


def expected_rest_s(request: GenerationRequest, plan: ClipPlan, known: Iterable[Measured]) -> float | None:
    """Seconds that decoding and writing a clip will take, the mean of the clips; None where nothing is `known`."""
    known = _alike(request, known)
    if not known:
        return None
    judge = _nearest(request, plan, known)
    return sum(_rest_s(request, plan, judge, clip) for clip in range(1, plan.clips + 1)) / plan.clips


def _alike(request: GenerationRequest, known: Iterable[Measured]) -> list[Measured]:
    """Those that skip as `request` does; where there are none, those that skip nothing: it will take no longer."""
    known = list(known)
    return [job for job in known if job.speed == request.speed] or [job for job in known if job.speed == "exact"]


def _nearest(request: GenerationRequest, plan: ClipPlan, known: list[Measured]) -> Measured:
    tokens = clip_tokens(request, plan, 1)
    return min(reversed(known), key=lambda job: abs(log(job.tokens / tokens)))


def _clips_s(request: GenerationRequest, plan: ClipPlan, judge: Measured, clip_s: float) -> Iterator[float]:
    for clip in range(1, plan.clips + 1):
        steps_s = request.steps * step_work(request, plan, clip) * judge.step_s
        yield clip_s + steps_s + _rest_s(request, plan, judge, clip)


def _rest_s(request: GenerationRequest, plan: ClipPlan, judge: Measured, clip: int) -> float:
    return decode_work(request, plan, clip) * judge.decode_s + write_work(plan) * judge.write_s


def passes(request: GenerationRequest) -> float:
    """Passes of the transformer for a step, the mean of all steps."""
    guided_steps = ceil(request.guidance_share * request.steps) if request.guidance > 1 else 0
    return 1 + guided_steps / request.steps


def step_work(request: GenerationRequest, plan: ClipPlan, clip: int) -> float:
    """What a step of `clip` (from 1) takes, in tokens of passes of the transformer."""
    tokens = clip_tokens(request, plan, clip)
    return passes(request) * (PASS_TOKENS + tokens * (1 + tokens / EVEN_TOKENS))


def decode_work(request: GenerationRequest, plan: ClipPlan, clip: int) -> float:
    """What decoding `clip` (from 1) takes, and encoding what the next one remembers, in pixels of latent frames."""
    return (DECODE_PIXELS + plan.height * plan.width) * latents_of(request, plan, clip)


def write_work(plan: ClipPlan) -> float:
    """What writing a clip takes, in pixels of frames."""
    return (WRITE_PIXELS + plan.height * plan.width) * plan.frames_per_clip


def clip_tokens(request: GenerationRequest, plan: ClipPlan, clip: int) -> float:
    """Tokens that the transformer sees of `clip` (from 1): its frames, the portrait, and the memory if there is one."""
    frames = plan.frames_per_clip / LATENT_STRIDE + 1 + (0 if _opens(request, clip) else MEMORY_TOKENS)
    return frames * plan.height * plan.width / PATCH_PIXELS


def latents_of(request: GenerationRequest, plan: ClipPlan, clip: int) -> float:
    """Latent frames that are decoded for `clip` (from 1), with what is encoded for the next one counted in."""
    before = 1 if _opens(request, clip) else MEMORY_LATENTS
    remembered = 0 if clip == plan.clips else ENCODING * MEMORY_LATENTS
    return before + plan.frames_per_clip / LATENT_STRIDE + remembered


def _opens(request: GenerationRequest, clip: int) -> bool:
    return clip == 1 and not request.first_frame
