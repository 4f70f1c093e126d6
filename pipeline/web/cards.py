"""The parts of the page that tell how things stand, as HTML. Everything that comes from outside is escaped."""

from collections.abc import Iterable
from html import escape

from pipeline.events import ModelState
from pipeline.idle_stop import IdleState
from pipeline.jobs.status import Status
from pipeline.media.planning import PlannedRequest
from pipeline.store.catalogue import ModelEntry
from pipeline.store.progress import in_units, share_in_units

MODEL_PHASES = {
    "checking": "Checking the model's files",
    "asking": "Not downloaded yet",
    "waiting": "Waiting for another worker",
    "downloading": "Downloading the model",
    "loading": "Loading the model",
    "ready": "Ready",
    "failed": "Not ready",
}
STAGES = {
    None: "Starting",
    "text": "Reading the prompt",
    "speech": "Listening to the voice",
    "portrait": "Looking at the portrait",
    "denoise": "Drawing the frames",
    "decode": "Developing the frames",
    "encode": "Writing the video",
}
MOVING = ("checking", "waiting", "downloading", "loading")
ENDINGS = {"finished": "Finished", "failed": "Failed", "cancelled": "Cancelled"}
SHARE_OF_STEPS = 0.9  # in the bar of a clip
NOTHING_YET = "Your video appears here."


def model_card(state: ModelState, entry: ModelEntry) -> str:
    """The model and how far it is from being usable."""
    parts = [
        f'<div class="card model {state.state}" role="status"><div class="line">',
        f"<strong>{escape(entry.title)}</strong>",
        f'<span class="badge">{MODEL_PHASES[state.state]}</span></div>',
    ]
    if state.bytes_total and state.state in MOVING:
        parts += [_bar(state.bytes_done / state.bytes_total), _note(_progress_of(state))]
    elif state.state in MOVING:
        parts.append(_bar(None))
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


def job_card(status: Status | None, ahead: int = 0) -> str:
    """How far a job is; `ahead` jobs come before one that waits."""
    if status is None:
        return f'<div class="card job none"><p class="note">{NOTHING_YET}</p></div>'
    title, notes, share = _told(status, ahead)
    return (
        f'<div class="card job {status.state}" role="status"><div class="line"><strong>{title}</strong>'
        f'<span class="clip">{_clip_of(status)}</span></div>{_bar(share)}{_note(notes)}</div>'
    )


def _told(status: Status, ahead: int) -> tuple[str, list[str], float]:
    """The card's title, its notes, and the share of the work that is done."""
    seed = [] if status.seed is None else [f"seed {status.seed}"]
    took = [f"{duration(status.elapsed_s)} of work"] if status.elapsed_s else []
    if status.state == "queued":
        return "In the queue", [_place(status, ahead)], _share_done(status)
    if status.state == "running":
        return STAGES[status.stage], list(_running_notes(status)), _share_done(status)
    if status.state == "finished":
        return "Finished", took + seed, 1.0
    why = [] if status.state == "cancelled" else [status.message]
    kept = ["the clips that are done are kept"] if status.state == "cancelled" and status.clip > 1 else []
    return ENDINGS[status.state], why + kept + took, _share_done(status)


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
        return f"{status.clips} {'clip' if status.clips == 1 else 'clips'}"
    return f"clip {max(status.clip, 1)} of {status.clips}"


def _share_done(status: Status) -> float:
    """Of all clips. The steps are most of one; what follows them has no counters."""
    if not status.clips or not status.steps or not status.clip:
        return 0.0
    return (status.clip - 1 + SHARE_OF_STEPS * status.step / status.steps) / status.clips


def plan_line(planned: PlannedRequest, expected_work_s: float | None) -> str:
    """What a request comes to, and what the user may want to know before."""
    plan = planned.plan
    clips = f"{plan.clips} {'clip' if plan.clips == 1 else 'clips'}"
    text = f"{planned.audio.seconds:.1f} s of audio: {clips}, {plan.width}x{plan.height}, {plan.frames} frames"
    if expected_work_s is None:
        text += "; how long that takes is known after the first video"
    else:
        text += f"; it takes about {duration(expected_work_s)}"
    hints = "".join(f"<li>{escape(hint)}</li>" for hint in planned.hints)
    return f'<div class="plan"><p>{text}</p>{f"<ul>{hints}</ul>" if hints else ""}</div>'


def plan_hint(text: str) -> str:
    """What is still missing."""
    return f'<div class="plan"><p class="note">{escape(text)}</p></div>'


def plan_error(sentence: str) -> str:
    """What is wrong with the request."""
    return f'<div class="plan wrong" role="alert"><p>{escape(sentence)}</p></div>'


def _bar(share: float | None) -> str:
    """A bar of which `share` (0 to 1) is done; None: nobody knows how much."""
    if share is None:
        return '<div class="bar unknown" role="progressbar"><div></div></div>'
    percent = f"{round(100 * min(max(share, 0.0), 1.0), 1):g}"
    return f'<div class="bar" role="progressbar" aria-valuenow="{percent}"><div style="width: {percent}%"></div></div>'


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
