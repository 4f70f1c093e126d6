"""What each of several processes does: the same passes alone and together, and how far they lie apart."""

from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from pipeline.model.parallel import Crew
from pipeline.model.transformer import stacked
from tests.model.small import small_transformer

Case = tuple[int, int, int, int, int]  # latent frames, rows, columns, samples at once, attention heads


@torch.inference_mode()
def compare(meeting: Path, size: int, cases: list[Case], rank: int) -> list[tuple[float, str] | None]:
    """As number `rank` of `size` processes that meet at a file: for the first one, the distance and the way of each."""
    torch.set_num_threads(1)
    dist.init_process_group("cpu:gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    return [_compared(*case) for case in cases]


def _compared(frames: int, rows: int, columns: int, samples: int, heads: int) -> tuple[float, str] | None:
    small = partial(small_transformer, heads=heads, layers=3, hearing=(0, 2))
    crew = Crew(small(), torch.device("cpu"))
    if dist.get_rank() > 0:
        crew.follow()
        return None
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
    dist.broadcast_object_list([None], src=0)
    return farthest, crew.way
