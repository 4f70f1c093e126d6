"""The parts of the page that tell how things stand, as HTML. Everything that comes from outside is escaped."""

import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from pipeline.events import ModelState
from pipeline.idle_stop import IdleState
from pipeline.jobs.status import Status
from pipeline.media.planning import PlannedRequest
from pipeline.request import SIZES, GenerationRequest
from pipeline.store.catalogue import ModelEntry
from pipeline.store.progress import in_units, share_in_units

MODEL_PHASES = {
    "checking": "Checking the model's files",
    "asking": "Not downloaded yet",
    "waiting": "Another program downloads the model",
    "downloading": "Downloading the model",
    "loading": "Loading the model",
    "ready": "Ready",
    "failed": "Not ready",
}
STAGES = {
    None: "Starting",
    "text": "Reading the prompt",
    "speech": "Listening to the audio",
    "portrait": "Looking at the portrait",
    "denoise": "Drawing the frames",
    "decode": "Developing the frames",
    "encode": "Writing the video",
}
MOVING = ("checking", "waiting", "downloading", "loading")
STATES = {
    "queued": "Waiting",
    "running": "In the making",
    "finished": "Finished",
    "failed": "Failed",
    "cancelled": "Cancelled",
}
SHARE_OF_STEPS = 0.9  # in the bar of a clip
NOTHING_YET = "Add a portrait and audio, or click an example; here you see how far your video is."
NO_VIDEOS_YET = "The videos that you make in this browser are listed here."
SETTING_NAMES = {
    "prompt": "Prompt",
    "negative_prompt": "Negative prompt",
    "max_area": "Size",
    "steps": "Steps",
    "guidance": "Guidance",
    "seed": "Seed",
    "solver": "Solver",
    "shift": "Shift",
    "audio_start": "Start of the audio",
    "audio_duration": "Length of the audio",
    "max_clips": "Most clips",
    "frames_per_clip": "Frames per clip",
    "sync_lead_frames": "Sync lead",
    "first_frame": "First frame",
    "speed": "Speed",
    "guidance_share": "Share of steps with guidance",
}
NAMES_ON_PAGE = SETTING_NAMES | {"portrait": "Portrait", "audio": "Audio", "pose_video": "Pose video", "size": "Size"}
LONG_NAME = re.compile(rf"\b({'|'.join(name for name in NAMES_ON_PAGE if '_' in name)})\b")  # no word of a sentence
ALWAYS_SHOWN = ("prompt", "max_area", "steps", "guidance", "seed")


@dataclass(frozen=True)
class Shown:
    """What the card of a job shows besides its status."""

    ahead: int = 0  # jobs that come before one that waits
    done: int = 0  # clips
    picture: str = ""  # the address of a picture of what the present clip is becoming, or of what has become of it
    becoming: bool = False  # the former
    video: str = ""  # the address of the video so far


def model_card(state: ModelState, entry: ModelEntry) -> str:
    """The model and how far it is from being usable."""
    parts = [
        f'<div class="card model {state.state}"><div class="line">',
        f"<strong>{escape(entry.title)}</strong>",
        f'<span class="badge">{MODEL_PHASES[state.state]}</span></div>',
    ]
    if state.bytes_total and state.state in MOVING:
        parts += [_bar(state.bytes_done / state.bytes_total, "The model"), _note(_progress_of(state))]
    elif state.state in MOVING:
        parts.append(_bar(None, "The model"))
    if state.message and state.state != "ready":
        parts.append(f'<p class="said">{escape(state.message[0].upper() + state.message[1:])}</p>')
    return "".join(parts) + "</div>"


def notice_line(entry: ModelEntry) -> str:
    """What everybody should know of the model before they use it."""
    return f'<p class="notice">{escape(entry.notice)}</p>'


def idle_line(state: IdleState) -> str:
    """When this machine is to stop, or why it goes on; nothing while there is work."""
    if state.stops_in_s is None:
        return ""
    text = f"Nothing is being done: this machine stops in {duration(state.stops_in_s)}. Videos are kept."
    if state.trouble:
        text = f"Nothing is being done, and this machine could not be stopped. {state.trouble}"
    return f'<p class="notice">{escape(text)}</p>'


def _progress_of(state: ModelState) -> Iterable[str]:
    yield share_in_units(state.bytes_done, state.bytes_total)
    if state.bytes_per_s:
        yield f"{in_units(state.bytes_per_s)}/s"
    if state.eta_s is not None:
        yield f"{duration(state.eta_s)} left"
    if state.file:
        yield state.file
    if state.attempt > 1:
        yield f"attempt {state.attempt}"


