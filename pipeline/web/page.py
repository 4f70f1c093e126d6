"""The page: a form, one button, and how things stand.

Work is never done in the page's events: they submit jobs and look at them. Each look is a request of its own (no
stream), so a page behind whatever proxy, after whatever break, is right again a moment later.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr

from pipeline.web.cards import job_card, model_card, notice_line, plan_error, plan_hint, plan_line
from pipeline.web.endpoints import add_endpoints
from pipeline.web.form import build_form, example_pairs
from pipeline.web.studio import Studio, told_to_user
from pipeline.web.view import BUSY_SECONDS, REMEMBERED_JOBS, History, KnownJob, Video, View, known_jobs, look

TITLE = "Talking video"
STYLE = Path(__file__).parents[2] / "assets" / "style.css"
SYSTEM_FONTS = [gr.themes.Font(name) for name in ("ui-sans-serif", "system-ui", "sans-serif")]
FIXED_FONTS = [gr.themes.Font(name) for name in ("ui-monospace", "monospace")]
THEME = gr.themes.Default(primary_hue="teal", neutral_hue="slate", font=SYSTEM_FONTS, font_mono=FIXED_FONTS).set(
    button_primary_background_fill="*primary_700",  # white on it reads well; on the theme's own it does not
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_600",
    body_text_color_subdued="*neutral_500",
)
NOTHING_TO_PLAN = plan_hint("Add a portrait and a voice: what will be made of them is told here.")
FILES_MISSING = "Add a portrait and a voice first."
KEPT_SECONDS = 86_400  # that an upload or a video lies in Gradio's cache; the jobs keep their own copies
FOLLOWERS = 40  # that Gradio lets run at once besides those that follow the jobs of a full queue

# On a phone the job's card is below the form: bring it into view, unless the form is what has to be mended.
SHOW_JOB = """() => {
  if (document.querySelector(".plan.wrong")) return;
  document.getElementById("job").scrollIntoView({behavior: "smooth", block: "nearest"});
}"""
QUIET = {"queue": False, "show_progress": "hidden", "api_visibility": "private", "preprocess": False}


def build_page(studio: Studio) -> gr.Blocks:
    """The page that serves `studio`."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, KEPT_SECONDS)) as page:
        add_endpoints(studio)  # first: a name that an event of the page had taken would get a number
        Page(studio, page)
    page.max_threads = studio.queue.max_queue + FOLLOWERS  # each /generate that is followed holds one of these
    return page.queue()


