"""`bench`: how fast this machine is at what costs time.

`bench load` is the start of the model, `bench steps` the transformer, `bench parts` what is around it, and `bench ways`
compares the ways that are faster and not exact.
"""

import argparse
import json
import math
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.benchmarks.loading import Loading, measure_loading
from pipeline.errors import InvalidRequest
from pipeline.machine import cards, served_entry
from pipeline.request import GenerationRequest
from pipeline.settings import read_settings
from pipeline.store.disk_space import require_space
from pipeline.store.locations import can_be_written
from pipeline.store.obtain import obtain_model
from pipeline.store.progress import follow, in_units

if TYPE_CHECKING:
    from pipeline.benchmarks.steps import StepFigures, TransformerSize

SMALLEST_GB = 0.05
SMALLEST_AREA = 4096  # pixels
SMALL_LATENTS = (20, 32, 32)  # what is measured where no size is given and there is no card


def add_to(commands: Any) -> None:
    """Add this command's parser."""
    parser = commands.add_parser("bench", help="measure how fast this machine is")
    sections = parser.add_subparsers(required=True, metavar="SECTION")
    load = sections.add_parser("load", help="a start on a checkpoint of noise, against a plain read of its files")
    load.add_argument("--size-gb", metavar="N", type=float, default=5.0, help="of the checkpoint, 5 if not given")
    load.add_argument(
        "--dir", metavar="DIR", type=Path, help="on the disk to measure; the one for temporary files if not given"
    )
    _add_common(load, run_load)
    _add_steps(sections)
    _add_parts(sections)
    _add_ways(sections)


