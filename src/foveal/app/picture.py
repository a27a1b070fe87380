"""The tab "Your image": a file, a model, and where it looks."""

import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from foveal.app.models import Classifier, named
from foveal.app.wording import Gaze, answer, gaze_value, message
from foveal.scene.pictures import Picture, scene_of_pictures
from foveal.scene.preparation import Door
from foveal.tasks.folder.pictures import open_picture

CHOICES = ("“Scale it down”", "“Ink on paper”")  # the beginnings of the page's labels
NOTHING = "No image yet. Drop a file, or choose one."
ANIMATED = ("GIF", "PNG", "WEBP")


class Viewing:
    """What happens between an upload and the answer of one of the models."""

    def __init__(self, models: Sequence[Classifier]) -> None:
        self.models = list(models)

    def __call__(
        self, file: str | None, name: str, fit: bool, invert: bool
    ) -> tuple[str, Gaze | None]:
        """The answer to an image file, and its scanpath; or a message, and nothing."""
        start = time.perf_counter()
        if not file:
            return message(NOTHING), None
        path = Path(file)
        try:
            model = named(self.models, name)
            unlike: list[str] = []
            door = Door(model.network.about, fit, invert, unlike.append, CHOICES)
            picture = door(open_image(path, model.network.config.num_channels), path.name)
            with scene_of_pictures([picture], torch.device("cpu")) as scene:
                looked = model.look(scene, 0, path.name)
        except (ValueError, OSError) as problem:
            return message(str(problem).replace(str(path), path.name)), None
        said = answer(looked, time.perf_counter() - start)
        return said + "".join(map(message, unlike)), gaze_value(looked)


def open_image(path: Path, num_channels: int) -> Picture:
    """An uploaded image; of a large TIFF only what is looked at will be read.

    Raises `OSError` if the file is not there any more, and `ValueError` if it is no image, an
    animation, damaged, or too large to be read whole.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path} is no longer on the server. Drop the file again.")
    frames = count_frames(path)
    if frames > 1:
        raise ValueError(
            f"{path} is an animation of {frames} frames; the models look at still images. "
            "Save one frame as PNG."
        )
    return open_picture(path, num_channels)


def count_frames(path: Path) -> int:
    """How many frames an animation has; 1 for anything else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes that are refused when it is read
        try:
            with Image.open(path, formats=ANIMATED) as image:
                return int(getattr(image, "n_frames", 1))
        except Exception:  # decoders meet damaged files in many ways; reading it says which
            return 1
