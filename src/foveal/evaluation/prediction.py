"""What a model answers on images of one's own: the same from Python and on the command line."""

import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from foveal.evaluation.classifier import check_answers, judging
from foveal.evaluation.stopping import Rule, StopRule, look_until_sure, rule_of
from foveal.geometry import to_pixels
from foveal.model.attention import RecurrentAttention
from foveal.model.config import check_looks
from foveal.names import SEEDS, check_value, joined
from foveal.randomness import OneForAll
from foveal.scene import Scene
from foveal.scene.files import LARGE, ArraySource, Source, naming
from foveal.scene.pictures import Picture, grouped, height_and_width, scene_of_pictures
from foveal.scene.preparation import Door, Preparation
from foveal.tasks.folder.pictures import decoded, open_picture

DIGITS = 6  # of a probability


@dataclass(frozen=True)
class Answer:
    """One of a sequence of answers, and where the model looked for it."""

    answer: str  # the likeliest class
    probabilities: dict[str, float]  # of the classes by name, the likeliest first
    locations: list[list[int]]  # (x, y) of each of its looks, in the image's pixels


@dataclass(frozen=True)
class Prediction:
    """What a model answered on an image, and where it looked."""

    file: str  # its name; empty for an image without one
    height: int  # of the image as it was given, upright, in pixels
    width: int  # likewise
    answer: str  # the likeliest class; of a sequence those of `answers`, with spaces between
    probabilities: dict[str, float]  # of the classes by name, the likeliest first; of its answer
    locations: list[list[int]]  # (x, y) of each look, in the image's pixels
    sizes: list[int]  # pixels of the image a side of the widest square that each look read
    pixels_read: int  # how many numbers the looks brought in
    answers: tuple[Answer, ...] = ()  # of a sequence, in order, without its end


@dataclass(frozen=True)
class Unread:
    """An image that could not be read, and why."""

    file: str
    problem: Exception


def predict(
    model: RecurrentAttention,
    images: Any,
    *,
    fit: bool = False,
    invert: bool = False,
    num_glimpses: int | None = None,
    seed: int = 0,
    stop: StopRule = "none",
    threshold: float | None = None,
) -> Any:
    """What a model answers on images, by the rules of ``foveal predict``.

    Args:
        model: in any mode, and left in it.
        images: a file, of any size; an array, ``(H, W)`` or ``(H, W, C)``, of bytes, 16-bit numbers
            or floats in [0, 1]; a tensor, ``(C, H, W)`` float in [0, 1]; a PIL image; an open
            source (`foveal.scene.files`), which stays open; or a list of these.
        fit: scale larger images down to the size of those that the model was trained on.
        invert: make dark light, for ink on paper.
        num_glimpses: looks at each image; as in training if None.
        seed: of the first location, where that is random: one draw for all images.
        stop: "confident" stops looking at an image when the belief in one class is as high as the
            threshold, as does a threshold alone, "learned" when the model's own stop says so
            (`foveal.evaluation.stopping`).
        threshold: above 0 and below 1; of a learned stop 0.5 if None.

    Returns:
        A `Prediction`, or a list of them for a list. A warning says in what an image is unlike
        those of training.

    Raises:
        OSError, ValueError: if an image cannot be read, ``fit`` is asked for and the model does
            not know the size, or it cannot stop so.
    """
    alone = not isinstance(images, list | tuple)
    given = [images] if alone else images
    door = Door(
        model.about,
        fit,
        invert,
        warn=lambda said: warnings.warn(said, stacklevel=2),
        flags=("fit=True", "invert=True"),
    )
    pictures = ((_name(image), _open(image, model.config.num_channels)) for image in given)
    how: dict[str, Any] = {"num_glimpses": num_glimpses, "seed": seed}
    how |= {"stop": stop, "threshold": threshold}
    found: list[Prediction] = []
    for answer in predictions(model, pictures, door, **how):
        if isinstance(answer, Unread):
            raise answer.problem
        found.append(answer)
    return found[0] if alone else found


def predictions(
    model: RecurrentAttention,
    pictures: Iterable[tuple[str, Picture | Exception]],
    door: Door,
    *,
    classes: Sequence[str] | None = None,
    num_glimpses: int | None = None,
    seed: int = 0,
    stop: StopRule = "none",
    threshold: float | None = None,
    top_k: int = 0,
) -> Iterator[Prediction | Unread]:
    """What a model answers on pictures, in batches; before each, what could not be read by then.

    Pictures are named, or why one could not be opened; the door prepares them, and sources are
    closed. There are ``classes`` if the model's own names are not wanted, and ``top_k`` of them are
    told, or all if 0. The seed is that of the first location, which is the same for all.
    """
    check_looks(num_glimpses)
    rule = rule_of(model, stop, threshold)
    check_value("seed", seed, int, SEEDS)
    names = model.classes if classes is None else classes
    unread: list[Unread] = []

    def prepared() -> Iterator[tuple[str, tuple[int, int], Picture]]:
        for name, picture in pictures:
            try:
                if isinstance(picture, Exception):
                    raise picture
                yield name, height_and_width(picture), door(picture, name or "the image")
            except (OSError, ValueError) as problem:
                unread.append(Unread(name, problem))

    for group in grouped(prepared(), lambda item: item[2]):
        yield from unread
        unread.clear()
        found: list[Prediction] = []
        try:
            asked = (seed, top_k or len(names), num_glimpses, rule, door.preparation)
            opened = [picture for *_, picture in group]
            with scene_of_pictures(opened, model.action_head.weight.device) as scene:
                found += _answers(model, scene, group, names, *asked)
        except (OSError, ValueError) as problem:
            if not isinstance(group[0][2], Source):
                raise
            yield Unread(group[0][0], problem)  # a large file, damaged where it was looked at
        yield from found
    yield from unread


