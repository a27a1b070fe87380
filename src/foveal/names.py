"""Names that people type: the one meant, or the nearest suggested."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

IMPORTED: list[str] = []  # the modules that --import named; worker processes import them too


def choose(name: str, known: Iterable[str], kind: str) -> str:
    """``name`` if it is known.

    Raises:
        ValueError: otherwise; suggests the nearest and lists all.
    """
    names = list(known)
    if name in names:
        return name
    raise ValueError(
        f"unknown {kind} {name!r}; it must be one of {', '.join(names)}.{nearest(name, names)}"
    )


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`` Did you mean ...?`` with the nearest name; nothing if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f" Did you mean {near[0]}?" if near else ""