class Page:
    """The parts of the page, and what happens when they are used."""

    def __init__(self, studio: Studio, blocks: gr.Blocks) -> None:
        self.studio = studio
        self._build_top()
        with gr.Row(elem_id="columns"):
            with gr.Column(min_width=320):
                self._build_form()
            with gr.Column(min_width=320):
                self._build_result()
        self.jobs = gr.BrowserState([], storage_key="talking-video-jobs", secret="of this browser")
        self.shown = gr.State(None)
        self.timer = gr.Timer(BUSY_SECONDS)
        self._wire(blocks)

    def _build_top(self) -> None:
        with gr.Row(elem_id="top"):
            gr.HTML(f"<h1>{TITLE}</h1>", elem_id="title")
            self.model = gr.HTML(model_card(self.studio.worker.model_state, self.studio.entry), elem_id="model")
            self.go_on = gr.Button("Try again", visible=False, elem_id="go-on", min_width=120, scale=0)
        if self.studio.entry.notice:
            gr.HTML(notice_line(self.studio.entry), elem_id="notice")
        with gr.Row(elem_id="idle", visible=self.studio.idle is not None):
            self.idle = gr.HTML("")
            self.stay = gr.Button("Keep it running", visible=False, elem_id="stay", min_width=160, scale=0)

    def _build_form(self) -> None:
        self.form = build_form(self.studio.defaults)
        self.plan = gr.HTML(NOTHING_TO_PLAN, elem_id="plan")
        self.generate = gr.Button("Generate", variant="primary", elem_id="generate")
        self.examples = gr.Examples(
            example_pairs(),
            [self.form["portrait"], self.form["audio"]],
            label="Or click an example: it starts at once",
            cache_examples=False,
            api_visibility="private",
        )

    def _build_result(self) -> None:
        self.job = gr.HTML(job_card(None), elem_id="job")
        self.video = gr.Video(label="Video", interactive=False, height=420, elem_id="video", buttons=[])
        with gr.Row(elem_id="actions"):
            self.cancel = gr.Button("Cancel", visible=False, elem_id="cancel", min_width=120)
            self.download = gr.DownloadButton("Download", visible=False, elem_id="download", min_width=120)
        self.history = gr.Radio([], label="Your videos", visible=False, elem_id="history")

    def _wire(self, blocks: gr.Blocks) -> None:
        fields = list(self.form.values())
        measured = [field.change for name, field in self.form.items() if name not in ("prompt", "negative_prompt")]
        gr.on(measured, self.show_plan, fields, self.plan, trigger_mode="always_last", **QUIET)

        submitting = {
            "fn": self.submit,
            "inputs": [self.jobs, *fields],
            "outputs": [self.jobs, self.history, self.plan],
        }
        submitted = [self.generate.click(**submitting, **QUIET)]
        submitted.append(self.examples.load_input_event.then(**submitting, **QUIET))
        cancelled = self.cancel.click(self.cancel_job, self.history, **QUIET)
        gone_on = self.go_on.click(self.studio.worker.go_on, **QUIET)
        stayed = self.stay.click(self.studio.idle.stay if self.studio.idle else None, **QUIET)
        for event in submitted:
            event.then(**self._looking()).then(fn=None, js=SHOW_JOB)
        for event in (cancelled, gone_on, stayed):
            event.then(**self._looking())
        gr.on([blocks.load, self.timer.tick, self.history.input], **self._looking())

    def _looking(self) -> dict[str, Any]:
        seen = [self.idle, self.stay, self.model, self.go_on, self.job, self.cancel]
        seen += [self.video, self.download, self.history, self.timer]
        inputs = [self.jobs, self.history, self.shown]
        return {"fn": self.refresh, "inputs": inputs, "outputs": [*seen, self.shown], **QUIET}

    def show_plan(self, *values: Any) -> str:
        """The line that says what the form comes to, or what is wrong with it."""
        given = dict(zip(self.form, values, strict=True))
        if not given["portrait"] or not given["audio"]:
            return NOTHING_TO_PLAN
        try:
            with told_to_user():
                request = self.studio.request(given)
                planned = self.studio.plan(request)
                return plan_line(planned, self.studio.queue.expected_s(request, planned.plan))
        except gr.Error as error:
            return plan_error(error.message)

    def submit(self, stored: Any, *values: Any) -> tuple[Any, Any, Any]:
        """Submit what the form says: the browser's jobs with the new one, which is chosen; or what is wrong."""
        given = dict(zip(self.form, values, strict=True))
        if not given["portrait"] or not given["audio"]:
            return gr.skip(), gr.skip(), plan_error(FILES_MISSING)
        try:
            with told_to_user():
                job = self.studio.submit(given)
        except gr.Error as error:
            return gr.skip(), gr.skip(), plan_error(error.message)
        jobs = [KnownJob(job, time.time()), *known_jobs(stored)]
        return [asdict(job) for job in jobs[:REMEMBERED_JOBS]], job, gr.skip()

    def cancel_job(self, chosen: Any) -> None:
        """Stop the job that is shown."""
        with told_to_user():
            self.studio.queue.cancel(str(chosen))

    def refresh(self, stored: Any, chosen: Any, shown: View | None) -> list[Any]:
        """Look, and change what differs from what this page has `shown`: a video that is watched must not restart."""
        with told_to_user():
            return self._changes(look(self.studio, known_jobs(stored), chosen), shown)

    def _changes(self, view: View, shown: View | None) -> list[Any]:
        def update(name: str, made_of: Callable[[Any], Any]) -> Any:
            value = getattr(view, name)
            return gr.skip() if shown and getattr(shown, name) == value else made_of(value)

        video = update("video", self._served)

        return [
            update("idle", str),
            update("idle", lambda line: _visible(bool(line))),
            update("model", str),
            update("go_on", lambda label: gr.update(value=label or "", visible=label is not None)),
            update("job", str),
            update("active", _visible),
            video,
            update("video", lambda _: gr.update(value=video, visible=video is not None)),
            update("history", _choices),
            update("next_look_s", lambda seconds: gr.update(value=seconds)),
            view,
        ]

    def _served(self, video: Video | None) -> str | None:
        return str(self.studio.videos.copy_of(video.path)) if video else None


def _visible(is_visible: bool) -> dict[str, Any]:
    return gr.update(visible=is_visible)


def _choices(history: History) -> dict[str, Any]:
    return gr.update(choices=list(history.labels), value=history.chosen, visible=bool(history.labels))
