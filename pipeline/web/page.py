"""The page: a form, one button, and how things stand.

Work is never done in the page's events: they submit jobs and look at them. Each look is a request of its own (no
stream), so a page behind whatever proxy, after whatever break, is right again a moment later.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr

from pipeline.web.cards import gallery, job_card, model_card, notice_line, plan_error, plan_hint, plan_line
from pipeline.web.endpoints import add_endpoints
from pipeline.web.form import build_advanced, build_inputs, build_presets, example_pairs
from pipeline.web.presets import presets
from pipeline.web.studio import MORE_NAMES, Studio, told_to_user, uploaded_file
from pipeline.web.view import BUSY_SECONDS, REMEMBERED_JOBS, View, known_jobs, look

TITLE = "Talking video"
ASSETS = Path(__file__).parents[2] / "assets"
STYLE = ASSETS / "style.css"
SYSTEM_FONTS = [gr.themes.Font(name) for name in ("ui-sans-serif", "system-ui", "sans-serif")]
FIXED_FONTS = [gr.themes.Font(name) for name in ("ui-monospace", "monospace")]
THEME = gr.themes.Default(primary_hue="teal", neutral_hue="slate", font=SYSTEM_FONTS, font_mono=FIXED_FONTS).set(
    button_primary_background_fill="*primary_700",  # white on it reads well; on the theme's own it does not
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover_dark="*primary_800",
    body_text_color_subdued="*neutral_600",
    block_info_text_color="*neutral_600",
    input_placeholder_color="*neutral_500",
    checkbox_border_color="*neutral_400",
    checkbox_border_color_dark="*neutral_500",
)
NOTHING_TO_PLAN = plan_hint("Add a portrait and audio: what will be made of them is told here.")
SETTINGS_READ = "The form has the settings of that video now; portrait and audio are as they were."
FILES_MISSING = "Add a portrait and audio first."
PLAYER_SKELETON = (
    '<div class="player"><p class="note">Your video appears here, clip by clip.</p><img alt="" hidden>'
    '<video controls playsinline preload="metadata" aria-label="The video" hidden></video></div>'
    '<p class="unseen" role="status"></p>'
)
KEPT_SECONDS = 86_400  # that an upload or a video lies in Gradio's cache; the jobs keep their own copies
FOLLOWERS = 40  # that Gradio lets run at once besides those that follow the jobs of a full queue

# On a phone the job's card is below the form: bring it into view, unless the form is what has to be mended.
SHOW_JOB = """() => {
  if (document.querySelector(".plan.wrong")) return;
  document.getElementById("job").scrollIntoView({behavior: "smooth", block: "nearest"});
}"""
SHOW_FORM = '() => document.getElementById("inputs").scrollIntoView({behavior: "smooth", block: "nearest"})'
ASK_TO_DELETE = '(shown, _) => [shown, confirm("Delete this video and all that is kept of it?")]'
NOW = "(_, ...values) => [performance.now(), ...values]"
# The jobs of a browser lie in its storage, where all its tabs find those of each other. A page keeps what it knows as
# well, and puts back what is missing: two tabs that store at once can lose one's job, and a page that is shown inside
# another may have no storage.
KNOWN_JOBS = f"""((own) => {{
  let stored = [];
  try {{
    stored = JSON.parse(localStorage.getItem("talking-video-jobs"));
  }} catch {{}}
  stored = Array.isArray(stored) ? stored.filter((job) => job?.job) : [];
  const isStored = (job) => stored.some((other) => other.job === job.job);
  const missing = own.filter((job) => !isStored(job));
  const jobs = [...missing, ...stored].sort((one, other) => other.at - one.at).slice(0, {REMEMBERED_JOBS});
  if (jobs.some((job) => missing.includes(job))) {{
    try {{
      localStorage.setItem("talking-video-jobs", JSON.stringify(jobs));
    }} catch {{}}
  }}
  return jobs;
}})"""
WITH_JOBS = f"(own, ...values) => [{KNOWN_JOBS}(own), ...values]"
REMEMBER = f"""(own, job) => {{
  const isKnown = !job || own.some((other) => other.job === job);
  return [{KNOWN_JOBS}(isKnown ? own : [{{job, at: Date.now() / 1000}}, ...own])];
}}"""
QUIET = {"queue": False, "show_progress": "hidden", "api_visibility": "private", "preprocess": False}


def build_page(studio: Studio) -> gr.Blocks:
    """The page that serves `studio`."""
    with _without_routes():
        with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, KEPT_SECONDS)) as page:
            add_endpoints(studio)  # first: a name that an event of the page had taken would get a number
            Page(studio, page)
        page.max_threads = studio.queue.max_queue + FOLLOWERS  # each /generate that is followed holds one of these
        return page.queue()


@contextmanager
def _without_routes() -> Iterator[None]:
    """Spare Gradio to build a page's routes three times: those that are served are built where it is mounted."""
    create = gr.routes.App.create_app
    gr.routes.App.create_app = staticmethod(lambda *_, **__: None)
    try:
        yield
    finally:
        gr.routes.App.create_app = staticmethod(create)


