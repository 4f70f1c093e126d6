"""The recipe: a request becomes events, clip after clip."""

import logging
import secrets
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from math import ceil

import numpy as np
import torch

from pipeline.errors import OutOfMemory, is_out_of_memory
from pipeline.events import (
    ClipFrames,
    Event,
    FramesDecoded,
    MotionMemory,
    Resume,
    StageChanged,
    Started,
    StepDone,
)
from pipeline.media.audio import read_speech
from pipeline.media.portrait import fit_portrait, open_portrait
from pipeline.media.pose import read_pose_frames
from pipeline.model.conditions import (
    NEGATIVE_PROMPT,
    encode_prompt,
    portrait_pixels,
    pose_pixels,
)
from pipeline.model.loading import Components
from pipeline.model.parallel import Crew
from pipeline.model.placement import PLANS, Placement, Plan
from pipeline.model.preview import clean_guess, draw, fit_colours
from pipeline.model.sampling import Denoising, Predict, guided, guided_at_once, make_scheduler
from pipeline.model.speech import SPEECH_RATE, HeardSpeech
from pipeline.model.step_cache import CONDITIONAL, UNCONDITIONAL, StepCache
from pipeline.model.transformer import ClipConditions, stacked
from pipeline.model.video_latents import decode_video, encode_video
from pipeline.request import (
    FRAMES_PER_SECOND,
    LATENT_STRIDE,
    MAX_SEED,
    MOTION_FRAMES,
    WARM_UP_FRAMES,
    ClipPlan,
    GenerationRequest,
    plan_clips,
)

log = logging.getLogger(__name__)

LATENT_CHANNELS = 16
SPATIAL_STRIDE = 8  # pixels per latent row and column
FIRST_FRAME_REPEATS = 6  # frames of the portrait at the end of the memory, in first-frame mode


@dataclass(frozen=True)
class _Performance:
    """What holds for all clips of one request."""

    request: GenerationRequest
    plan: ClipPlan
    seed: int
    prompts: tuple[torch.Tensor, ...]  # the prompt, and with guidance the negative one: (rows, text width)
    speech: HeardSpeech
    cache: StepCache
    portrait: torch.Tensor  # (3, 1, H, W)
    reference: torch.Tensor  # (16, 1, h, w)

    @cached_property
    def colours(self) -> torch.Tensor:
        """How latents look, as `draw` takes it; worked out when somebody first wants to see some."""
        return fit_colours(self.reference, self.portrait)


