"""`bench`: how fast this machine is at what costs time; `bench load` is the start of the model."""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.benchmarks.loading import Loading, measure_loading
from pipeline.errors import InvalidRequest
from pipeline.settings import read_settings
from pipeline.store.disk_space import require_space
from pipeline.store.locations import can_be_written
from pipeline.store.progress import in_units

SMALLEST_GB = 0.05


def add_to(commands: Any) -> None:
    """Add this command's parser."""
    parser = commands.add_parser("bench", help="measure how fast this machine is")
    sections = parser.add_subparsers(required=True, metavar="SECTION")
    load = sections.add_parser("load", help="a start on a checkpoint of noise, against a plain read of its files")
    load.add_argument("--size-gb", metavar="N", type=float, default=5.0, help="of the checkpoint, 5 if not given")
    load.add_argument(
        "--dir", metavar="DIR", type=Path, help="on the disk to measure; the one for temporary files if not given"
    )
    load.add_argument("--dtype", choices=("float32", "bfloat16"), help="of the weights; by the device if not given")
    load.add_argument("--device", choices=("cpu", "cuda"), help="the card if there is one, if not given")
    load.add_argument("--json", action="store_true", help="print the figures as JSON")
    load.set_defaults(run=run_load)


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
