"""What a task of digits hidden on a large canvas is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from foveal.names import Range, check_fields
from foveal.tasks.augmentation import AugmentationConfig

LARGEST_CANVAS = 16_384  # pixels a side
SMALLEST_CANVAS = 144  # with room for five digits that do not overlap
LARGE = 3000  # pixels a side of Megapixel MNIST with more noise
DIGITS, ALIKE = 5, 3  # on an image, and how many of them are of one class
AS_PUBLISHED = -1
Question = Literal["majority", "max", "top", "multi", "needle"]
MOST_IMAGES = 1_000_000


@dataclass(frozen=True)
class HaystackConfig:
    """Few digits on a large canvas, much else, and a question about the digits.

    Of all questions but ``needle`` an image has five digits that do not overlap, three of one class
    and two of others, among noise of two straight lines a piece. A needle is a 3, on half of the
    images, among whole digits of other classes; an image without it has one of those more.

    Raises:
        ValueError: when made, if a value makes no sense.
    """

    # majority: the class of the three; max: the largest digit; top: the one nearest the top; multi:
    # all classes that are there
    question: Question = "majority"
    digits: str = "mnist"  # "mnist", "uci", or the path of IDX files or of an image folder
    canvas_size: int = 1500  # pixels a side
    num_clutter: int = (
        AS_PUBLISHED  # pieces of noise, or other digits; -1 as published for the size
    )
    # over: digits hide what they lie on; under: noise hides digits; add: light adds up
    composition: Literal["over", "under", "add"] = "over"
    train_images: int = 5000  # a fixed draw; fewer are the first of more
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)  # of each look

    def __post_init__(self) -> None:
        least = 28 if self.question == "needle" else SMALLEST_CANVAS
        check_fields(
            self,
            canvas_size=Range(least, LARGEST_CANVAS),
            num_clutter=Range(AS_PUBLISHED, 1_000_000, "-1 is as published."),
            train_images=Range(1, MOST_IMAGES),
        )

    @property
    def ordered(self) -> bool:
        """Whether the answers have to be in the labels' order."""
        return self.question != "multi"

    @property
    def max_answers(self) -> int:
        """Most classes that an answer is of."""
        return 1 + DIGITS - ALIKE if self.question == "multi" else 1

    @property
    def pieces(self) -> int:
        """Pieces of noise, or digits beside the needle."""
        if self.num_clutter != AS_PUBLISHED:
            return self.num_clutter
        if self.question == "needle":
            return round(1600 * (self.canvas_size / 2048) ** 2)  # 2 on 64 pixels, 100 on 512
        return 50 if self.canvas_size < LARGE else 800