class Turns:
    """Whose answer counts where a browser asks for several at once: that of the last, by the browser's own clock.

    Requests overtake each other on their way, and so do the answers.
    """

    def __init__(self) -> None:
        self._last = 0.0

    def note(self, asked: float) -> None:
        """Somebody has asked at `asked`."""
        self._last = max(self._last, asked)

    def is_last(self, asked: float) -> bool:
        """Whether nobody is known to have asked after that."""
        return asked >= self._last


class Page:
    """The parts of the page, and what happens when they are used."""

    def __init__(self, studio: Studio, blocks: gr.Blocks) -> None:
        self.studio = studio
        self.jobs = gr.JSON([], visible=False)  # of this browser, as far as this page has them
        self.shown = gr.State(None)  # what is steady of the View of this page
        self.laid_out = gr.State(None)  # the same, once the page has it
        # Whether the job that is shown has: what it measured makes plans better. A state would tell no changes.
        self.ended = gr.Checkbox(visible="hidden")
        self.chosen = gr.Textbox(visible=False)  # the id of the job that its visitor wants to see
        self.turns = gr.State(Turns())  # of the plans
        self.asked = gr.Number(0, visible=False)  # when a plan was asked for
        self.timer = gr.Timer(BUSY_SECONDS)
        self._build_top()
        with gr.Row(elem_id="columns"):
            with gr.Column(min_width=320):
                self._build_form()
            with gr.Column(min_width=320):
                self._build_result()
        self._wire_form()
        self._wire_result(blocks)

    def _build_top(self) -> None:
        with gr.Row(elem_id="top"):
            gr.HTML(f"<h1>{TITLE}</h1>", elem_id="title", js_on_load=_script("wording.js", "clicks.js"))
            self.model = gr.HTML(model_card(self.studio.worker.model_state, self.studio.entry), elem_id="model")
            self.go_on = gr.Button("Try again", visible=False, elem_id="go-on", min_width=120, scale=0)
        if self.studio.entry.notice:
            gr.HTML(notice_line(self.studio.entry), elem_id="notice")
        with gr.Row(elem_id="idle", visible=self.studio.idle is not None):
            self.idle = gr.HTML("")
            self.stay = gr.Button("Keep it running", visible=False, elem_id="stay", min_width=160, scale=0)

    def _build_form(self) -> None:
        defaults = self.studio.defaults
        inputs = build_inputs(defaults)
        self.preset = build_presets()
        inputs |= build_advanced(defaults)
        self.form = {name: inputs[name] for name in MORE_NAMES}
        self.plan = gr.HTML(NOTHING_TO_PLAN, elem_id="plan")
        self.generate = gr.Button("Generate", variant="primary", elem_id="generate")
        self.examples = gr.Examples(
            example_pairs(),
            [self.form["portrait"], self.form["audio"]],
            label="Or click an example: it starts at once",
            elem_id="examples",
            cache_examples=False,
            api_visibility="private",
        )

    def _build_result(self) -> None:
        self.job = gr.HTML(job_card(None), elem_id="job")
        with gr.Row(elem_id="actions"):
            self.cancel = gr.Button("Cancel", visible=False, elem_id="cancel", min_width=110)
            self.download = gr.DownloadButton("Download", visible=False, elem_id="download", min_width=110)
        self.player = gr.HTML(PLAYER_SKELETON, elem_id="video", js_on_load=_script("player.js"))
        self.settings = gr.HTML("", elem_id="settings")
        with gr.Row(elem_id="next"):
            self.again = gr.Button("Use these settings again", visible=False, size="sm", min_width=160)
            self.more = gr.UploadButton(
                "Continue with more audio", file_types=["audio"], visible=False, size="sm", min_width=160
            )
            self.delete = gr.Button("Delete", visible=False, size="sm", min_width=80)
        # What went wrong with what the buttons above and the file below ask for.
        self.said = gr.HTML("", elem_id="said")
        gr.HTML("<h2>Your videos</h2>", elem_id="history-title")
        self.history = gr.HTML(gallery((), None), elem_id="history", js_on_load=_script("gallery.js"))
        self.dropped = gr.File(
            label="Settings from a video made here (MP4)",
            file_types=[".mp4"],
            height=150,
            elem_id="dropped",
        )
        self.sure = gr.Checkbox(visible=False)

    def _wire_form(self) -> None:
        fields = list(self.form.values())
        measured = [field.change for name, field in self.form.items() if name not in ("prompt", "negative_prompt")]
        inputs = [self.asked, self.turns, *fields]
        planning = {"fn": self.show_plan, "inputs": inputs, "outputs": self.plan, "js": NOW, **QUIET}
        gr.on([*measured, self.ended.change], **planning)
        preset = [self.form[name] for name in ("size", "steps", "max_clips")]
        self.preset.input(self.take_preset, self.preset, preset, **QUIET).then(**planning)
        gr.on([field.input for field in preset], lambda: None, None, self.preset, **QUIET)
        form = [self.said, *fields, self.preset]
        again = self.again.click(self.use_again, self.shown, form, **QUIET)
        read = self.dropped.upload(self.read_settings, self.dropped, [self.dropped, *form], **QUIET)
        for filled in (again, read):
            filled.then(**planning).then(fn=None, js=SHOW_FORM)

    def _wire_result(self, blocks: gr.Blocks) -> None:
        given = {"inputs": list(self.form.values()), "outputs": [self.chosen, self.plan]}
        submitted = [self.generate.click(self.submit, **given, **QUIET)]
        submitted.append(self.examples.load_input_event.then(self.submit, **given, **QUIET))
        longer = {"inputs": [self.shown, self.more], "outputs": [self.said, self.chosen]}
        submitted.append(self.more.upload(self.make_longer, **longer, **QUIET))
        for event in submitted:
            kept = event.then(fn=None, inputs=[self.jobs, self.chosen], outputs=self.jobs, js=REMEMBER)
            kept.then(**self._looking()).then(fn=None, js=SHOW_JOB)
        changed = [self.cancel.click(self.cancel_job, self.shown, **QUIET)]
        changed.append(self.delete.click(self.delete_job, [self.shown, self.sure], js=ASK_TO_DELETE, **QUIET))
        changed.append(self.go_on.click(self.studio.worker.go_on, **QUIET))
        changed.append(self.stay.click(self.studio.idle.stay if self.studio.idle else None, **QUIET))
        changed.append(self.history.select(choose, None, self.chosen, **QUIET))
        for event in changed:
            event.then(**self._looking())
        gr.on([blocks.load, self.timer.tick], **self._looking())
        steady = [self.idle, self.stay, self.go_on, self.cancel, self.again, self.delete, self.more, self.download]
        steady += [self.settings, self.history, self.timer, self.ended, self.laid_out]
        self.player.select(lay_out, [self.shown, self.laid_out], steady, **QUIET)

    def _looking(self) -> dict[str, Any]:
        inputs = [self.jobs, self.chosen, self.laid_out]
        outputs = [self.job, self.model, self.shown]
        return {"fn": self.refresh, "inputs": inputs, "outputs": outputs, "js": WITH_JOBS, **QUIET}

    def show_plan(self, asked: Any, turns: Turns, *values: Any) -> Any:
        """What the form comes to, unless it has changed meanwhile: fields change one by one, plans take a moment."""
        asked = float(asked) if isinstance(asked, int | float) else 0.0
        turns.note(asked)
        told = self._plan_told(values)
        return told if turns.is_last(asked) else gr.skip()

    def _plan_told(self, values: Iterable[Any]) -> str:
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

    def take_preset(self, name: Any) -> list[Any]:
        """The size, steps and most clips of the preset `name`; nothing changes for a name that is none."""
        values = presets(self.studio.defaults).get(str(name), {})
        return [_field(values, name) for name in ("size", "steps", "max_clips")]

    def submit(self, *values: Any) -> tuple[Any, Any]:
        """Submit what the form says: the new job, which is chosen; or what is wrong."""
        given = dict(zip(self.form, values, strict=True))
        if not given["portrait"] or not given["audio"]:
            return gr.skip(), plan_error(FILES_MISSING)
        try:
            with told_to_user():
                return self.studio.submit(given), gr.skip()
        except gr.Error as error:
            return gr.skip(), plan_error(error.message)

    def make_longer(self, shown: View | None, audio: Any) -> list[Any]:
        """Continue the video that is shown with the uploaded `audio`: the new job, which is chosen."""

        def made() -> list[Any]:
            return [self.studio.queue.continue_with(_job_of(shown), uploaded_file("audio", audio))]

        return _or_said(made, 1)

    def use_again(self, shown: View | None) -> list[Any]:
        """Fill the form with what the job that is shown was made with."""
        return _or_said(lambda: self._filled(self.studio.values_again(_job_of(shown))), len(self.form) + 1)

    def read_settings(self, video: Any) -> list[Any]:
        """Fill the form with the settings that the uploaded `video` carries; the files stay."""

        def filled() -> list[Any]:
            return self._filled(self.studio.values_in(uploaded_file("video", video)))

        said, *values = _or_said(filled, len(self.form) + 1)
        return [None, said or plan_hint(SETTINGS_READ), *values]

    def _filled(self, values: dict[str, Any]) -> list[Any]:
        """The form's values, a field that is not among `values` left alone, and no preset."""
        return [_field(values, name) for name in self.form] + [None]

    def cancel_job(self, shown: View | None) -> None:
        """Stop the job that is shown."""
        with told_to_user():
            self.studio.queue.cancel(_job_of(shown))

    def delete_job(self, shown: View | None, sure: Any) -> None:
        """Remove the job that is shown, if its visitor is `sure`."""
        if sure is True:
            with told_to_user():
                self.studio.queue.delete(_job_of(shown))

    def refresh(self, stored: Any, chosen: Any, laid_out: View | None) -> tuple[Any, Any, Any]:
        """Look: what moves is sent each time; where all else has changed, the player's script asks for that.

        To leave an output as it is costs Gradio more than to send a text, and most looks find nothing else changed.
        """
        with told_to_user():
            view = look(self.studio, known_jobs(stored), chosen)
        call = "" if view.steady == laid_out else f'<span data-changed="{time.monotonic()}" hidden></span>'
        return view.job + call, view.model, view.steady


