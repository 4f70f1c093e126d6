"""`download`: fetch the model now, so that later starts find it; `--verify` compares every byte."""

import argparse
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline.errors import InvalidRequest
from pipeline.events import ModelState
from pipeline.machine import named_entry
from pipeline.settings import Settings, read_settings
from pipeline.store.catalogue import DEFAULT_MODEL, VARIANTS, ModelEntry
from pipeline.store.obtain import Files, obtain_files
from pipeline.store.progress import describe, follow
from pipeline.store.verify import verify_model


def add_to(commands: Any) -> None:
    """Add this command's parser."""
    parser = commands.add_parser("download", help="fetch the model's files, or verify them")
    parser.add_argument(
        "--model", metavar="NAME", help=f"OWNER/NAME[@REVISION], or MODEL if not given, else {DEFAULT_MODEL}"
    )
    parser.add_argument(
        "--variant", metavar="V", help=f"{', '.join(VARIANTS)}; MODEL_VARIANT if not given, else {VARIANTS[0]}"
    )
    parser.add_argument("--dir", metavar="DIR", type=Path, help="where models are kept; as MODEL_CACHE_DIR")
    parser.add_argument("--verify", action="store_true", help="read every file, name the bad ones and mend them")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Fetch the model with a bar on the terminal; prints where it is, and with --verify what was mended."""
    given = {"model": options.model, "model_variant": options.variant, "model_cache_dir": options.dir}
    settings = read_settings({name: value for name, value in given.items() if value is not None})
    entry = named_entry(settings.model, settings)
    if entry.folder is not None:
        raise InvalidRequest(f"{entry.name} is a folder on this machine: there is nothing to download.")
    with Bar() as bar:
        files = follow(obtain_files(entry, settings), bar.show)
    if options.verify:
        _verify(entry, files, settings)
    print(files.folder)
    if files.gguf is not None:
        print(files.gguf)
    return 0


def _verify(entry: ModelEntry, files: Files, settings: Settings) -> None:
    with Bar() as bar:
        mended = follow(verify_model(entry, files.folder, settings), bar.show)
        if entry.weights is not None and entry.weights.repository is not None:
            mended += follow(verify_model(entry.weights, files.gguf.parent, settings), bar.show)
    for name in mended:
        print(f"{name} was damaged and has been fetched again.")
    if not mended:
        print("Every file is what the repository has.")


class Bar:
    """Bytes done of bytes in all on the terminal; where there is no terminal the log tells the same."""

    def __enter__(self) -> "Bar":
        self._bar = tqdm(unit="B", unit_scale=True, dynamic_ncols=True, disable=not sys.stderr.isatty())
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, state: ModelState) -> None:
        """Show `state`."""
        self._bar.total = state.bytes_total or None
        self._bar.n = state.bytes_done
        self._bar.set_description(describe(ModelState(state.state, state.model, file=state.file)), refresh=False)
        self._bar.refresh()