def _add_common(section: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> None:
    section.add_argument("--dtype", choices=("float32", "bfloat16"), help="of the weights; by the device if not given")
    section.add_argument("--device", choices=("cpu", "cuda"), help="the card if there is one, if not given")
    section.add_argument("--json", action="store_true", help="print the figures as JSON")
    section.set_defaults(run=run)


def _add_steps(sections: Any) -> None:
    steps = sections.add_parser("steps", help="a pass of the transformer, with random weights")
    steps.add_argument("--shape", choices=("14b", "small"), help="14b on a card, small on a CPU, if not given")
    for name, what in (("dim", "width"), ("heads", "attention heads"), ("layers", "blocks"), ("ffn", "inner width")):
        steps.add_argument(f"--{name}", metavar="N", type=int, help=f"{what}, other than the shape's")
    steps.add_argument("--size", metavar="480p|704p|720p", nargs="+", default=[], help="of the video, one row for each")
    steps.add_argument("--latents", metavar="FxHxW", help="frames, rows and columns in the place of a size")
    steps.add_argument("--opening", action="store_true", help="as in an opening clip, without the tokens of the motion")
    steps.add_argument("--configuration", metavar="NAME", default="exact", help="exact if not given")
    steps.add_argument("--compare", metavar=("A", "B"), nargs=2, help="two configurations, one after the other")
    steps.add_argument("--repeats", metavar="N", type=int, default=3, help="passes after one to warm up; 3")
    _add_common(steps, run_steps)


def _add_parts(sections: Any) -> None:
    parts = sections.add_parser("parts", help="text, speech and the video autoencoder of a model that is there")
    parts.add_argument("--model", metavar="DIR|NAME", help="the model, as the variable MODEL names it")
    parts.add_argument("--size", metavar="480p|704p|720p|AREA", help="of the video; the model's own if not given")
    parts.add_argument("--audio-seconds", metavar="S", type=float, default=10.0, help="of audio, 10 if not given")
    _add_common(parts, run_parts)


def _add_ways(sections: Any) -> None:
    ways = sections.add_parser("ways", help="the faster ways that are not exact: what they save, and what they cost")
    ways.add_argument("--portrait", metavar="FILE", required=True, help="a picture")
    ways.add_argument("--audio", metavar="FILE", required=True, help="an audio file with a voice")
    ways.add_argument("--model", metavar="DIR|NAME", help="the model, as the variable MODEL names it")
    ways.add_argument("--size", metavar="480p|704p|720p|AREA", help="of the video; the model's own if not given")
    ways.add_argument("--steps", metavar="N", default="20", help="of each clip, 20 if not given")
    ways.add_argument("--clips", metavar="N", default="2", help="2 if not given")
    ways.add_argument("--frames-per-clip", metavar="N", default="80", help="80 if not given")
    _add_common(ways, run_ways)


def run_load(options: argparse.Namespace) -> int:
    """Write a checkpoint, measure a start on it, remove it, and print the figures."""
    place = options.dir or Path(tempfile.gettempdir())
    if not options.size_gb >= SMALLEST_GB:
        raise InvalidRequest(f"size-gb: {options.size_gb} is not accepted; give {SMALLEST_GB} or more.")
    if not place.is_dir() or not can_be_written(place):
        raise InvalidRequest(f"dir: {place} is not accepted; give a folder that can be written to.")
    size = int(options.size_gb * 1e9)
    for _ in require_space(place, size, read_settings().model_volume_gb):
        pass
    from pipeline.benchmarks.synthetic_checkpoint import write_checkpoint

    with tempfile.TemporaryDirectory(prefix="bench-", dir=place) as folder:
        write_checkpoint(Path(folder), size)
        measured = measure_loading(Path(folder), options.device, options.dtype)
    figures = asdict(measured) | {name: getattr(measured, name) for name in ("ratio", "reading_ratio", "allowed_bytes")}
    print(json.dumps(figures) if options.json else "\n".join(_table(measured)))
    return 0


def _table(loading: Loading) -> Iterator[str]:
    plain = sum(loading.plain_read_s) / 2
    both = " and ".join(f"{seconds:.1f}" for seconds in loading.plain_read_s)
    yield f"files            {in_units(loading.files_bytes)}, dropped from memory before each reading (posix_fadvise)"
    yield f"plain read       {plain:6.1f} s   {in_units(loading.files_bytes / plain)}/s (before and after: {both} s)"
    yield f"start to ready   {loading.ready_s:6.1f} s   {loading.ratio:.2f} times the plain read"
    yield f"  libraries      {loading.libraries_s:6.1f} s   until the first weights"
    weights_s = loading.ready_s - loading.libraries_s
    yield f"  weights        {weights_s:6.1f} s   {loading.reading_ratio:.2f} times the plain read"
    if loading.disk_bytes is not None:
        yield f"  from the disk  {in_units(loading.disk_bytes):>8}   the rest was in memory"
    if loading.peak_bytes is not None:
        over = loading.peak_bytes - loading.weights_bytes
        yield (
            f"peak memory      {in_units(loading.peak_bytes):>8}   the weights, {in_units(loading.weights_bytes)}, and "
            f"{in_units(over)}; in order up to {in_units(loading.allowed_bytes)}"
        )


def run_steps(options: argparse.Namespace) -> int:
    """Measure each configuration on each size and print a table, or JSON."""
    from pipeline.benchmarks.steps import CONFIGURATIONS, PRESETS, StepBench, Workload
    from pipeline.model.placement import choose_placement

    names = options.compare or [options.configuration]
    for name in names:
        _check_choice("configuration", name, CONFIGURATIONS)
    for size in options.size:
        _check_choice("size", size, PRESETS)
    if not 1 <= options.repeats <= 100:
        raise InvalidRequest(f"repeats: {options.repeats} is not accepted; give a whole number from 1 to 100.")
    placement = choose_placement("resident", options.device, options.dtype)
    on_card = placement.device.type == "cuda"
    latents = [_latents(options.latents)] if options.latents else [PRESETS[size] for size in options.size]
    latents = latents or (list(PRESETS.values()) if on_card else [SMALL_LATENTS])
    bench = StepBench(_transformer_size(options, on_card), placement.device, placement.dtype, options.repeats)
    rows = []
    if not options.json:
        print("\n".join(_machine(placement.describe())))
        print(STEP_HEADER)
    for each in latents:
        for name in names:
            rows.append(bench.measure(name, Workload(each, with_motion=not options.opening)))
            if not options.json:
                print(_step_row(rows[-1]), flush=True)
    if options.json:
        print(json.dumps({"machine": list(_machine(placement.describe())), "rows": [_step_figures(r) for r in rows]}))
    return 0


def run_parts(options: argparse.Namespace) -> int:
    """Measure the parts around the transformer and print them."""
    from pipeline.benchmarks.parts import measure_parts

    if not 0.2 <= options.audio_seconds <= 86_400:
        raise InvalidRequest(f"audio-seconds: {options.audio_seconds:g} is not accepted; give seconds from 0.2 on.")
    settings = read_settings({} if options.model is None else {"model": options.model})
    entry = served_entry(settings)
    latents = _latents_of(options.size or str(entry.defaults.get("max_area", "480p")))
    chosen = {"device": options.device, "dtype": options.dtype}
    figures = measure_parts(entry, settings, latents, options.audio_seconds, **chosen)
    if options.json:
        print(json.dumps([asdict(each) for each in figures]))
    else:
        print("\n".join(f"{f.what:32} {f.seconds:8.2f} s   peak {in_units(f.peak_bytes)}" for f in figures))
    return 0


def _latents_of(size: str) -> tuple[int, int, int]:
    """The latents of a clip of a size by name, or of a square of so many pixels. Raises InvalidRequest."""
    from pipeline.benchmarks.steps import PRESETS

    if size in PRESETS:
        return PRESETS[size]
    if not size.isdecimal() or int(size) < SMALLEST_AREA:
        accepted = f"{', '.join(PRESETS)}, or an area in pixels, {SMALLEST_AREA} or more"
        raise InvalidRequest(f"size: {size!r} is not accepted; give {accepted}.")
    side = math.isqrt(int(size)) // 16 * 2
    return (SMALL_LATENTS[0], side, side)


def run_ways(options: argparse.Namespace) -> int:
    """Make the same video in each way and print what differs."""
    settings = read_settings({} if options.model is None else {"model": options.model})
    entry = served_entry(settings)
    if entry.weights is not None:
        raise InvalidRequest(
            "bench ways needs the model's own weights: leave GGUF out, and MODEL_VARIANT but for bf16."
        )
    given = {name: getattr(options, name) for name in ("portrait", "audio", "steps", "frames_per_clip")}
    size = {} if options.size is None else {"max_area": options.size}
    values = {**entry.defaults, **given, **size, "max_clips": options.clips, "seed": 1, "guidance": 4.5}
    request = GenerationRequest.parse(values)
    from pipeline.benchmarks.approximations import measure_ways
    from pipeline.model.placement import choose_placement

    folder: Path = follow(obtain_model(entry, settings), lambda _: None)
    placement = choose_placement(settings.memory, options.device, options.dtype)
    rows = []
    for row in measure_ways(folder, placement, request):
        rows.append(row)
        if not options.json:
            print(
                f"{row.way:30} {row.steps_s:8.2f} s   {row.speed_up:5.2f} times as fast   "
                f"{row.levels:7.3f} of 255 away, at most {row.farthest}",
                flush=True,
            )
    if options.json:
        print(json.dumps([asdict(row) for row in rows]))
    return 0


def _check_choice(option: str, value: str, accepted: Iterable[str]) -> None:
    if value not in accepted:
        raise InvalidRequest(f"{option}: {value!r} is not accepted; give {' or '.join(accepted)}.")


def _latents(text: str) -> tuple[int, int, int]:
    match = re.fullmatch(r"(\d{1,3})x(\d{1,3})x(\d{1,3})", text)
    numbers = tuple(map(int, match.groups())) if match else ()
    if not numbers or not 1 <= numbers[0] <= 40 or any(side % 8 or not 8 <= side <= 160 for side in numbers[1:]):
        raise InvalidRequest(
            f"latents: {text!r} is not accepted; give FxHxW, up to 40 frames and sides that are multiples of 8 up to "
            "160, such as 20x32x32."
        )
    return numbers


def _transformer_size(options: argparse.Namespace, on_card: bool) -> "TransformerSize":
    from pipeline.benchmarks.steps import SMALL, TransformerSize

    base = SMALL if (options.shape or ("14b" if on_card else "small")) == "small" else TransformerSize()
    own = {"dim": options.dim, "heads": options.heads, "layers": options.layers, "ffn_dim": options.ffn}
    size = replace(base, **{name: value for name, value in own.items() if value is not None})
    if min(size.dim, size.heads, size.layers, size.ffn_dim) < 1 or size.dim % (2 * size.heads) or size.dim % 4:
        raise InvalidRequest("dim: give positive sizes, and a width that the heads divide into even parts.")
    return size


def _machine(placement: str) -> Iterator[str]:
    import platform

    import diffusers
    import torch

    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__, "Python": platform.python_version()}
    yield f"{placement}; {', '.join(f'{name} {version}' for name, version in versions.items())}"
    for card in cards():
        yield f"{card.name}, {in_units(card.memory_bytes)}, driver {card.driver}"
    if not torch.cuda.is_available():
        yield f"{platform.machine()}, {torch.get_num_threads()} threads"


STEP_HEADER = (
    "configuration  latents     tokens   s/pass  s per s of video   peak memory   attention product convolution rest"
    "   TFLOP/s  of a plain product   times its heavy operations alone (processor time)"
)


def _step_row(row: "StepFigures") -> str:
    shares = " ".join(
        f"{100 * row.shares.get(kind, 0):5.1f} %" for kind in ("attention", "product", "convolution", "rest")
    )
    return (
        f"{row.configuration:14} {'x'.join(map(str, row.latents)):10} {row.tokens:7} {row.pass_s:8.3f} "
        f"{row.usual_s_per_video_s:17.1f} {in_units(row.peak_bytes):>13}   {shares}   {row.flops_per_s / 1e12:7.3f} "
        f"{100 * row.of_plain:17.1f} %   {row.over_alone:.3f} ({row.processor_over_alone:.3f})"
    )


def _step_figures(row: "StepFigures") -> dict[str, Any]:
    derived = ("pass_s", "over_alone", "processor_over_alone", "flops_per_s", "of_plain", "usual_s_per_video_s")
    return asdict(row) | {name: getattr(row, name) for name in derived}
