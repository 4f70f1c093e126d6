"""The heavy operations of a computation: matrix products, convolutions and attention, counted and timed alone."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry

Kind = Literal["attention", "product", "convolution"]
OTHER = "rest"
KINDS = ("attention", "product", "convolution", OTHER)
PLAIN_SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices whose product shows what a device gives


def kind_of(operation: str) -> Kind | None:
    """What kind of heavy operation a name of PyTorch's is ("aten::addmm"), None for all else."""
    name = operation.rpartition("::")[2].partition(".")[0]
    if "attention" in name:
        return "attention"
    if "convolution" in name:
        return "convolution"
    return "product" if name in ("mm", "addmm", "bmm", "baddbmm", "_scaled_mm", "_int_mm", "_weight_int8pack_mm",
                                 "mkldnn_linear", "_linear_pointwise") else None  # fmt: skip


@dataclass(frozen=True)
class TensorShape:
    """Stands for a tensor of a recorded call."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, value: Any) -> Any:
        """`value` itself where it is no tensor."""
        if not isinstance(value, torch.Tensor):
            return value
        return cls(tuple(value.shape), value.stride(), value.dtype, value.device)

    def filled(self) -> torch.Tensor:
        """A tensor of this shape and layout, its numbers drawn."""
        extent = 1 + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        values = torch.randn(extent, device=self.device).to(self.dtype)
        return values.as_strided(self.size, self.stride)


@dataclass(frozen=True)
class HeavyCall:
    """One heavy operation with the shapes of its arguments: `arguments` is hashable, positional ones then named."""

    operation: Any
    arguments: tuple[Any, ...]
    named: tuple[tuple[str, Any], ...]
    flops: int

    @property
    def kind(self) -> Kind | None:
        """What kind it is."""
        return kind_of(self.operation.name())

    def timed(self, repeats: int) -> "Taken":
        """What it takes alone, the least of `repeats` after one to warm up."""
        arguments, named = tree_map(_filled, (list(self.arguments), dict(self.named)))
        return least(timings(lambda: self.operation(*arguments, **named), repeats))


class _Recorder(TorchDispatchMode):
    """Notes the heavy operations that run inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[HeavyCall] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if kind_of(func.name()) is not None:
            flops = _flops(func, args, kwargs or {}, output)
            shapes, named = tree_map(TensorShape.of, (args, kwargs or {}))
            self.calls[HeavyCall(func, tuple(map(_hashable, shapes)), tuple(sorted(named.items())), flops)] += 1
        return output


def _flops(operation: Any, arguments: Any, named: Any, output: Any) -> int:
    """Floating-point operations of a heavy operation."""
    if kind_of(operation.name()) == "attention":  # PyTorch's own table lacks the one of the CPU
        query, key = arguments[:2]  # (B, heads, L, d)
        return 4 * query.shape[:-1].numel() * key.shape[-2] * key.shape[-1]
    count = flop_registry.get(operation.overloadpacket)
    return count(*arguments, **named, out_val=output) if count else 0


def heavy_calls(work: Callable[[], Any]) -> Counter[HeavyCall]:
    """The heavy operations of `work`, each with the number of times that it is called."""
    with torch.no_grad(), _Recorder() as recorder:  # in inference mode, compound operations would not be taken apart
        work()
    return recorder.calls


def time_alone(calls: Counter[HeavyCall], repeats: int = 3) -> "Taken":
    """What `calls` take one by one with nothing between them."""
    with torch.inference_mode():
        each = [(call.timed(repeats), count) for call, count in calls.items()]
    return Taken(
        sum(taken.wall_s * count for taken, count in each), sum(taken.processor_s * count for taken, count in each)
    )


def time_shares(work: Callable[[], Any], device: torch.device) -> dict[str, float]:
    """The shares (0 to 1) of the time of `work` by kind of operation, and the rest; by PyTorch's profiler."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with torch.inference_mode(), profile(activities=activities) as profiler:
        work()
        synchronize(device)
    spent: Counter[str] = Counter()
    for event in profiler.key_averages():
        if event.device_type == DeviceType.CPU:  # kernels are told again under the operation that started them
            own = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
            spent[kind_of(event.key) or OTHER] += own
    total = sum(spent.values())
    return {kind: time_spent / total for kind, time_spent in spent.items()}


def plain_product_rate(dtype: torch.dtype, device: torch.device, repeats: int = 5) -> float:
    """Floating-point operations a second of a plain product of large square matrices."""
    side = PLAIN_SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    with torch.inference_mode():
        return 2 * side**3 / least(timings(lambda: a @ b, repeats)).wall_s


@dataclass(frozen=True)
class Taken:
    """What some work took: seconds on the clock, and of processor time, all threads together.

    On a machine that does other things, too, the clock tells of those as well; processor time hardly does.
    """

    wall_s: float
    processor_s: float


def timings(work: Callable[[], Any], repeats: int) -> list[Taken]:
    """What each of `repeats` runs of `work` takes, after one that is not counted."""
    taken = []
    for _ in range(repeats + 1):
        _wait()
        start, processor_start = time.perf_counter(), time.process_time()
        work()
        _wait()
        taken.append(Taken(time.perf_counter() - start, time.process_time() - processor_start))
    return taken[1:]


def least(taken: list[Taken]) -> Taken:
    """The least of each kind of time."""
    return Taken(min(each.wall_s for each in taken), min(each.processor_s for each in taken))


def synchronize(device: torch.device) -> None:
    """Wait until what `device` was told to do is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _filled(value: Any) -> Any:
    return value.filled() if isinstance(value, TensorShape) else value


def _hashable(value: Any) -> Any:
    return tuple(map(_hashable, value)) if isinstance(value, (list, tuple)) else value
