"""Pictures of any sizes, and large files among them, as batches that a model takes."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from foveal.geometry import PaddedImages, pad_images
from foveal.scene import Scene, as_scene
from foveal.scene.files import ArraySource, Source
from foveal.scene.files.sources import Floats

BATCH_PIXELS = 2**22  # of the padded images that are looked at together outside training
BATCH_IMAGES = 1000
LARGE_PICTURE = 2**14  # pixels; of a batch of such pictures only windows become floats
Bytes = NDArray[np.uint8]  # (C, H, W), of a decoded file
Picture = Bytes | Floats | Source  # floats in [0, 1], (C, H, W), where it was prepared
T = TypeVar("T")


def on_device(pictures: list[Bytes | Floats], device: torch.device) -> PaddedImages:
    """Pictures as one padded batch of floats in [0, 1]."""
    if len({picture.dtype for picture in pictures}) > 1:
        pictures = [
            p if p.dtype == np.float32 else np.divide(p, 255, dtype=np.float32) for p in pictures
        ]
    images = pad_images([torch.from_numpy(picture) for picture in pictures])
    pixels = images.pixels.to(device)
    pixels = pixels if pixels.is_floating_point() else pixels.float().div_(255)
    return PaddedImages(pixels, images.sizes.to(device))


def stay_bytes(pictures: Sequence[Picture]) -> bool:
    """Whether pictures are decoded files so large that only windows of them become floats."""
    pixels = 0
    for picture in pictures:
        if isinstance(picture, Source) or picture.dtype != np.uint8:
            return False
        pixels += picture[0].size
    return pixels >= LARGE_PICTURE * len(pictures)


def as_sources(pictures: Sequence[Picture]) -> list[Source]:
    """Pictures as sources, those too that are decoded."""
    return [
        picture if isinstance(picture, Source) else ArraySource(np.moveaxis(picture, 0, -1))
        for picture in pictures
    ]


def as_batch(pictures: Sequence[Picture], device: torch.device) -> PaddedImages | list[Source]:
    """Pictures as a model takes them: one padded batch, or all as sources where one is a source."""
    whole = [picture for picture in pictures if not isinstance(picture, Source)]
    return on_device(whole, device) if len(whole) == len(pictures) else as_sources(pictures)


@contextmanager
def scene_of_pictures(pictures: Sequence[Picture], device: torch.device) -> Iterator[Scene]:
    """Pictures as a scene, after which the files among them are closed."""
    try:
        yield as_scene(as_batch(pictures, device))
    finally:
        close_sources(pictures)


def close_sources(pictures: Iterable[Picture]) -> None:
    """Close the files that are still open."""
    for picture in pictures:
        if isinstance(picture, Source):
            picture.close()


def height_and_width(picture: Picture) -> tuple[int, int]:
    """Of a picture, in pixels."""
    if isinstance(picture, Source):
        return picture.height, picture.width
    return picture.shape[1], picture.shape[2]


def grouped(items: Iterable[T], picture_of: Callable[[T], Picture]) -> Iterator[list[T]]:
    """Cut a stream into groups that fit memory once padded: at most 4 million pixels, if it can be.

    A source is a group by itself, so that a file that turns out to be damaged harms no other.
    ``picture_of`` gives the picture of an item.
    """
    group: list[T] = []
    height = width = 0
    for item in items:
        picture = picture_of(item)
        alone = isinstance(picture, Source)
        high, wide = height_and_width(picture)
        height, width = max(height, high), max(width, wide)
        full = len(group) >= BATCH_IMAGES or (len(group) + 1) * height * width > BATCH_PIXELS
        if group and (full or alone):
            yield group
            group, height, width = [], high, wide
        group.append(item)
        if alone:  # at once, so that no other file is open by then
            yield group
            group, height, width = [], 0, 0
    if group:
        yield group
