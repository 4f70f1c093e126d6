"""One transformer over several cards, under torchrun: the first process leads, the others compute along.

The tokens of a pass are shared out. Of the noisy tokens every process takes some places of all latent frames, so that
the speech of a frame finds tokens of it everywhere, and the border to the other tokens needs no care; of those it takes
a stretch. In self-attention diffusers brings them together, whether or not the processes divide the tokens: where they
divide the heads, each attends with some heads to all tokens (Ulysses); where they do not, each attends with its tokens
to those of one after the other (a ring), which has no heads to fill up.
A pass for both halves of the guidance goes to half of the processes each, which then have nothing to exchange but the
results. Only the leader has a page, a queue or a recipe; the others wait for passes to take part in.
"""

import atexit
import logging
import os
import sys
import threading
from collections import deque
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from diffusers.hooks.context_parallel import PartitionAnythingSharder
from diffusers.models import ContextParallelConfig
from diffusers.models._modeling_parallel import ParallelConfig, gather_size_by_comm
from diffusers.models.transformers.transformer_wan import WanAttention
from torch.distributed.device_mesh import DeviceMesh

from pipeline.errors import InvalidSetting
from pipeline.model.loading import Changes, load_changed_transformer
from pipeline.model.placement import Placement
from pipeline.model.quantization import KINDS
from pipeline.model.ring_attention import is_ring
from pipeline.model.transformer import ClipConditions, SpeechToVideoTransformer

log = logging.getLogger(__name__)

PATIENCE = timedelta(days=365)  # that a process waits for the next pass: work may be far apart
LAST_S = 10  # of a process that lost the others: enough to say why
KNOWN_CLIPS = 2  # that every process remembers: a clip's conditions, and those without its words and sound


@dataclass(frozen=True)
class Share:
    """Which processes work on the same tokens: all, or those of one half of the guidance; None where one is alone."""

    config: ParallelConfig | None

    @property
    def way(self) -> str:
        """How the processes attend together."""
        return "alone" if self.config is None else "ring" if is_ring(self.config) else "Ulysses"

    def own(self, noisy: torch.Tensor, clip: ClipConditions) -> tuple[torch.Tensor, ClipConditions]:
        """This process's part of the `noisy` tokens (B, L, D), and `clip` with its part of the others and places."""
        if self.config is None:
            return noisy, clip
        frames, count = clip.audio_tokens.shape[1], noisy.shape[1]
        rotary = tuple(
            torch.cat([self._part(table[:, :count], frames), self._part(table[:, count:], 1)], dim=1)
            for table in clip.rotary
        )
        return self._part(noisy, frames), replace(clip, other_tokens=self._part(clip.other_tokens, 1), rotary=rotary)

    def all(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        """All processes' parts of the noisy tokens in their order, from this one's `x` (B, L, values)."""
        if self.config is None:
            return x
        mine = x.unflatten(1, (frames, -1))
        group = self._mesh.get_group()
        counts = gather_size_by_comm(mine.shape[2], group)
        padded = F.pad(mine, (0, 0, 0, max(counts) - mine.shape[2]))  # gloo gathers equal sizes alone
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded, group=group)
        return torch.cat([part[:, :, :count] for part, count in zip(parts, counts, strict=True)], dim=2).flatten(1, 2)

    def _part(self, x: torch.Tensor, pieces: int) -> torch.Tensor:
        """This process's part of each of `pieces` equal pieces of `x` along dimension 1."""
        whole = x.unflatten(1, (pieces, -1))
        return PartitionAnythingSharder.shard_anything(whole, 2, self._mesh).flatten(1, 2)

    @property
    def _mesh(self) -> DeviceMesh:
        return self.config.context_parallel_config._flattened_mesh


