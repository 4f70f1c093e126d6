"""The transformer's blocks, compiled: what lies between the products is done in fewer passes over memory."""

import logging
import shutil

from torch.utils._triton import has_triton

from pipeline.model.placement import Placement
from pipeline.model.transformer import SpeechToVideoTransformer

log = logging.getLogger(__name__)

COMPILERS = ("c++", "g++", "clang++")


def compile_blocks(transformer: SpeechToVideoTransformer, placement: Placement) -> None:
    """Have the blocks compiled when they first work, which takes a minute or more for each kind of clip.

    Where that cannot be, the log says why and they stay as they are: it needs a C++ compiler, on a card Triton too, and
    weights that do not move.
    """
    reason = obstacle(placement)
    if reason is None:
        transformer.compile_repeated_blocks()
    else:
        log.warning("COMPILE=on is not followed: %s.", reason)


def obstacle(placement: Placement) -> str | None:
    """What keeps the blocks from being compiled, None where nothing does."""
    if placement.plan != "resident":
        return f"with the plan {placement.plan} the weights move"
    if not any(map(shutil.which, COMPILERS)):
        return "this machine has no C++ compiler"
    if placement.device.type == "cuda" and not has_triton():
        return "this machine has no Triton"
    return None