def job_card(status: Status | None, shown: Shown = Shown()) -> str:
    """How far a job is, with a picture; its data tell the player what to play."""
    if status is None:
        return f'<div class="card job none"><p class="note">{NOTHING_YET}</p></div>'
    title, notes, share = _told(status, shown)
    data = f'data-job="{status.job[:8]}" data-video="{escape(shown.video)}"'
    return (
        f'<div class="card job {status.state}" {data}>{_picture(status, shown)}<div class="told">'
        f'<div class="line"><strong>{title}</strong><span class="clip">{_clip_of(status)}</span></div>'
        f"{_bar(share, 'The video')}{_note(notes)}</div></div>"
    )


def _picture(status: Status, shown: Shown) -> str:
    if not shown.picture:
        return '<div class="picture"></div>'
    what = f"What clip {status.clip} is becoming" if shown.becoming else "A frame of the video"
    kind = "becoming" if shown.becoming else "made"
    return f'<div class="picture {kind}"><img src="{escape(shown.picture)}" alt="{what}"></div>'


def jpeg_url(jpeg: bytes) -> str:
    """An address that holds the picture itself."""
    return f"data:image/jpeg;base64,{b64encode(jpeg).decode()}"


def _told(status: Status, shown: Shown) -> tuple[str, list[str], float]:
    """The card's title, its notes, and the share of the work that is done."""
    seed = [] if status.seed is None else [f"seed {status.seed}"]
    took = [f"{duration(status.elapsed_s)} of work"] if status.elapsed_s else []
    if status.state == "queued":
        return "In the queue", [_place(status, shown.ahead)], _share_done(status)
    if status.state == "running":
        return STAGES[status.stage], list(_running_notes(status)), _share_done(status)
    if status.state == "finished":
        return "Finished", took + seed, 1.0
    why = [] if status.state == "cancelled" else [status.message]
    kept = [f"{_clips(shown.done)} of {status.clips} kept as a partial video"] if shown.done else []
    return STATES[status.state], why + kept + took, _share_done(status)


def _place(status: Status, ahead: int) -> str:
    if ahead == 0:
        return "Yours is next: it begins as soon as the model is ready."
    return f"Number {status.position} in line: {ahead} {'job comes' if ahead == 1 else 'jobs come'} before yours."


def _running_notes(status: Status) -> Iterable[str]:
    if status.stage == "denoise" and status.steps:
        yield f"step {status.step} of {status.steps}"
    if status.stage == "decode" and status.parts:
        yield f"{status.part} of {status.parts} parts decoded"
    yield f"{duration(status.elapsed_s)} so far"
    if status.eta_s is not None:
        yield f"about {duration(status.eta_s)} left"
    if status.stopping:
        yield status.message


def _clip_of(status: Status) -> str:
    if not status.clips or status.state == "queued":
        return ""
    if status.state == "finished":
        return _clips(status.clips)
    return f"clip {max(status.clip, 1)} of {status.clips}"


def _clips(count: int) -> str:
    return f"{count} {'clip' if count == 1 else 'clips'}"


def _share_done(status: Status) -> float:
    """Of all clips. The steps are most of one; what follows them has no counters."""
    if not status.clips or not status.steps or not status.clip:
        return 0.0
    return (status.clip - 1 + SHARE_OF_STEPS * status.step / status.steps) / status.clips


def settings_card(request: GenerationRequest, seed: int | None, defaults: Mapping[str, Any]) -> str:
    """What a video was made with: what matters most, and all else that is not as usual."""
    told = {name: getattr(request, name) for name in SETTING_NAMES} | {"seed": "to be drawn" if seed is None else seed}
    rows = [
        f"<div><dt>{label}</dt><dd>{escape(_in_words(name, told[name]))}</dd></div>"
        for name, label in SETTING_NAMES.items()
        if name in ALWAYS_SHOWN or told[name] != defaults.get(name)
    ]
    return f'<dl class="settings">{"".join(rows)}</dl>'


