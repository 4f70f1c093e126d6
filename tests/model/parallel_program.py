"""A program for torchrun: the same passes alone and together; prints how far they lie apart, and which way it went.

Arguments: latent frames, rows and columns, with how many samples at once, and how many attention heads.
"""

import os
import sys
from functools import partial

import torch
import torch.distributed as dist

from pipeline.model.parallel import Crew
from pipeline.model.transformer import stacked
from tests.model.small import small_transformer

torch.set_num_threads(1)
FRAMES, ROWS, COLUMNS, SAMPLES, HEADS = map(int, sys.argv[1:])
small = partial(small_transformer, heads=HEADS, layers=3, hearing=(0, 2))


@torch.inference_mode()
def main() -> None:
    dist.init_process_group("cpu:gloo")
    crew = Crew(small(), torch.device("cpu"))
    if dist.get_rank() > 0:
        crew.follow()
        return
    shapes = [(1, 7, 32), (1, 25, 32, 4 * FRAMES), (1, 16, 1, ROWS, COLUMNS), (1, 16, 19, ROWS, COLUMNS)]
    alone, farthest = small(), 0.0
    for with_motion in (False, True):
        clips = [
            alone.encode_conditions(*(torch.randn(shape) for shape in shapes[: 3 + with_motion]))
            for _ in range(SAMPLES)
        ]
        clip = stacked(clips)
        noise, time = torch.randn(SAMPLES, 16, FRAMES, ROWS, COLUMNS), torch.full((SAMPLES,), 500)
        for _ in range(2):
            farthest = max(farthest, float((crew(noise, time, clip) - alone(noise, time, clip)).abs().max()))
    print("FARTHEST", farthest, "of", float(alone(noise, time, clip).abs().mean()))
    print("WAY", crew.way)
    dist.broadcast_object_list([None], src=0)


main()
os._exit(0)  # not after the other process, which may be gone