class SpeechToVideo:
    """A loaded model that makes one video at a time; `generate` is its whole interface."""

    def __init__(self, components: Components, placement: Placement, crew: Crew | None = None):
        """`crew`: several processes that compute the transformer together, with `components`' one as the first."""
        self.parts = components
        self.placement = placement
        self.crew = crew

    @torch.inference_mode()
    def generate(self, request: GenerationRequest, resume: Resume | None = None) -> Iterator[Event]:
        """Make the video of `request`: Started, then per clip StageChanged, StepDone, FramesDecoded and ClipFrames.

        With `resume` the clips up to resume.clip are not made again. Closing the generator stops the work.
        Raises InvalidRequest for inputs that cannot be used.
        """
        # 1. Read the inputs and plan.
        samples = read_speech(request.audio, request.audio_start, request.audio_duration)
        portrait = open_portrait(request.portrait)
        plan = plan_clips(request, (portrait.height, portrait.width), len(samples) / SPEECH_RATE)
        seed = request.seed if request.seed >= 0 else secrets.randbelow(MAX_SEED + 1)
        yield Started(plan, seed)

        # 2. Encode what is the same for all clips.
        yield StageChanged("text", 0)
        prompts = self._encode_prompts(request)
        yield StageChanged("speech", 0)
        begin = 1 if resume is None else resume.clip + 1
        speech = self._hear(samples, plan, begin)
        yield StageChanged("portrait", 0)
        pixels = portrait_pixels(fit_portrait(portrait, plan.height, plan.width))
        with self._on_device(self.parts.vae) as vae:
            cache = StepCache(request.speed if self.crew is None else "exact", request.steps)
            performance = _Performance(request, plan, seed, prompts, speech, cache, pixels, encode_video(vae, pixels))
            motion = self._first_memory(vae, performance, pixels) if resume is None else resume.motion

        # 3. One clip after the other, each from the memory that the last one left.
        for clip in range(begin, plan.clips + 1):
            motion = yield from self._clip(performance, clip, motion)

    def _encode_prompts(self, request: GenerationRequest) -> tuple[torch.Tensor, ...]:
        prompts = [request.prompt]
        if request.guidance > 1:
            prompts.append(request.negative_prompt or NEGATIVE_PROMPT)
        with self._on_device(self.parts.text_encoder) as encoder:
            return tuple(encode_prompt(self.parts.tokenizer, encoder, prompt) for prompt in prompts)

    def _hear(self, samples: np.ndarray, plan: ClipPlan, clip: int) -> HeardSpeech:
        """What the clips ask for their features; those of `clip` are made here, and all that come along with them."""
        lead = np.zeros(plan.lead_frames * SPEECH_RATE // FRAMES_PER_SECOND, np.float32)
        count = plan.frames_per_clip
        with self._on_device(self.parts.speech_encoder) as encoder:
            sound = np.concatenate([lead, samples])
            speech = HeardSpeech(self.parts.feature_extractor, encoder, sound, plan.clips * count)
            speech.features(encoder, (clip - 1) * count, count)
        return speech

    def _first_memory(self, vae: torch.nn.Module, show: _Performance, portrait: torch.Tensor) -> MotionMemory:
        """Mid-grey, and nothing that the opening clip looks at; in first-frame mode the portrait stands at the end."""
        memory = torch.zeros(3, MOTION_FRAMES, show.plan.height, show.plan.width)
        if not show.request.first_frame:
            return MotionMemory(np.empty((LATENT_CHANNELS, 0, 0, 0), np.float32), _lasting(memory, show.plan).numpy())
        memory[:, -FIRST_FRAME_REPEATS:] = portrait
        return _remember(vae, memory, show.plan)

    def _clip(self, show: _Performance, clip: int, motion: MotionMemory) -> Iterator[Event]:
        """Make `clip` (from 1) from `motion`; its events, and the memory that it leaves (None after the last)."""
        opening = clip == 1 and not show.request.first_frame
        before = None if opening else torch.from_numpy(motion.latents).to(self.placement.device)
        yield StageChanged("denoise", clip)
        request, noise = show.request, self._noise(show, clip)
        work = Denoising(make_scheduler(request.solver, request.steps, request.shift, noise.device), noise)
        latents = yield from self._persist(partial(self._denoise, show, clip, work, before), PLANS)
        yield StageChanged("decode", clip)
        latents = torch.cat([show.reference if opening else before, latents], dim=1)
        # By all other plans the autoencoder has the device for itself already.
        shown, left = yield from self._persist(partial(self._decode, show, clip, latents, motion), ("resident",))
        yield ClipFrames(clip, shown, left)
        return left

    def _heard(self, show: _Performance, clip: int) -> torch.Tensor:
        """The features of the clip's speech, fp32 (1, layers, D, frames), on the device."""
        count = show.plan.frames_per_clip
        with self._on_device(self.parts.speech_encoder) as encoder:
            return show.speech.features(encoder, (clip - 1) * count, count)[None].to(self.placement.device)

    def _conditions(
        self, show: _Performance, heard: torch.Tensor, motion: torch.Tensor | None, pose: torch.Tensor | None
    ) -> tuple[ClipConditions, ...]:
        """The clip's conditions, and with guidance those of the unconditional pass: other words, no sound."""
        transformer = self.parts.transformer
        conditional = transformer.encode_conditions(
            show.prompts[0][None],
            heard,
            show.reference[None],
            motion=None if motion is None else motion[None],
            pose=None if pose is None else pose[None],
        )
        others = [
            transformer.with_other_words_and_sound(conditional, prompt[None], torch.zeros_like(heard))
            for prompt in show.prompts[1:]
        ]
        return (conditional, *others)

    def _pose_latents(self, show: _Performance, clip: int) -> torch.Tensor | None:
        if show.request.pose_video is None:
            return None
        count = show.plan.frames_per_clip
        pixels = pose_pixels(_pose_frames(show, clip), count, show.plan.height, show.plan.width)
        with self._on_device(self.parts.vae) as vae:
            return encode_video(vae, torch.cat([pixels[:, :1], pixels], dim=1))[:, 1:]

    def _denoise(self, show: _Performance, clip: int, work: Denoising, motion: torch.Tensor | None) -> Iterator[Event]:
        """Do what is left to do of `work`, with a StepDone after each step; returns the clean latents (16, F, h, w)."""
        request = show.request
        heard, pose = self._heard(show, clip), self._pose_latents(show, clip)
        with self._on_device(self.parts.transformer) as transformer, show.cache.around(transformer):
            guided_steps = ceil(request.guidance_share * request.steps)
            with_guidance, without = self._predictions(self._conditions(show, heard, motion, pose), request)

            def predict(*now: torch.Tensor) -> torch.Tensor:
                return (with_guidance if work.done < guided_steps else without)(*now)

            for step in work.steps(predict):
                yield StepDone(clip, step, request.steps, lambda: draw(clean_guess(work.scheduler), show.colours))
        return work.latents[0]

    def _decode(self, show: _Performance, clip: int, latents: torch.Tensor, motion: MotionMemory) -> Iterator[Event]:
        """Returns the frames of `clip`, uint8 (T, H, W, 3), and the memory that it leaves (None after the last)."""
        with self._on_device(self.parts.vae) as vae:
            shown, kept = yield from _decode_clip(vae, clip, latents, show.plan, motion)
            return shown, None if clip == show.plan.clips else _remember(vae, kept, show.plan)

    def _persist(self, work: Callable[[], Iterator[Event]], improvable: Collection[Plan]) -> Iterator[Event]:
        """Do `work`; where the memory does not suffice, begin it again with the next smaller plan, which then stays.

        That helps where the present plan is one of `improvable`.
        Raises OutOfMemory where there is none, or several processes compute together.
        """
        while True:
            try:
                return (yield from work())
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                can_help = self.crew is None and self.placement.plan in improvable
                smaller = self.placement.smaller() if can_help else None
                if smaller is None:
                    raise OutOfMemory(
                        "The memory does not suffice for a video of this size: choose a smaller one."
                    ) from error
            # Not inside `except`: the error still holds what the work had in memory.
            self._settle(smaller)

    def _settle(self, smaller: Placement) -> None:
        """Work with the plan `smaller` from now on."""
        plan = self.placement.plan
        log.warning("The memory does not suffice with the plan %s: the work goes on %s.", plan, smaller.describe())
        parts = self.parts
        smaller.resettle((parts.transformer, parts.text_encoder, parts.speech_encoder, parts.vae))
        self.placement = smaller

    def _predictions(
        self, conditions: tuple[ClipConditions, ...], request: GenerationRequest
    ) -> tuple[Predict, Predict]:
        """With guidance, where it is asked for, and without."""
        named = zip((CONDITIONAL, UNCONDITIONAL), conditions, strict=False)
        single = [partial(self._pass, name, condition) for name, condition in named]
        if len(single) == 1:
            return single[0], single[0]
        if self.crew is not None:
            return guided_at_once(partial(self.crew, clip=stacked(conditions)), request.guidance), single[0]
        return guided(*single, request.guidance), single[0]

    def _pass(self, name: str, clip: ClipConditions, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """One pass of the transformer, by `name` for a cache of steps."""
        if self.crew is not None:
            return self.crew(latents, timestep, clip)
        transformer = self.parts.transformer
        with transformer.cache_context(name) if transformer.is_cache_enabled else nullcontext():
            return transformer(latents, timestep, clip)

    def _noise(self, show: _Performance, clip: int) -> torch.Tensor:
        """fp32 (1, 16, F, h, w), drawn on the device in the model's dtype: a seed gives the official noise."""
        plan, device = show.plan, self.placement.device
        generator = torch.Generator(device).manual_seed(show.seed + clip - 1)
        shape = (1, LATENT_CHANNELS, plan.frames_per_clip // LATENT_STRIDE,
                 plan.height // SPATIAL_STRIDE, plan.width // SPATIAL_STRIDE)  # fmt: skip
        return torch.randn(shape, generator=generator, device=device, dtype=self.placement.dtype).float()

    def _on_device(self, module: torch.nn.Module) -> AbstractContextManager[torch.nn.Module]:
        return self.placement.on_device(module)


def _decode_clip(
    vae: torch.nn.Module, clip: int, latents: torch.Tensor, plan: ClipPlan, motion: MotionMemory
) -> Iterator[Event]:
    """Decode the clip's own frames at the end of `latents`; those before it are there for the decoder's memory.

    Yields FramesDecoded; returns the frames that are shown, uint8 (T, H, W, 3), and the last 73 as the model made them,
    fp32 (3, 73, H, W).
    """
    total = latents.shape[1]
    first = total - plan.frames_per_clip // LATENT_STRIDE
    kept, shown = [torch.from_numpy(motion.frames)], []
    for i, pixels in enumerate(decode_video(vae, latents)):
        if i >= first:
            pixels = pixels.cpu()
            if clip == 1 and i == first:
                pixels = pixels[:, plan.warm_up_frames :]
            shown.append(to_uint8(pixels))
            kept.append(pixels)
        yield FramesDecoded(clip, i + 1, total)
    return np.concatenate(shown), torch.cat(kept, dim=1)[:, -MOTION_FRAMES:]


def _pose_frames(show: _Performance, clip: int) -> np.ndarray:
    """The pose frames of `clip`, uint8 (T, h, w, 3): behind by the lead, like the sound that they go with."""
    count = show.plan.frames_per_clip
    first = (clip - 1) * count - show.plan.lead_frames
    early = max(0, -first)  # frames before the pose video begins: its first frame stands
    frames = read_pose_frames(show.request.pose_video, first + early, count - early)
    return np.concatenate([np.repeat(frames[:1], early, axis=0), frames])


def _remember(vae: torch.nn.Module, frames: torch.Tensor, plan: ClipPlan) -> MotionMemory:
    """The memory of the last 73 `frames`, (3, 73, H, W)."""
    return MotionMemory(encode_video(vae, frames).cpu().numpy(), _lasting(frames, plan).numpy())


def _lasting(frames: torch.Tensor, plan: ClipPlan) -> torch.Tensor:
    """Those of the last 73 frames that outlive the next clip."""
    lasting = max(0, MOTION_FRAMES - (plan.frames_per_clip - WARM_UP_FRAMES))
    return frames[:, MOTION_FRAMES - lasting :].contiguous()


def to_uint8(pixels: torch.Tensor) -> np.ndarray:
    """(3, T, H, W) in [-1, 1] -> uint8 (T, H, W, 3), rounded to nearest."""
    return ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0).numpy()
