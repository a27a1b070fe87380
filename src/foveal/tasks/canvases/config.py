"""What a task of digits on canvases is made of (Mnih et al. 2014, §4.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from foveal.names import Range, check_fields
from foveal.tasks.augmentation import AugmentationConfig

LARGEST_CANVAS = 131_072  # pixels a side
MOST_COVER = 20  # times that clutter may cover a canvas; nothing is to be seen long before


@dataclass(frozen=True)
class TaskConfig:
    """A classification task: which digits, on what canvas.

    Raises:
        ValueError: when made, if a value makes no sense.
    """

    digits: str = "mnist"  # "mnist", "uci", or the path of IDX files or of an image folder
    canvas_size: int = 0  # pixels a side; 0 for the digit alone, filling the image
    smallest_canvas: int = 0  # training canvases have random sizes from this up; 0: all alike
    num_clutter: int = 0  # pieces of other digits on the canvas
    clutter_size: int = 8  # pixels a side of each piece
    vary_clutter: bool = False  # on each canvas from none to num_clutter pieces, evenly
    clutter_from: Literal["all", "others"] = "all"  # digits it is cut from; others: other classes
    digit_scales: tuple[float, float] = (1.0, 1.0)  # a digit's magnification, evenly from and to
    composition: Literal["add", "over"] = "add"  # clutter adds to the digit's light, or is under it
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)  # of the digits

    def __post_init__(self) -> None:
        check_fields(
            self,
            canvas_size=Range(0, LARGEST_CANVAS, "0 is the digit alone."),
            smallest_canvas=Range(0, LARGEST_CANVAS),
            num_clutter=Range(0, 10**9),
            clutter_size=Range(1, LARGEST_CANVAS),
            digit_scales=Range(1 / 16, 16),
        )
        if self.digit_scales[0] > self.digit_scales[1]:
            raise ValueError(
                f"digit_scales must be the least and the most; got {self.digit_scales}. Pass them "
                "in that order."
            )
        if self.digit_scales != (1, 1) and not self.canvas_size:
            raise ValueError(
                f"digits of several sizes need a canvas: got digit_scales {self.digit_scales} and "
                "canvas_size 0. Pass --canvas-size 100, say."
            )
        if self.smallest_canvas and not 0 < self.smallest_canvas <= self.canvas_size:
            raise ValueError(
                f"smallest_canvas must be 0 (all canvases alike) or at most canvas_size, "
                f"{self.canvas_size}; got {self.smallest_canvas}."
            )
        if self.num_clutter and not self.canvas_size:
            raise ValueError(
                f"clutter needs a canvas: got num_clutter {self.num_clutter} and canvas_size 0. "
                "Pass --canvas-size 60, say."
            )
        most = MOST_COVER * self.canvas_size**2 // self.clutter_size**2
        if self.num_clutter > most > 0:
            raise ValueError(
                f"num_clutter must be at most {most:,}, pieces that cover a canvas of "
                f"{self.canvas_size} x {self.canvas_size} pixels {MOST_COVER} times over; got "
                f"{self.num_clutter:,}."
            )
