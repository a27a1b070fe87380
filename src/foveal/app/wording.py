"""What the tabs say and show, as HTML."""

import html
from pathlib import Path

from foveal.viz.page import DIGITS, page
from foveal.viz.scanpath import Scanpath

STATIC = Path(__file__).with_name("static")
Gaze = dict[str, str]


def static(name: str) -> str:
    """The text of a file that the page is made of."""
    return (STATIC / name).read_text(encoding="utf-8")


def gaze_value(path: Scanpath) -> Gaze:
    """A scanpath to step through, as ``static/gaze.js`` takes it: a page to be framed."""
    return {"page": page([[path]], "Where the model looks")}


def answer(path: Scanpath, seconds: float) -> str:
    """The answer in words, and how long the server took for it."""
    name = html.escape(path.names(path.answers) or "nothing")
    chance = round(path.chance, DIGITS)
    looks = len(path.centers)
    return (
        f'<p class="foveal-answer" role="status" data-answer="{name}" data-looks="{looks}">'
        f"<strong>{name}</strong>, {100 * chance:.1f} %, after {looks} looks "
        f"<small>({1000 * seconds:.0f} ms)</small></p>"
    )


def message(text: str) -> str:
    """What went wrong and what to do."""
    return f'<p class="foveal-message" role="alert">{html.escape(text)}</p>'