def _answers(
    model: RecurrentAttention,
    scene: Scene,
    group: list[tuple[str, tuple[int, int], Picture]],
    classes: Sequence[str],
    seed: int,
    top_k: int,
    num_glimpses: int | None,
    rule: Rule | None,
    prepared: Preparation,
) -> Iterator[Prediction]:
    device, end = model.action_head.weight.device, model.config.end
    generator = OneForAll().manual_seed(seed)  # an answer does not depend on the other images
    looks: dict[str, Any] = {"num_glimpses": num_glimpses, "generator": generator}
    if rule is None and end is None:
        with judging(model):
            rollout = model(scene, **looks)
        logits, looked = rollout.answer_logits, rollout.locations
        taken = [looked.shape[1]] * len(group)
    else:
        found = look_until_sure(model, scene, **looks, **(rule._asdict() if rule else {}))
        logits = found.logits if model.config.max_answers > 1 else found.logits[:, None]
        looked, taken = found.locations.nan_to_num(), found.looks.tolist()
    check_answers(logits)
    if model.location_policy.once:
        _say_repeats([name for name, *_ in group], looked, taken)
    answers = logits.shape[1]
    each = looked.shape[1] // answers
    likeliest = logits.float().softmax(-1).topk(min(top_k, len(classes)))
    # A location is in the image as it was looked at, whose pixels are boxes of those given.
    sizes = torch.tensor([size for _, size, _ in group], device=device)
    boxes = torch.tensor([prepared.box(*size) for _, size, _ in group], device=device)[:, None]
    heights, widths = scene.sizes.to(device)[..., None].unbind(1)
    centers = to_pixels(looked, heights, widths) * boxes[..., None]
    centers = centers.minimum(sizes.flip(1)[:, None])
    sides = torch.tensor(model.sensor.patch_sizes, device=device)
    scales = model.sensor.chosen(looked)
    widest = sides[-1:] if scales is None else sides[scales]
    seen = (widest * boxes).expand(centers.shape[:2])
    values = likeliest.values.cpu().double().round(decimals=DIGITS)
    rows = (part.cpu().numpy() for part in (values, likeliest.indices, centers, seen))
    for (name, (height, width), _), count, *row in zip(group, taken, *rows, strict=True):
        # Lists one image at a time: thousands at once would keep the garbage collector busy.
        shares, labels, locations, patches = (part.tolist() for part in row)
        told = []
        for place, (labels_of, shares_of) in enumerate(zip(labels, shares, strict=True)):
            if labels_of[0] == end:
                break
            beliefs = {classes[n]: v for n, v in zip(labels_of, shares_of, strict=True)}
            own = locations[place * each : (place + 1) * each]
            told.append(Answer(classes[labels_of[0]], beliefs, own))
        answer, beliefs = joined((one.answer for one in told), classes), {}
        if answers == 1:
            beliefs, told = told[0].probabilities, []
        else:
            beliefs[answer] = round(math.prod(each[0] for each in shares[: len(told) + 1]), DIGITS)
        image = (name, height, width, answer, beliefs, locations[:count], patches[:count])
        read = model.count_pixels_read(count / answers)
        yield Prediction(*image, read, tuple(told))


def _say_repeats(names: list[str], looked: Tensor, taken: list[int]) -> None:
    """Warn of the first image that has no more places, where none is to be looked at twice."""
    for name, places, looks in zip(names, looked, taken, strict=True):
        count = len(places[:looks].unique(dim=0))
        if count < looks:
            warnings.warn(
                f"{name or 'the image'} has {count} places to be looked at; the other "
                f"{looks - count} looks fall on them again. Fewer --num-glimpses tell as much.",
                stacklevel=2,
            )
            return


def _name(image: Any) -> str:
    if isinstance(image, str | Path):
        return str(image)
    return str(getattr(image, "filename", getattr(image, "name", None)) or "")


def _open(image: Any, num_channels: int) -> Picture | Exception:
    try:
        if isinstance(image, str | Path):
            return open_picture(Path(image), num_channels)
        if hasattr(image, "levels") and hasattr(image, "read"):  # a source
            return _Borrowed(image)
        if isinstance(image, Tensor):
            image = image.detach().cpu()
            image = (image.float() if image.is_floating_point() else image).numpy()
            image = np.moveaxis(image, 0, -1) if image.ndim == 3 else image
        elif _is_tiff(image):  # which Pillow turns, or not, by how it is packed
            return open_picture(Path(image.filename), num_channels)
        elif hasattr(image, "getexif") and image.mode != "F":  # of PIL; F has floats
            with naming(_name(image) or "the image"):
                return decoded(image.copy(), num_channels)
        array = np.asarray(image)
        if not array.ndim:
            kind = type(image).__name__
            raise ValueError(f"an image must be a file, an array or a PIL image; got a {kind}.")
        source = ArraySource(array, num_channels, "the image")
        small = source.height * source.width <= LARGE
        return source.whole() if small and array.dtype == np.uint8 else source
    except (OSError, ValueError) as problem:
        return problem


def _is_tiff(image: Any) -> bool:
    """Whether this is the first page of a TIFF that Pillow has opened, and not decoded yet."""
    named = getattr(image, "format", None) == "TIFF" and Path(_name(image)).is_file()
    return named and bool(getattr(image, "tile", None)) and not image.tell()


class _Borrowed(Source):
    """A source that somebody else closes."""

    def __init__(self, source: Source) -> None:
        super().__init__(source.name, source.levels, source.num_channels, None)
        self.read = source.read  # type: ignore[method-assign]
