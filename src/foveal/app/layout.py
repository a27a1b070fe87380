"""The page, laid out with Gradio."""

from collections.abc import Sequence
from typing import Any

import gradio as gr

from foveal.app.catch import CatchTable, score
from foveal.app.draw import MOST_CLUTTER, Drawing
from foveal.app.models import Agent, Classifier, describe
from foveal.app.picture import NOTHING as NO_IMAGE
from foveal.app.picture import Viewing
from foveal.app.sessions import Session, Sessions
from foveal.app.strokes import NOTHING
from foveal.app.wording import message, static
from foveal.names import in_markdown

UPLOADS_KEPT = 3600  # seconds
QUIET: dict[str, Any] = {"show_progress": "hidden", "queue": False}


def create_page(
    classifiers: Sequence[Classifier], agents: Sequence[Agent], max_upload: int
) -> gr.Blocks:
    """The page with its three tabs; state is kept for each open page by itself.

    The largest upload is in bytes. Raises `ValueError` if there is no model of digits, or no agent
    that plays Catch.
    """
    sessions = Sessions()
    drawing, viewing = Drawing(classifiers), Viewing(classifiers)
    table = CatchTable(agents, sessions)

    def opened(request: gr.Request) -> None:
        sessions.of(request.session_hash)

    def closed(request: gr.Request) -> None:
        sessions.close(request.session_hash)

    page: gr.Blocks
    with gr.Blocks(
        title="foveal", analytics_enabled=False, delete_cache=(UPLOADS_KEPT, UPLOADS_KEPT)
    ) as page:
        gr.Markdown("# foveal\nNetworks that look at an image through a small retina.")
        with gr.Tabs():
            with gr.Tab("Draw"):
                _draw(drawing)
            with gr.Tab("Your image"):
                _picture(viewing, max_upload)
            with gr.Tab("Catch"):
                _catch(table)
        page.load(opened, api_visibility="private", **QUIET)
        page.unload(closed)
    return page


def _draw(drawing: Drawing) -> None:
    names = [model.name for model in drawing.models]
    gr.Markdown(
        "Draw a digit anywhere. It stays where you draw it, and is brought to the size of MNIST's "
        "digits; pieces of other digits are its clutter. For a model of several digits draw them "
        "apart."
    )
    with gr.Row(elem_classes="foveal-tab"):
        with gr.Column(elem_classes="foveal-given"):
            canvas = gr.HTML(
                [],
                html_template=static("pad.html"),
                js_on_load=static("pad.js"),
                elem_classes="foveal-pad",
                elem_id="pad",
            )
        with gr.Column(elem_classes="foveal-found"):
            said = gr.HTML(message(NOTHING), elem_id="draw-answer")
            shown = _gaze("draw-gaze")
        with gr.Column(elem_classes="foveal-settings"):
            model = _model_choice(names, "draw-model")
            pieces = drawing.clutter(names[0])
            clutter = gr.Slider(
                0, MOST_CLUTTER, pieces, step=1, label="Pieces of clutter", elem_id="draw-clutter"
            )
            seed = gr.Number(0, visible=False, precision=0)
            again = gr.Button("Other clutter, another first look", elem_id="draw-again")
    inputs, outputs = [canvas, model, clutter, seed], [said, shown]
    look: dict[str, Any] = {"fn": drawing, "inputs": inputs, "outputs": outputs, **QUIET}
    canvas.input(api_name="draw", api_visibility="undocumented", trigger_mode="always_last", **look)
    clutter.release(api_visibility="private", trigger_mode="always_last", **look)
    changed = model.input(drawing.clutter, model, clutter, api_visibility="private", **QUIET)
    changed.then(api_visibility="private", **look)
    moved = again.click(lambda number: number + 1, seed, seed, api_visibility="private", **QUIET)
    moved.then(api_visibility="private", **look)


def _picture(viewing: Viewing, max_upload: int) -> None:
    names = [model.name for model in viewing.models]
    with gr.Row(elem_classes="foveal-tab"):
        with gr.Column(elem_classes="foveal-given"):
            file = gr.File(label="Image", type="filepath", height=140, elem_id="picture-file")
            # Gradio's example of an upload, which nothing here uses, names another host.
            file.example_payload = file.example_value = lambda: None  # type: ignore[method-assign]
        with gr.Column(elem_classes="foveal-found"):
            said = gr.HTML(
                message(NO_IMAGE),
                js_on_load=static("limit.js"),
                elem_id="picture-answer",
                max_upload=max_upload,
            )
            shown = _gaze("picture-gaze")
        with gr.Column(elem_classes="foveal-settings"):
            model = _model_choice(names, "picture-model")
            fit = gr.Checkbox(False, label="Scale it down to the size of the training images")
            invert = gr.Checkbox(False, label="Ink on paper: make dark light")
    inputs, outputs = [file, model, fit, invert], [said, shown]
    file.change(viewing, inputs, outputs, api_visibility="private", **QUIET)
    for part in (model, fit, invert):
        part.input(viewing, inputs, outputs, api_visibility="private", **QUIET)


def _catch(table: CatchTable) -> None:
    def watch(request: gr.Request) -> dict[str, Any]:
        return table.deal(table.sessions.of(request.session_hash), against=False)

    def play(request: gr.Request) -> dict[str, Any]:
        return table.deal(table.sessions.of(request.session_hash), against=True)

    def judge(played: Any, request: gr.Request) -> str:
        return table.judge(table.sessions.of(request.session_hash), played)

    gr.Markdown(
        "A ball falls; the paddle should be under it when it lands. The agent sees only what its "
        "fovea brings: one look before each move, in the squares. You see everything. The agent "
        f"{describe(table.agent.name) or 'is your own'}."
    )
    with gr.Row():
        watching = gr.Button("Watch the agent", size="md", min_width=120, elem_id="catch-watch")
        playing = gr.Button(
            "Play against it", variant="primary", size="md", min_width=120, elem_id="catch-play"
        )
    game = gr.HTML(
        None, html_template=static("catch.html"), js_on_load=static("catch.js"), elem_id="board"
    )
    said = gr.HTML(score(Session()), elem_id="catch-score")
    watching.click(watch, None, game, api_name="watch", api_visibility="undocumented", **QUIET)
    playing.click(play, None, game, api_name="play", api_visibility="undocumented", **QUIET)
    game.submit(judge, game, said, api_name="judge", api_visibility="undocumented", **QUIET)


def _model_choice(names: list[str], name: str) -> gr.Dropdown:
    about = "; ".join(f"{in_markdown(one)}: {said}" for one in names if (said := describe(one)))
    return gr.Dropdown(names, value=names[0], label="Model", info=about, elem_id=name)


def _gaze(name: str) -> gr.HTML:
    """A frame for a scanpath to step through."""
    frame = '<div class="foveal-gaze"></div>'
    return gr.HTML(None, html_template=frame, js_on_load=static("gaze.js"), elem_id=name)