def _script(*names: str) -> str:
    return "\n".join((ASSETS / name).read_text() for name in names)


def choose(event: gr.EventData) -> str:
    """The id of the job that was picked in the gallery."""
    return str(event._data.get("job")) if isinstance(event._data, dict) else ""


def lay_out(view: View, laid_out: View | None) -> list[Any]:
    """Change what differs from what the page has; the last is what it has then."""

    def update(name: str, made_of: Callable[[Any], Any]) -> Any:
        value = getattr(view, name)
        return gr.skip() if laid_out and getattr(laid_out, name) == value else made_of(value)

    return [
        update("idle", str),
        update("idle", lambda line: _visible(bool(line))),
        update("go_on", lambda label: gr.update(value=label or "", visible=label is not None)),
        update("active", _visible),
        update("ended", _visible),
        update("ended", _visible),
        update("whole", _visible),
        update("download", lambda video: gr.update(value=str(video) if video else None, visible=video is not None)),
        update("settings", str),
        update("history", str),
        update("next_look_s", lambda seconds: gr.update(value=seconds)),
        update("ended", bool),
        view,
    ]


def _or_said(made: Callable[[], list[Any]], count: int) -> list[Any]:
    """Nothing to say, and the `count` outputs that `made` gives; or what is wrong, and no output changed.

    An error that was raised would cover every field that is an output.
    """
    try:
        with told_to_user():
            return ["", *made()]
    except gr.Error as error:
        return [plan_error(error.message), *[gr.skip()] * count]


def _job_of(shown: View | None) -> str:
    return shown.chosen or "" if isinstance(shown, View) else ""


def _field(values: dict[str, Any], name: str) -> Any:
    """The update of the form's field `name`; a path stands for a file, and None empties a text."""
    if name not in values:
        return gr.skip()
    value = values[name]
    if value is None and name in ("audio_duration", "max_clips"):
        return ""
    return str(value) if isinstance(value, Path) else value


def _visible(is_visible: bool) -> dict[str, Any]:
    return gr.update(visible=is_visible)
