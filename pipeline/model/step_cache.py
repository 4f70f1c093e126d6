"""Steps that reuse what earlier ones computed: faster, and not exactly the same video. diffusers' hooks do the work.

first-block: after the first block it is looked whether it changed what it is given much otherwise than in the step
    before; if not, what the other blocks added then is added again.
magnitude: the first clip is computed whole and shows how fast what the blocks add changes its size from step to step;
    in later clips steps reuse it as long as the error that follows from those sizes is small. One clip gains nothing,
    and work that was interrupted learns anew.
taylor: two of three steps after the first fifth are drawn on from the steps before them, as a straight line.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

import torch
from diffusers.hooks import FirstBlockCacheConfig, HookRegistry, MagCacheConfig, TaylorSeerCacheConfig
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.hooks.mag_cache import _MAG_CACHE_BLOCK_HOOK

from pipeline.model.transformer import SpeechToVideoBlock, SpeechToVideoTransformer
from pipeline.request import Speed

FIRST_BLOCK_THRESHOLD = 0.08  # relative change of what the first block adds
MAGNITUDE_THRESHOLD = 0.06  # error that may add up
MAGNITUDE_SKIPS = 3  # steps in a row
WARM_UP_SHARE = 0.2  # of the steps, which are computed whole
TAYLOR_INTERVAL = 3
CONDITIONAL, UNCONDITIONAL = "conditional", "unconditional"


class StepCache:
    """What one request remembers from clip to clip: nothing but the magnitudes that its first one showed."""

    def __init__(self, speed: Speed, steps: int):
        self.speed, self.steps = speed, steps
        self.magnitudes: list[float] | None = None

    @contextmanager
    def around(self, transformer: SpeechToVideoTransformer) -> Iterator[None]:
        """Passes of one clip inside it use the cache; each needs `transformer.cache_context` with its name."""
        if self.speed == "exact":
            yield
            return
        TransformerBlockRegistry.register(SpeechToVideoBlock, TransformerBlockMetadata(0, 1))
        transformer.enable_cache(self._config())
        try:
            yield
            if self.speed == "magnitude" and self.magnitudes is None:
                self.magnitudes = _magnitudes(transformer)
        finally:
            transformer.disable_cache()

    def _config(self) -> Any:
        warm_up = ceil(WARM_UP_SHARE * self.steps)
        if self.speed == "first-block":
            return FirstBlockCacheConfig(threshold=FIRST_BLOCK_THRESHOLD)
        if self.speed == "taylor":
            return TaylorSeerCacheConfig(
                cache_interval=TAYLOR_INTERVAL,
                disable_cache_before_step=max(2, warm_up),
                taylor_factors_dtype=torch.float32,
                use_lite_mode=True,
            )
        if self.magnitudes is None:
            # One step more than there are: at its end the library would print what it found, and forget it.
            return MagCacheConfig(calibrate=True, num_inference_steps=self.steps + 1)
        return MagCacheConfig(
            threshold=MAGNITUDE_THRESHOLD,
            max_skip_steps=MAGNITUDE_SKIPS,
            retention_ratio=WARM_UP_SHARE,
            num_inference_steps=self.steps,
            mag_ratios=self.magnitudes,
        )


def _magnitudes(transformer: SpeechToVideoTransformer) -> list[float]:
    """How many times the length of the step before each step of the conditional pass had, the first being 1."""
    hook = HookRegistry.check_if_exists_or_initialize(transformer.blocks[-1]).get_hook(_MAG_CACHE_BLOCK_HOOK)
    return list(hook.state_manager._state_cache[CONDITIONAL].calibration_ratios)
