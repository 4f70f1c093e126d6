"""`generate`: one video, made here and now."""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import InvalidRequest, disk_full_explained
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
from pipeline.machine import served_entry
from pipeline.media.planning import plan_request
from pipeline.preparation import prepare_model
from pipeline.request import SIZES, ClipPlan, GenerationRequest
from pipeline.settings import read_settings
from pipeline.store.progress import describe

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
}


def add_to(commands: Any) -> None:
    """Add this command's parser."""
    parser = commands.add_parser("generate", help="make a talking video from a portrait and an audio file")
    for name, value in FIELDS.items():
        description = GenerationRequest.model_fields[name].description
        required = name in ("portrait", "audio")
        parser.add_argument(f"--{name.replace('_', '-')}", metavar=value, help=description, required=required)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--max-area", metavar="N", help=GenerationRequest.model_fields["max_area"].description)
    size.add_argument("--size", metavar="|".join(SIZES), dest="max_area", help="the same by name")
    parser.add_argument("--first-frame", action="store_true", default=None, help="start from the portrait itself")
    parser.add_argument("--output", metavar="FILE.mp4", type=Path, required=True, help="the video to write")
    parser.add_argument("--model", metavar="DIR|NAME", help="the model, as the variable MODEL names it")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="of the weights; by the device if not given")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="the card if there is one, if not given")
    parser.add_argument("--frames", metavar="FILE.npy", type=Path, help="also write every generated frame, uncut")
    parser.add_argument("--json", action="store_true", help="print one event per line as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Make the video; its file, and that of the frames, appear when they are whole."""
    settings = read_settings()
    if options.model is not None:
        settings = settings.model_copy(update={"model": options.model})
    entry = served_entry(settings)
    request = _request(options, entry.defaults)
    output = _writable(options.output, ".mp4")
    frames_path = _writable(options.frames, ".npy") if options.frames else None
    for hint in plan_request(request, settings.max_audio_seconds).hints:
        print(hint, file=sys.stderr)
    model = prepare_model(entry, settings, _print_model, options.device, options.dtype)
    tell = _print_json if options.json else _print_progress
    with disk_full_explained(output.parent), tempfile.TemporaryDirectory(prefix=".video-", dir=output.parent) as folder:
        frames = FrameFile(Path(folder) / "frames.npy")
        events = render(model.generate, request, Path(folder), on_frames=frames.add if frames_path else None)
        for event in events:
            if isinstance(event, Started) and frames_path:
                frames.begin(event.plan)
            if isinstance(event, Finished):
                os.replace(event.video, output)
                event = Finished(output)
            tell(event)
        if frames_path:
            shutil.move(frames.path, frames_path)
    return 0


def _request(options: argparse.Namespace, defaults: Mapping[str, Any]) -> GenerationRequest:
    given = {name: getattr(options, name) for name in (*FIELDS, "max_area", "first_frame")}
    return GenerationRequest.parse({**defaults, **{name: v for name, v in given.items() if v is not None}})


class FrameFile:
    """All generated frames in one .npy file, uint8 (T, H, W, 3), written as they come."""

    def __init__(self, path: Path):
        self.path = path
        self.filled = 0

    def begin(self, plan: ClipPlan) -> None:
        """Make room for the frames of `plan`."""
        shape = (plan.generated_frames, plan.height, plan.width, 3)
        self.array = np.lib.format.open_memmap(self.path, "w+", np.uint8, shape)

    def add(self, frames: np.ndarray) -> None:
        """The next frames."""
        self.array[self.filled : self.filled + len(frames)] = frames
        self.filled += len(frames)
        self.array.flush()


def _writable(path: Path, suffix: str) -> Path:
    if path.suffix.lower() != suffix:
        raise InvalidRequest(f"{path.name} is not accepted as the file to write; give a name that ends in {suffix}.")
    folder = path.absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InvalidRequest(f"The folder {folder} cannot be written to; give a file in a folder that exists.")
    return path.absolute()


def _print_json(event: Event) -> None:
    print(json.dumps(event_json(event)), flush=True)


def _print_model(state: ModelState) -> None:
    print(describe(state), file=sys.stderr)


def _print_progress(event: Event) -> None:
    match event:
        case Started(plan, seed):
            print(f"{plan.clips} clips, {plan.width}x{plan.height}, {plan.frames} frames; seed {seed}")
        case StageChanged(stage, clip):
            print(f"{f'clip {clip}: ' if clip else ''}{stage}")
        case StepDone(clip, step, steps):
            print(f"clip {clip}: step {step} of {steps}")
        case FramesDecoded():
            pass
        case ClipReady(clip, clips, _, frames):
            print(f"clip {clip} of {clips} is done, {frames} frames so far")
        case Finished(video):
            print(f"The video is in {video}")
