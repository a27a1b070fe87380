"""The tab "Your image": a file, a model, and where it looks."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from foveal.app.models import Classifier, named
from foveal.app.wording import Gaze, answer, gaze_value, message
from foveal.scene import Scene, as_scene
from foveal.scene.files import LARGE, ArraySource, Source, is_large, open_source
from foveal.tasks.folder.pictures import read_picture
from foveal.viz.scanpath import overview

NOTHING = "No image yet. Drop a file, or choose one."
ANIMATED = ("GIF", "PNG", "WEBP")


class Viewing:
    """What happens between an upload and the answer.

    Args:
        models: at least one.
    """

    def __init__(self, models: Sequence[Classifier]) -> None:
        self.models = list(models)

    def __call__(
        self, file: str | None, name: str, fit: bool, invert: bool
    ) -> tuple[str, Gaze | None]:
        """The answer to an image file, and its scanpath; or a message, and nothing.

        Args:
            file: path of the upload; None if there is none.
            name: of the model.
            fit: scale a larger image to the size of those that the model was trained on.
            invert: make dark light, for ink on paper.
        """
        start = time.perf_counter()
        if not file:
            return message(NOTHING), None
        path = Path(file)
        try:
            model = named(self.models, name)
            side = max(model.image_size) if fit and model.image_size else None
            with open_image(path, model.network.config.num_channels) as source:
                looked = model.look(prepare(source, side, invert), 0, path.name)
        except (ValueError, OSError) as problem:
            return message(str(problem).replace(str(path), path.name)), None
        shown = gaze_value(looked)
        return answer(looked, time.perf_counter() - start), shown


def open_image(path: Path, num_channels: int) -> Source:
    """An uploaded image; of a large TIFF only what is looked at will be read.

    Raises:
        OSError: if the file is not there any more.
        ValueError: if it is no image, an animation, damaged, or too large to be read whole.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is no longer on the server. Drop the file again.")
    frames = count_frames(path)
    if frames > 1:
        raise ValueError(
            f"{path} is an animation of {frames} frames; the models look at still images. "
            "Save one frame as PNG."
        )
    if is_large(path):
        return open_source(path, num_channels)
    pixels = read_picture(path, num_channels)
    return ArraySource(np.moveaxis(pixels, 0, -1), name=str(path))


def prepare(source: Source, side: int | None, invert: bool) -> Scene:
    """What the model is to look at.

    Args:
        source: the image.
        side: pixels a side that a larger one is scaled down to; None leaves it as it is.
        invert: make dark light.

    Returns:
        A scene of one image, read where it is looked at where it is too large to be read whole.

    Raises:
        ValueError: if such a one should be inverted.
    """
    scene, longest = as_scene([source]), max(source.height, source.width)
    if side is None and source.height * source.width > LARGE:
        if invert:
            raise ValueError(
                f"{source.name} is read by windows, which are not inverted. Have it scaled down, "
                "or invert the file."
            )
        return scene
    pixels = overview(scene, 0, side or longest)[None]
    return as_scene(1 - pixels if invert else pixels)


def count_frames(path: Path) -> int:
    """How many frames an animation has; 1 for anything else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that are refused when it is read
        try:
            with Image.open(path, formats=ANIMATED) as image:
                return int(getattr(image, "n_frames", 1))
        except Exception:  # decoders meet damaged files in many ways; reading it says which
            return 1