def _in_words(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "all"
    if name == "max_area":
        named = next((size for size, pixels in SIZES.items() if pixels == value), None)
        return named or f"up to {value:,} pixels"
    return f"{value:g} s" if name in ("audio_start", "audio_duration") else str(value)


@dataclass(frozen=True)
class GalleryEntry:
    """A video in the list of a browser's own."""

    status: Status
    done: int  # clips
    prompt: str
    at: float  # seconds since 1970, when it was asked for
    picture: str  # the address of its thumbnail, "" where there is none


def gallery(entries: Iterable[GalleryEntry], chosen: str | None) -> str:
    """The browser's videos, newest first, each a button; the page's script puts in the times."""
    buttons = "".join(_gallery_button(entry, entry.status.job == chosen) for entry in entries)
    return f'<div class="gallery">{buttons}</div>' if buttons else f'<p class="note">{NO_VIDEOS_YET}</p>'


def _gallery_button(entry: GalleryEntry, chosen: bool) -> str:
    status = entry.status
    picture = f'<img src="{escape(entry.picture)}" alt="">' if entry.picture else ""
    partial = status.state in ("cancelled", "failed") and entry.done
    kept = f", {entry.done} of {_clips(status.clips)} kept" if partial else ""
    pressed = json.dumps(chosen)
    return (
        f'<button type="button" class="entry {status.state}" data-job="{status.job}" aria-pressed="{pressed}">'
        f'<span class="thumb">{picture}</span><span class="text"><span class="prompt">{escape(entry.prompt)}</span>'
        f'<span class="badge">{STATES[status.state]}{kept}</span>'
        f'<time data-at="{entry.at:.0f}"></time></span></button>'
    )


def plan_line(planned: PlannedRequest, expected_work_s: float | None) -> str:
    """What a request comes to, what the model sees of the portrait, and what may disappoint.

    The time has a line of its own, known or not: nothing moves when it becomes known.
    """
    plan = planned.plan
    size = f"{plan.width}x{plan.height}"
    text = f"{planned.audio.seconds:.1f} s of audio: {_clips(plan.clips)}, {size}, {plan.frames} frames"
    time = "not known yet" if expected_work_s is None else f"about {duration(expected_work_s)}"
    hints = "".join(f"<li>{escape(hint)}</li>" for hint in planned.hints)
    words = f'<div class="words"><p>{text}</p><p>Time: {time}</p>{f"<ul>{hints}</ul>" if hints else ""}</div>'
    return f'<div class="plan">{_crop_figure(planned)}{words}</div>'


def _crop_figure(planned: PlannedRequest) -> str:
    crop, size = planned.crop, f"{planned.plan.width}x{planned.plan.height}"
    sides = {"left": crop.left, "top": crop.top, "width": crop.width, "height": crop.height}
    place = ";".join(f"{side}:{100 * share:.2f}%" for side, share in sides.items())
    alt = f"The portrait; what lies in the frame becomes the video, {size} pixels"
    picture = f'<img src="{jpeg_url(planned.sketch)}" alt="{alt}">'
    return f'<div class="crop">{picture}<span class="seen" style="{place}"></span></div>'


def plan_hint(text: str) -> str:
    """What is still missing."""
    return f'<div class="plan"><p class="note">{escape(text)}</p></div>'


def plan_error(sentence: str) -> str:
    """What is wrong with the request, in the words of the form."""
    return f'<div class="plan wrong" role="alert"><p>{escape(in_words_of_form(sentence))}</p></div>'


def in_words_of_form(sentence: str) -> str:
    """`sentence`, which names settings as programs do, with the names that they have on the page."""
    name, colon, rest = sentence.partition(": ")
    if colon and name in NAMES_ON_PAGE:
        sentence = f"{NAMES_ON_PAGE[name]}: {rest}"
    return LONG_NAME.sub(lambda found: f"“{NAMES_ON_PAGE[found[0]]}”", sentence)


def _bar(share: float | None, what: str) -> str:
    """A bar of which `share` (0 to 1) is done; None: nobody knows how much."""
    if share is None:
        return f'<div class="bar unknown" role="progressbar" aria-label="{what}"><div></div></div>'
    percent = f"{round(100 * min(max(share, 0.0), 1.0), 1):g}"
    return (
        f'<div class="bar" role="progressbar" aria-label="{what}" aria-valuenow="{percent}">'
        f'<div style="width: {percent}%"></div></div>'
    )


def _note(parts: str | Iterable[str]) -> str:
    text = parts if isinstance(parts, str) else " · ".join(parts)
    return f'<p class="note">{escape(text)}</p>'


def duration(seconds: float) -> str:
    """`seconds` in words, rounded as people would: 8 s, 4 min 10 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest and minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(round(whole / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
