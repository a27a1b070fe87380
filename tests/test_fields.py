from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from foveal.names import Range, check_fields, positive


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5


@dataclass(frozen=True)
class Outer:
    size: int = 3
    share: float = 0.5
    plain: float = 1.0
    flag: bool = True
    word: str = "a"
    kind: Literal["x", "y"] = "x"
    pair: tuple[int, int] = (1, 2)
    values: tuple[float, ...] = ()
    maybe: str | None = None
    inner: Inner = field(default_factory=Inner)

    def __post_init__(self) -> None:
        advice = "Fewer."
        share = Range(0, 0.5, above=True)
        check_fields(self, size=Range(1, 1000, advice), share=share, values=positive(9))


@pytest.mark.parametrize(
    "values",
    [
        {"size": 1000, "share": 0.5, "plain": -3, "values": (1, 2.5), "maybe": "b", "kind": "y"},
        {"size": 1, "share": 1e-9, "pair": (-5, 10**12), "flag": False, "word": ""},
    ],
)
def test_what_fits_is_taken(values: dict[str, Any]) -> None:
    Outer(**values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"size": 0}, r"size must be a whole number from 1 to 1,000; got 0\. Fewer\.$"),
        ({"size": 10**9}, "size .* got 1000000000"),
        ({"size": 2.0}, r"size must be a whole number .* got 2\.0"),
        ({"size": True}, "size must be a whole number .* got True"),
        ({"size": "3"}, "size must be a whole number .* got '3'"),
        ({"share": 0}, r"share must be a number above 0 and at most 0\.5; got 0\.$"),
        ({"share": math.nan}, "share .* got nan"),
        ({"plain": math.inf}, "plain must be a number; got inf"),
        ({"plain": math.nan}, "plain must be a number; got nan"),
        ({"flag": 1}, "flag must be true or false; got 1"),
        ({"word": 3}, "word must be text; got 3"),
        ({"word": ["x" * 1000]}, r"word must be text; got \['x{55}\.\.\.\.$"),
        ({"kind": "z"}, "kind must be one of x, y; got 'z'"),
        ({"kind": []}, r"kind must be one of x, y; got \[\]"),
        ({"pair": (1,)}, r"pair must be 2 values; got \(1,\)"),
        ({"pair": (1, 10**13)}, "pair must be a whole number"),
        ({"pair": 3}, "pair must be a tuple, or in JSON a list; got 3"),
        ({"values": (1.0, 0.0)}, "values must be a number above 0 and at most 9; got 0.0"),
        ({"values": (math.nan,)}, "values .* got nan"),
        ({"maybe": 3}, "maybe must be text; got 3"),
        ({"inner": {}}, "inner must be Inner; got {}"),
        ({"inner": Inner(math.inf)}, "rate must be a number; got inf"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Outer(**values)
