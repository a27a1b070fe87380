"""Names that people type: the one meant, or the nearest suggested."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def choose(name: str, known: Iterable[str], kind: str) -> str:
    """``name`` if it is known.

    Raises:
        ValueError: otherwise; suggests the nearest and lists all.
    """
    names = list(known)
    if name in names:
        return name
    near = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ValueError(f"unknown {kind} {name!r}; it must be one of {', '.join(names)}.{hint}")
