"""The tab "Draw": digits by hand, clutter round them, and where a model looks."""

import time
from collections.abc import Sequence
from typing import Any

from foveal.app.models import Classifier, named
from foveal.app.strokes import SIDE, compose, read_strokes
from foveal.app.wording import Gaze, answer, gaze_value, message
from foveal.tasks import CanvasTask, TaskConfig

MOST_CLUTTER = 16  # pieces
Shown = tuple[str, Gaze | None]  # the answer or a message, as HTML; and the scanpath


class Drawing:
    """What happens between the last stroke and the answer of the models that read digits.

    Raises `ValueError` if none does.
    """

    def __init__(self, models: Sequence[Classifier]) -> None:
        self.models = [model for model in models if model.reads_digits]
        if not self.models:
            raise ValueError("drawing needs a model of digits; there is none.")
        self._tasks = {model.name: _canvas(model) for model in self.models}

    def clutter(self, name: str) -> int:
        """How many pieces a model was trained among."""
        model = named(self.models, name)
        return 0 if model.task is None else model.task.num_clutter

    def __call__(self, drawing: Any, name: str, num_clutter: float, seed: float) -> Shown:
        """The answer to the strokes of a drawing, and its scanpath; or a message, and nothing.

        The seed is that of the clutter, of so many pieces of other digits, and of the first look.
        """
        start = time.perf_counter()
        try:
            model = named(self.models, name)
            strokes = read_strokes(drawing)
            count = min(max(int(num_clutter), 0), MOST_CLUTTER)
            reads = (1, 1) if model.task is None else model.task.num_digits
            image = compose(self._tasks[model.name], strokes, count, int(seed), reads)
        except ValueError as problem:
            return message(str(problem)), None
        path = model.look(image, int(seed), "your drawing")
        shown = gaze_value(path)
        return answer(path, time.perf_counter() - start), shown


def _canvas(model: Classifier) -> CanvasTask:
    """Canvases like the model's, with clutter cut of digits that are always there."""
    assert model.task is not None
    side = max(model.task.canvas_size, SIDE)
    piece = model.task.clutter_size
    return CanvasTask(
        TaskConfig(digits="uci", canvas_size=side, num_clutter=MOST_CLUTTER, clutter_size=piece)
    )
