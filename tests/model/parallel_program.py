"""A program for torchrun: the same passes alone and together; prints how far they lie apart, and which way it went.

Arguments: a case each: latent frames x rows x columns x samples at once x attention heads.
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


@torch.inference_mode()
def main() -> None:
    dist.init_process_group("cpu:gloo")
    for case in sys.argv[1:]:
        compare(*map(int, case.split("x")))


def compare(frames: int, rows: int, columns: int, samples: int, heads: int) -> None:
    small = partial(small_transformer, heads=heads, layers=3, hearing=(0, 2))
    crew = Crew(small(), torch.device("cpu"))
    if dist.get_rank() > 0:
        crew.follow()
        return
    shapes = [(1, 7, 32), (1, 25, 32, 4 * frames), (1, 16, 1, rows, columns), (1, 16, 19, rows, columns)]
    alone, farthest = small(), 0.0
    for with_motion in (False, True):
        clips = [
            alone.encode_conditions(*(torch.randn(shape) for shape in shapes[: 3 + with_motion]))
            for _ in range(samples)
        ]
        clip = stacked(clips)
        noise, time = torch.randn(samples, 16, frames, rows, columns), torch.full((samples,), 500)
        for _ in range(2):
            farthest = max(farthest, float((crew(noise, time, clip) - alone(noise, time, clip)).abs().max()))
    print("FARTHEST", farthest, "WAY", crew.way)
    dist.broadcast_object_list([None], src=0)


main()
os._exit(0)  # not after the other process, which may be gone