class Crew:
    """The processes of this run with their copies of the transformer. Made by all of them together."""

    def __init__(self, transformer: SpeechToVideoTransformer, device: torch.device):
        self.transformer, self.device = transformer, device
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        heads = transformer.config.num_attention_heads
        self._whole = _share(self.device, 1, self.size, heads)
        self._half = _share(self.device, 2, self.size // 2, heads) if self.size % 2 == 0 else None
        self._clips: deque[ClipConditions] = deque(maxlen=KNOWN_CLIPS)
        self._is_lost = False

    @property
    def way(self) -> str:
        """How all processes attend together where a pass is for all of them."""
        return self._whole.way

    def __call__(self, latents: torch.Tensor, timestep: torch.Tensor, clip: ClipConditions) -> torch.Tensor:
        """What the transformer gives, computed by all. For the leader: the others are told to take part.

        An error within is the end of this process, soon: the others wait in the middle of the pass, where nothing can
        reach them but torchrun, which ends them with it.
        """
        if self._is_lost:
            raise RuntimeError("the other processes were lost by an error in an earlier pass")
        try:
            return self._pass(latents, timestep, clip)
        except BaseException:
            self._lose_the_others()
            raise

    def _lose_the_others(self) -> None:
        self._is_lost = True
        log.critical("A pass of several processes failed: this one ends in %d s, for torchrun to end all", LAST_S)
        timer = threading.Timer(LAST_S, os._exit, (1,))
        timer.daemon = True
        timer.start()

    def _pass(self, latents: torch.Tensor, timestep: torch.Tensor, clip: ClipConditions) -> torch.Tensor:
        known = next((i for i, one in enumerate(self._clips) if one is clip), None)
        _tell(known)
        if known is None:
            clip = _spread_clip(clip, self.device)
        self._remember(clip, known)
        _spread(timestep, self.device)
        return self._compute(_spread(latents, self.device), timestep, clip)

    def end(self) -> None:
        """For the leader, at the end of its process: send the others home."""
        if self._is_lost:
            logging.shutdown()
            sys.stdout.flush()
            os._exit(1)
        dist.broadcast_object_list([None], src=0)
        dist.destroy_process_group()

    def follow(self) -> None:
        """Take part in what the leader computes until it ends."""
        while (order := _listen()) is not None:
            [known] = order
            clip = _spread_clip(None, self.device) if known is None else self._clips[known]
            self._remember(clip, known)
            timestep = _spread(None, self.device)
            self._compute(_spread(None, self.device), timestep, clip)

    def _remember(self, clip: ClipConditions, known: int | None) -> None:
        if known is None:
            self._clips.append(clip)

    def _compute(self, latents: torch.Tensor, timestep: torch.Tensor, clip: ClipConditions) -> torch.Tensor:
        if latents.shape[0] == 1 or self._half is None:
            return self._run(self._whole, latents, timestep, clip)
        mine = slice(self.rank * 2 // self.size, self.rank * 2 // self.size + 1)
        flow = self._run(self._half, latents[mine], timestep[mine], sample_of(clip, mine))
        flows = [torch.empty_like(flow) for _ in range(self.size)]
        dist.all_gather(flows, flow.contiguous())
        return torch.cat([flows[0], flows[self.size // 2]])

    def _run(self, share: Share, latents: torch.Tensor, timestep: torch.Tensor, clip: ClipConditions) -> torch.Tensor:
        for module in self.transformer.modules():
            if isinstance(module, WanAttention):
                module.processor._parallel_config = share.config
        self.transformer.share = share
        return self.transformer(latents, timestep, clip)


def sample_of(clip: ClipConditions, which: slice) -> ClipConditions:
    """`clip` with some of its samples alone; the rotary tables are the same for all."""
    batched = {field.name: getattr(clip, field.name) for field in fields(clip) if field.name != "rotary"}
    return replace(clip, **{name: x if x.shape[0] == 1 else x[which] for name, x in batched.items()})


def lead(transformer: SpeechToVideoTransformer, folder: Path, placement: Placement, changes: Changes) -> Crew | None:
    """Gather the processes that torchrun started, None where this one is alone.

    Each reads the model in `folder` with `changes`, as it was done for `transformer`. Raises InvalidSetting for a plan
    that rounds the weights, which the others' would not be.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    if placement.plan in KINDS:
        raise InvalidSetting(
            f"MEMORY={placement.plan!r} cannot be used by several processes: give resident, offload or stream."
        )
    _open(placement.device)
    _tell(str(folder), placement.dtype, placement.device.type, placement.plan, changes)
    crew = Crew(transformer, placement.device)
    atexit.register(crew.end)
    log.info("%d processes compute together (%s).", crew.size, crew.way)
    return crew


def follow_leader() -> int:
    """What a process that torchrun started beside the first one does until that ends; gives its exit status.

    Raises what goes wrong in a pass, which is to end the process: torchrun then ends all.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    card = torch.cuda.is_available()
    _open(torch.device("cuda", local) if card else torch.device("cpu"))
    with torch.inference_mode():
        order = _listen()
        if order is not None:
            folder, dtype, kind, plan, changes = order
            device = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
            # The transformer is all that this process has: it stays on the card unless that cannot hold it.
            placement = Placement(device, dtype, "stream" if plan == "stream" else "resident")
            home = placement.loading_device
            transformer = load_changed_transformer(Path(folder), home, dtype, lambda *_: None, changes)
            placement.settle(transformer)
            Crew(transformer, device).follow()
    return 0


def _open(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # "cpu" must be named: diffusers looks for it to exchange sizes there.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "cpu:gloo", timeout=PATIENCE)


def _share(device: torch.device, groups: int, degree: int, heads: int) -> Share:
    """Groups of `degree` processes, one after the other, for a transformer of `heads`; the share of this one's."""
    if degree == 1:
        return Share(None)
    ring, ulysses = (1, degree) if heads % degree == 0 else (degree, 1)
    ranks = torch.arange(groups * degree).view(groups, ring, ulysses)
    mesh = DeviceMesh(device.type, ranks, mesh_dim_names=("guidance", "ring", "ulysses"))["ring", "ulysses"]
    context = ContextParallelConfig(
        ring_degree=ring, ulysses_degree=ulysses, ring_anything=ring > 1, ulysses_anything=ulysses > 1, mesh=mesh
    )
    config = ParallelConfig(context_parallel_config=context)
    config.setup(dist.get_rank(), dist.get_world_size(), device, mesh=mesh)
    return Share(config)


def _tell(*order: Any) -> None:
    dist.broadcast_object_list([order], src=0)


def _listen() -> Any:
    order = [None]
    try:
        dist.broadcast_object_list(order, src=0)
    except RuntimeError as error:  # the leader is gone: nothing is left to do
        log.warning("The leading process is gone: %s", str(error).splitlines()[0])
    return order[0]


def _spread(tensor: torch.Tensor | None, device: torch.device) -> torch.Tensor:
    """The leader's `tensor`, on `device` of every process."""
    known = [None if tensor is None else (tuple(tensor.shape), tensor.dtype)]
    dist.broadcast_object_list(known, src=0)
    shape, dtype = known[0]
    received = torch.empty(shape, dtype=dtype, device=device) if tensor is None else tensor.contiguous()
    dist.broadcast(received, src=0)
    return received if tensor is None else tensor


def _spread_clip(clip: ClipConditions | None, device: torch.device) -> ClipConditions:
    """The leader's `clip`, on every process."""

    def part(name: str, number: int | None = None) -> torch.Tensor:
        value = None if clip is None else getattr(clip, name)
        return _spread(value if number is None or value is None else value[number], device)

    received = {field.name: part(field.name) for field in fields(ClipConditions) if field.name != "rotary"}
    other = ClipConditions(**received, rotary=(part("rotary", 0), part("rotary", 1)))
    return other if clip is None else clip
