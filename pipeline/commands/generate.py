"""`generate`: one video, made here and now."""

import argparse
import errno
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import InvalidRequest, ModelUnavailable, disk_full_explained
from pipeline.events import (
    ClipReady,
    Event,
    Finished,
    FramesDecoded,
    ModelState,
    StageChanged,
    Started,
    StepDone,
    event_json,
)
from pipeline.jobs.rendering import render
from pipeline.machine import asks_first, served_entry
from pipeline.media.files import whole_or_absent
from pipeline.media.planning import plan_request
from pipeline.preflight import require_card
from pipeline.preparation import prepare_model
from pipeline.request import SIZES, ClipPlan, GenerationRequest, explained
from pipeline.settings import read_settings
from pipeline.store.progress import ProgressLog

# Options that are fields of the request, with the names of their values.
FIELDS = {
    "portrait": "FILE",
    "audio": "FILE",
    "prompt": "TEXT",
    "negative_prompt": "TEXT",
    "steps": "N",
    "guidance": "X",
    "shift": "X",
    "solver": "NAME",
    "seed": "N",
    "frames_per_clip": "N",
    "max_clips": "N",
    "audio_start": "S",
    "audio_duration": "S",
    "pose_video": "FILE",
    "sync_lead_frames": "N",
    "speed": "NAME",
    "guidance_share": "X",
}


def add_to(commands: Any) -> None:
    """Add this command's parser."""
    parser = commands.add_parser(
        "generate",
        help="make a talking video from a portrait and an audio file",
        epilog="What is not given is as said here for the 14B model; the sample model has a size, steps, guidance and "
        "shift of its own.",
    )
    for name, value in FIELDS.items():
        required = name in ("portrait", "audio")
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=value, help=_help(name), required=required)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--max-area", metavar="N", help=_help("max_area"))
    size.add_argument("--size", metavar="|".join(SIZES), dest="max_area", help="the same by name")
    parser.add_argument("--first-frame", action="store_true", default=None, help="begin with the portrait itself")
    parser.add_argument("--output", metavar="FILE.mp4", type=Path, required=True, help="the video to write")
    parser.add_argument("--model", metavar="DIR|NAME", help="the model, as the variable MODEL names it")
    parser.add_argument("--lora", metavar="FILE|DIR|OWNER/NAME/FILE", help="a LoRA, as the variable LORA names it")
    parser.add_argument("--lora-strength", metavar="X", help="how strongly it counts, 1 if not given")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="of the weights; by the device if not given")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="the card if there is one, if not given")
    parser.add_argument("--frames", metavar="FILE.npy", type=Path, help="also write every generated frame, uncut")
    parser.add_argument("--json", action="store_true", help="print one event per line as JSON")
    parser.set_defaults(run=run)


def _help(name: str) -> str:
    default = GenerationRequest.model_fields[name].get_default()
    return f"{explained(name)}; {default} if not given" if isinstance(default, int | float) else explained(name)


def run(options: argparse.Namespace) -> int:
    """Make the video; its file, and that of the frames, appear when they are whole."""
    own = {name: getattr(options, name) for name in ("model", "lora", "lora_strength")}
    settings = read_settings({name: value for name, value in own.items() if value is not None})
    entry = served_entry(settings)
    request = _request(options, entry.defaults)
    output = _writable(options.output, ".mp4")
    frames_path = _writable(options.frames, ".npy") if options.frames else None
    for hint in plan_request(request, settings.max_audio_seconds).hints:
        print(hint, file=sys.stderr)
    if options.device != "cpu":
        require_card(entry)
    model = prepare_model(entry, settings, _model_printer(), options.device, options.dtype, asks_first(settings))
    tell = _print_json if options.json else _print_progress
    with (
        whole_or_absent(frames_path) if frames_path else nullcontext() as part,
        disk_full_explained(output.parent),
        _working_folder(output.parent) as folder,
    ):
        frames = FrameFile(part) if part else None
        for event in render(model.generate, request, Path(folder), on_frames=frames.add if frames else None):
            if isinstance(event, Started) and frames:
                frames.begin(event.plan)
            if isinstance(event, Finished):
                os.replace(event.video, output)
                event = Finished(output)
            tell(event)
    return 0


@contextmanager
def _working_folder(parent: Path) -> Iterator[str]:
    """A folder in `parent` that is gone at the end. Raises InvalidRequest where there cannot be one."""
    try:
        folder = tempfile.TemporaryDirectory(prefix=".video-", dir=parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InvalidRequest(f"The folder {parent} cannot be written to; give a file in another one.") from error
    with folder as name:
        yield name


def _request(options: argparse.Namespace, defaults: Mapping[str, Any]) -> GenerationRequest:
    given = {name: getattr(options, name) for name in (*FIELDS, "max_area", "first_frame")}
    return GenerationRequest.parse({**defaults, **{name: v for name, v in given.items() if v is not None}})


@dataclass(frozen=True)
class FrameFile:
    """All generated frames in one .npy file, uint8 (T, H, W, 3), written as they come. Raises DiskFull."""

    path: Path

    def begin(self, plan: ClipPlan) -> None:
        """Write what comes before the frames of `plan`."""
        shape = (plan.generated_frames, plan.height, plan.width, 3)
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        with disk_full_explained(self.path.parent), self.path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)

    def add(self, frames: np.ndarray) -> None:
        """The next frames. Written, not mapped: a full disk under a mapped file ends the process."""
        with disk_full_explained(self.path.parent), self.path.open("ab") as file:
            file.write(np.ascontiguousarray(frames).data)


def _writable(path: Path, suffix: str) -> Path:
    if path.suffix.lower() != suffix:
        raise InvalidRequest(f"{path.name} is not accepted as the file to write; give a name that ends in {suffix}.")
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InvalidRequest(f"The folder {folder} cannot be written to; give a file in a folder that exists.")
    return path.absolute()


def _print_json(event: Event) -> None:
    print(json.dumps(event_json(event)), flush=True)


def _model_printer() -> Callable[[ModelState], None]:
    """What tells how far the model is, on stderr. A download that nobody asked for is refused."""
    printed = ProgressLog(partial(print, file=sys.stderr))

    def show(state: ModelState) -> None:
        if state.state == "asking":
            raise ModelUnavailable(
                f"{state.message.rstrip('.')}; run `python -m pipeline download` to have it fetched."
            )
        printed.note(state, time.monotonic())

    return show


def _print_progress(event: Event) -> None:
    match event:
        case Started(plan, seed):
            clips = "1 clip" if plan.clips == 1 else f"{plan.clips} clips"
            print(f"{clips}, {plan.width}x{plan.height}, {plan.frames} frames; seed {seed}")
        case StageChanged(stage, clip):
            print(f"{f'clip {clip}: ' if clip else ''}{stage}")
        case StepDone(clip, step, steps):
            print(f"clip {clip}: step {step} of {steps}")
        case FramesDecoded():
            pass
        case ClipReady(clip, clips, _, frames):
            print(f"clip {clip} of {clips} is done, {frames} frame{'s' if frames > 1 else ''} so far")
        case Finished(video):
            print(f"The video is in {video}")
