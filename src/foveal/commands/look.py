"""``foveal look``: a picture of what a model looked at."""

from __future__ import annotations

from pathlib import Path

import torch
import tyro
from torch import Tensor

from foveal.commands import choose_device, load_model, parse, print_json, say, task_shown
from foveal.geometry import PaddedImages
from foveal.scanpath import draw, follow, save_picture
from foveal.tasks import CanvasTask, FolderTask
from foveal.tasks.pictures import read_picture


def run(arguments: list[str]) -> None:
    parse(look, "look", arguments)


def look(
    model: tyro.conf.Positional[str],
    image: tyro.conf.Positional[Path | None] = None,
    out: Path = Path("look.png"),
    index: int = 0,
    task: str | None = None,
    digits: str | None = None,
    num_glimpses: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    json: bool = False,
) -> None:
    """Draw where a model looked: numbered fixations, the glimpses as seen, the belief after each.

    Args:
        model: a run directory, a saved model, or the name of a pretrained one (foveal models).
        image: an image file; an image of the task's test split if not given.
        out: the picture to write, a PNG.
        index: which test image.
        task: the task whose test images to show; the one it was trained on if not given.
        digits: mnist, uci, or a path; the model's own if not given.
        num_glimpses: looks at the image; as in training if not given.
        seed: of the random first location.
        device: cpu, cuda or auto.
        json: print the answer and the locations as one JSON object.
    """
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out must be a .png file; got {str(out)!r}.")
    place = choose_device(device)
    network, content = load_model(model, place)
    if image is None:
        data = task_shown(
            network, content, Path(model), place, task=task, changes={"digits": digits}
        )
        picture, label = _test_image(data, index)
        classes = data.classes
    else:
        picture, label = read_image(image, network.config.num_channels).to(place), None
        known = content.get("classes") or range(network.config.num_classes)
        classes = tuple(str(name) for name in known)
    generator = torch.Generator(place).manual_seed(seed)
    path = follow(
        network,
        picture,
        classes=classes,
        label=label,
        num_glimpses=num_glimpses,
        generator=generator,
    )
    save_picture(draw(path), out)
    if json:
        print_json(
            {
                "answer": classes[path.answer],
                "label": None if label is None else classes[label],
                "probabilities": path.probabilities[-1].tolist(),
                "locations": path.centers.tolist(),
                "pixels_read": network.count_pixels_read(num_glimpses),
                "out": str(out),
            }
        )
        return
    truth = "" if label is None else f" (it is {classes[label]})"
    say(
        f"{out}: {len(path.centers)} looks, answer {classes[path.answer]}{truth}, "
        f"probability {path.probabilities[-1].max():.2f}"
    )


def _test_image(data: CanvasTask | FolderTask, index: int) -> tuple[Tensor, int]:
    total = data.size("test")
    if not 0 <= index < total:
        raise ValueError(f"--index must be 0 to {total - 1}; got {index}.")
    for images, labels in data.fixed_batches("test"):
        if index < len(labels):
            one = images.image(index) if isinstance(images, PaddedImages) else images[index]
            if not isinstance(one, Tensor):
                raise ValueError(f"test image {index} is too large to be drawn whole.")
            return one, int(labels[index])
        index -= len(labels)
    raise AssertionError("the batches cover the split")


def read_image(path: Path, num_channels: int) -> Tensor:
    """An image file as ``(C, H, W)`` float in [0, 1], grey or RGB as the model takes.

    Raises:
        OSError: if the file is missing.
        ValueError: if it is not an image, or the model takes neither 1 nor 3 channels.
    """
    return torch.from_numpy(read_picture(path, num_channels)).float() / 255
