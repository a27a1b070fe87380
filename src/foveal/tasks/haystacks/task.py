"""Digits hidden on large canvases, as a task: images are lists of pieces, in all splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveal.names import END
from foveal.scene import Scene
from foveal.scene.collages import Collage
from foveal.scene.memory import Budget, Kept
from foveal.scene.photographs import PhotographScene
from foveal.tasks.augmentation import AS_THEY_ARE, MovedScene, tinted
from foveal.tasks.canvases.digits import load_digits
from foveal.tasks.haystacks.config import HaystackConfig
from foveal.tasks.haystacks.drawing import Drawn, draw, patterns
from foveal.tasks.task import Shown, Task

HELD_OUT = 1000  # images of validation, and of the test
NEEDLE = "3"
BATCH, BATCH_PIXELS = 100, 2**25  # images of a fixed draw at once, and their pixels, at most


class HaystackTask(Task):
    """Images with digits hidden on them; each split is one fixed draw, of the digits' own split.

    Raises:
        ValueError: if there is no class "3" to seek, or fewer than two classes.
        OSError: if the digits cannot be read (see `foveal.tasks.canvases.digits`).
    """

    num_channels, fixed_training = 1, True

    def __init__(self, config: HaystackConfig, device: torch.device | str = "cpu") -> None:
        self.config, self.device = config, torch.device(device)
        self.digits = load_digits(config.digits)
        self.checksum = self.digits.checksum
        known = self.digits.classes
        seeks = config.question == "needle"
        if len(known) < 2 or (seeks and NEEDLE not in known):
            wanted = f"a class {NEEDLE!r} and another" if seeks else "2 classes or more"
            raise ValueError(
                f"{config.question} needs digits of {wanted}; {config.digits} has "
                f"{', '.join(known[:20])}. Pass other --digits."
            )
        self.digits.check_every_class(config.question, config.digits)
        self.needle = known.index(NEEDLE) if seeks else -1
        self.classes = ("absent", "present") if seeks else known
        self.max_answers = config.max_answers
        self.with_end, self.ordered = config.max_answers > 1, config.ordered
        if self.with_end:
            self.classes = (*known, END)
        self.image_size = (config.canvas_size, config.canvas_size)
        self.piece_size = self.digits.train.images.shape[1:]
        self._images: dict[str, list[Collage]] = {}
        self._budget = Budget()
        self._drawn: dict[str, Drawn] = {}

    def size(self, split: str) -> int:
        """Number of images in a split."""
        return self.config.train_images if split == "train" else HELD_OUT

    def drawn(self, split: str) -> Drawn:
        """What lies on the images of a split."""
        if split not in self._drawn:
            part = self.digits.split(split)
            self._drawn[split] = draw(self.config, part, self.needle, split, self.size(split))
        return self._drawn[split]

    def images(self, split: str) -> Sequence[Collage]:
        """The images of a split."""
        if split not in self._images:
            digits = self.digits.split(split).images
            bank = np.concatenate([digits, patterns(*digits.shape[1:])])
            drawn, added = self.drawn(split), self.config.composition == "add"
            self._images[split] = [
                Collage(bank, pieces, places, self.config.canvas_size, added, Kept(self._budget))
                for pieces, places in zip(drawn.pieces, drawn.places, strict=True)
            ]
        return self._images[split]

    def batch(
        self, split: str, indices: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Scene, Tensor]:
        """See `Task.batch`; what is looked at in training is moved as the augmentation says."""
        images, chosen = self.images(split), indices.tolist()
        scene: Scene = PhotographScene([images[index] for index in chosen], self.device)
        if split == "train" and self.config.augmentation != AS_THEY_ARE:
            change = self.config.augmentation
            scene = MovedScene(tinted(scene, change, generator), change, generator)
        labels = torch.from_numpy(self.drawn(split).labels[chosen])
        return scene, labels.to(self.device)

    def shown(self, split: str, count: int, _seed: int) -> Iterator[Shown]:
        """The first images of a split, as they are written to files."""
        width = slice(0, self.config.canvas_size)
        for image, places, sought, label in zip(
            self.images(split)[:count], *self.drawn(split)[1:], strict=False
        ):
            squares = [(x, y, *reversed(self.piece_size)) for y, x in places[sought].tolist()]

            def rows(top: int, height: int, image: Collage = image) -> NDArray[np.uint8]:
                band: NDArray[np.uint8] = image.read(slice(top, top + height), width)[0]
                return band

            yield Shown(self.told(np.atleast_1d(label)), squares, rows)

    def fixed_batches(self, split: str) -> Iterator[tuple[Scene, Tensor]]:
        """See `Task.fixed_batches`: as they are."""
        labels = torch.from_numpy(self.drawn(split).labels).to(self.device)
        images = self.images(split)
        count = max(1, min(BATCH, BATCH_PIXELS // self.config.canvas_size**2))
        for first in range(0, len(images), count):
            part = slice(first, first + count)
            yield PhotographScene(images[part], self.device), labels[part]
