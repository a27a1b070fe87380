"""What a task of digits on canvases is made of (Mnih et al. 2014, §4.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from foveal.names import Range, check_fields
from foveal.tasks.augmentation import AugmentationConfig

LARGEST_CANVAS = 131_072  # pixels a side
MOST_DIGITS = 64  # on a canvas
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
    num_digits: tuple[int, int] = (1, 1)  # on each canvas, evenly from and to
    # of several digits: anywhere, also on one another; apart; side by side in a slanted row; on
    # sites of a lattice, where some are a trail, each digit of which says where the next lies
    arrangement: Literal["anywhere", "apart", "row", "trail"] = "anywhere"
    # of the training canvases with several digits anywhere, the share on which they overlap: each
    # lies at most half a digit from the first, across and down
    overlapping: float = 0.0
    slope: int = 14  # a row rises or falls by less than so many pixels a digit
    hops: int = 4  # from the first digit of a trail to its last
    # training canvases of a trail have from so many up, if fewer than are on the trail then the
    # first of it; 0: all alike
    fewest_digits: int = 0
    distance: int = 40  # pixels across and down from a site of a trail's lattice to the next
    # class of one digit; pair of two in any order, or their sum; sequence of all classes, from left
    # to right, or of those along a trail; set, the same in any order; last, of a trail
    answer: Literal["class", "pair", "sum", "sequence", "set", "last"] = "class"
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
            num_digits=Range(1, MOST_DIGITS),
            overlapping=Range(0, 1),
            slope=Range(1, LARGEST_CANVAS),
            hops=Range(1, MOST_DIGITS - 1),
            distance=Range(1, LARGEST_CANVAS),
            fewest_digits=Range(0, MOST_DIGITS),
            digit_scales=Range(1 / 16, 16),
        )
        self._check_several()
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

    @property
    def ordered(self) -> bool:
        """Whether the answers have to be in the labels' order."""
        return self.answer != "set"

    @property
    def max_answers(self) -> int:
        """How many labels a canvas has at most."""
        if self.answer not in ("sequence", "set"):
            return 1
        return self.hops + 1 if self.arrangement == "trail" else self.num_digits[1]

    @property
    def sites(self) -> int:
        """Sites of a trail's lattice, across and down."""
        return self.canvas_size // self.distance

    @property
    def with_end(self) -> bool:
        """Whether sequences differ in length, so that there is a class for their end."""
        return self.max_answers > 1 and self.num_digits[0] < self.num_digits[1]

    def _check_several(self) -> None:
        least, most = self.num_digits
        wanted = {"class": (1, 1), "pair": (2, 2), "sum": (2, 2)}.get(self.answer, (least, most))
        if least > most:
            raise ValueError(
                f"num_digits must be the least and then the most; got {least} {most}. Pass "
                f"--num-digits {most} {least}."
            )
        if (least, most) != wanted:
            raise ValueError(
                f"num_digits must be {wanted[0]} {wanted[1]} for the answer {self.answer!r}; got "
                f"{least} {most}. --answer sequence is for any number."
            )
        trail = self.arrangement == "trail"
        if (self.answer == "last" or trail) and not (
            trail and self.answer in ("last", "sequence") and self.hops < least == most
        ):
            advice = "--arrangement trail --answer last --num-digits 24 24, say"
            if trail and self.answer not in ("last", "sequence"):
                advice = "--answer sequence, or last"
            elif trail:
                advice = "fewer --hops, or more --num-digits, as many at least as at most"
            raise ValueError(
                f"a trail of {self.hops} hops has at least {self.hops + 1} digits, always as many, "
                f"and the answer last or sequence; got arrangement {self.arrangement!r}, answer "
                f"{self.answer!r} and num_digits {least} {most}. Pass {advice}."
            )
        fewest = 2 if self.answer == "sequence" else self.hops + 1
        if self.fewest_digits and not (trail and fewest <= self.fewest_digits <= most):
            raise ValueError(
                f"fewest_digits must be 0, or of a trail from {fewest} to {most}; got "
                f"{self.fewest_digits}. Leave it out."
            )
        if self.overlapping and (most == 1 or self.arrangement != "anywhere"):
            raise ValueError(
                f"overlapping is for several digits anywhere; got {self.overlapping}, num_digits "
                f"{least} {most} and arrangement {self.arrangement!r}. Leave it out."
            )
        if most == 1:
            return
        plain = {"smallest_canvas": 0, "digit_scales": (1, 1), "clutter_from": "all"}
        changed = [name for name, value in plain.items() if getattr(self, name) != value]
        if changed or not self.canvas_size:
            name = changed[0] if changed else "canvas_size"
            raise ValueError(
                f"several digits are of one size, on canvases of one size, with clutter of all "
                f"digits; got {name} {getattr(self, name)}. "
                + ("Leave it out." if changed else "Pass --canvas-size 100, say.")
            )

    def check_room(self, digit: int) -> None:
        """Refuse a canvas without room for its digits, of so many pixels a side.

        Raises:
            ValueError: saying how large it has to be.
        """
        side, most = self.canvas_size, self.num_digits[1]
        if self.arrangement == "trail" and (self.distance < digit or self.sites**2 < most):
            raise ValueError(
                f"distance must be at least a digit's {digit} pixels, and the canvas have a site "
                f"for each digit; got {self.distance}, and {self.sites**2} sites for {most}. Pass "
                "another --distance or --canvas-size, or fewer --num-digits."
            )
        rows = {"apart": digit * -int(-(most**0.5) // 1), "anywhere": digit, "trail": digit}
        least = rows.get(self.arrangement, digit + max(self.slope, digit) * (most - 1))
        if most > 1 and side < least:
            raise ValueError(
                f"canvas_size must be at least {least} for {most} digits of {digit} pixels, "
                f"{self.arrangement}; got {side}."
            )
