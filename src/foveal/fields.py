"""The fields of configurations: each of its type, finite, and within its range."""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from typing import Any, Literal, NamedTuple

LARGEST = 10**12  # that a whole number may be where no range says otherwise


class Range(NamedTuple):
    """What a number may be.

    Attributes:
        low, high: the least and the most.
        advice: a sentence on what to do otherwise.
        above: whether it must be more than ``low``.
        below: whether it must be less than ``high``.
    """

    low: float
    high: float
    advice: str = ""
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number is in the range; what is not a number is not."""
        low = value > self.low if self.above else value >= self.low
        return low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        if not (self.above or self.below):
            return f"from {_plain(self.low)} to {_plain(self.high)}"
        low = f"above {_plain(self.low)}" if self.above else f"at least {_plain(self.low)}"
        return f"{low} and {'below' if self.below else 'at most'} {_plain(self.high)}"


SEEDS = Range(0, 2**32)
WHOLE = Range(-LARGEST, LARGEST)


def positive(most: float, advice: str = "") -> Range:
    """Above 0, and at most so much."""
    return Range(0, most, advice, above=True)


def check_fields(config: Any, **ranges: Range) -> None:
    """Refuse a field of a dataclass that is not of its type, not finite, or out of its range.

    What a file says is checked by this as much as flags are. A range is that of each number of a
    tuple. Whole numbers are at most 10 to the 12 where no range is given. What is itself a
    configuration is checked too.

    Raises:
        ValueError: naming the first, with what it may be.
    """
    cls: Any = type(config)
    for name, kind in _kinds(cls).items():
        check_value(name, getattr(config, name), kind, ranges.get(name))


def check_value(name: str, value: Any, kind: Any, allowed: Range | None = None) -> None:
    """Refuse one value that is not of a type, as annotations name it; see `check_fields`.

    Raises:
        ValueError: naming it, with what it may be.
    """
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        if value not in arguments:
            listed = ", ".join(map(str, arguments))
            raise ValueError(f"{name} must be one of {listed}; got {_short(value)}.")
    elif isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        if value is not None:
            check_value(name, value, arguments[0], allowed)
    elif typing.get_origin(kind) is tuple:
        if not isinstance(value, tuple):
            raise ValueError(f"{name} must be a list; got {_short(value)}.")
        each = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        if len(each) != len(value):
            raise ValueError(f"{name} must be {len(each)} values; got {_short(value)}.")
        for part, wanted in zip(value, each, strict=True):
            check_value(name, part, wanted, allowed)
    elif kind in (int, float):
        _check_number(name, value, kind, allowed)
    elif isinstance(kind, type):
        if not isinstance(value, kind):
            words = {str: "text", bool: "true or false"}.get(kind, kind.__name__)
            raise ValueError(f"{name} must be {words}; got {_short(value)}.")
        if dataclasses.is_dataclass(value):
            check_fields(value)


def _check_number(name: str, value: Any, kind: type, allowed: Range | None) -> None:
    types_ = int if kind is int else (int, float)
    good = isinstance(value, types_) and not isinstance(value, bool)
    allowed = allowed or (WHOLE if kind is int else None)
    if good and (allowed.holds(value) if allowed else math.isfinite(value)):
        return
    number = "a whole number" if kind is int else "a number"
    where = f" {allowed}" if allowed else ""
    advice = f" {allowed.advice}" if allowed and allowed.advice else ""
    raise ValueError(f"{name} must be {number}{where}; got {_short(value)}.{advice}")


@functools.cache
def _kinds(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _plain(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.12g}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
