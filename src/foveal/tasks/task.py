"""What training and evaluation ask of a task."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveal.names import joined
from foveal.scene import Images

SPLITS = ("train", "validation", "test")


class Shown(NamedTuple):
    """An image to be written to a file, and what it shows."""

    label: str
    squares: Sequence[tuple[int, int, int, int]]  # x, y, width and height of each digit asked about
    rows: Callable[[int, int], NDArray[np.uint8]]  # ``(height, W)``, from a first row and a height


class Task(ABC):
    """Images with labels, in three splits; a task of one's own is a subclass."""

    classes: tuple[str, ...] = ()  # names, by label
    image_size: tuple[int, int] = (0, 0)  # (height, width) in pixels, the largest of each
    max_answers: int = 1  # most labels of an image; with more than 1, they are sequences
    with_end: bool = False  # whether sequences differ in length: the last class is their end
    ordered: bool = True  # whether the answers have to be in the labels' order
    repeats: bool = False  # whether a sequence may have a class twice
    num_channels: int = 1  # of the images
    one_size: bool = True  # whether all images are of that size
    made_on_device: bool = False  # whether batches need no host: steps may be a CUDA graph
    fixed_training: bool = False  # whether the training images are one draw, too
    checksum: str = ""  # SHA-256 of what it is made of, where a run keeps nothing of that
    problems: Sequence[str] = ()  # what is wrong with images that were left out, a line each
    on_problem: Callable[[str], None] = staticmethod(lambda _: None)  # told of a later one

    @property
    def class_weights(self) -> Tensor | None:
        """``(K,)``, what an image of each class counts in training; None: all 1."""
        return None

    def told(self, labels: Iterable[int]) -> str:
        """The names of an image's labels in one line, without the end."""
        names = self.classes[:-1] if self.with_end else self.classes
        return joined((names[label] for label in labels if 0 <= label < len(names)), names)

    def shown(self, split: str, count: int, seed: int) -> Iterator[Shown]:
        """The first images of a split, as they are written to files; the seed is of fresh ones.

        Raises `NotImplementedError` of images that are files already.
        """
        raise NotImplementedError(f"{type(self).__name__} has no images to be written to files.")

    @abstractmethod
    def size(self, split: str) -> int:
        """How many images the split "train", "validation" or "test" has."""

    def ahead(self, split: str, indices: Tensor) -> None:  # noqa: B027 (most have all at hand)
        """Begin to read these images, ``(B,)``, which are those of the next `batch`."""

    @abstractmethod
    def batch(
        self, split: str, indices: Tensor, generator: torch.Generator | None
    ) -> tuple[Images, Tensor]:
        """Images in [0, 1] for B ``(B,)`` int64 indices of a split, and their ``(B,)`` labels.

        Of sequences the labels are ``(B, max_answers)``, see `foveal.model.rollout`.

        ``generator`` is the source of what is random about them; there is none if None.
        """

    def save(self, directory: Path) -> None:  # noqa: B027 (most have nothing to keep)
        """Write what of the task a run directory has to keep: nothing, unless it is one's own."""

    @abstractmethod
    def fixed_batches(self, split: str) -> Iterator[tuple[Images, Tensor]]:
        """The whole of a split in order, batch by batch, the same each time: for evaluation."""
