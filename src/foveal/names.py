"""Words that people type: the one meant or the nearest; parts by name; text shown as it is."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from foveal.fields import check_fields

T = TypeVar("T", bound=Callable[..., Any])
# What a terminal or a picture would act on (controls, line ends, turned directions), or refuse.
CONTROLS = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
MARKDOWN = re.compile(r"[\\`*_\[\]<>&|~$#]")

IMPORTED: list[str] = []  # the modules that --import named; worker processes import them too


def import_here(module: str) -> None:
    """Import a module of the user's, from the current directory if it is there.

    Raises:
        ValueError: if it cannot be imported.
    """
    if sys.path[:1] != [str(Path.cwd())]:
        sys.path.insert(0, str(Path.cwd()))
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as problem:
        said = f"{type(problem).__name__}: {problem}"
        raise ValueError(f"{module} could not be imported. {said}") from problem


def choose(name: str, known: Iterable[str], kind: str, more: str = "") -> str:
    """``name`` if it is known.

    Args:
        name: as it was typed.
        known: the names that there are.
        kind: what they name, for the message.
        more: what else it may be, for the message.

    Raises:
        ValueError: otherwise; suggests the nearest and lists all.
    """
    names = list(known)
    if name in names:
        return name
    listed = f"{', '.join(names)}{more}.{nearest(name, names)}"
    raise ValueError(f"unknown {kind} {name!r}; it must be one of {listed}")


def printable(text: str) -> str:
    """Text on one line that only says something: controls and what is not UTF-8 are spelled out."""

    def spelled(found: re.Match[str]) -> str:
        code = ord(found[0])
        if 0xDC80 <= code <= 0xDCFF:  # a byte of a file's name
            return f"\\x{code - 0xDC00:02x}"
        return found[0].encode("unicode_escape").decode()

    return CONTROLS.sub(spelled, text)


def in_markdown(text: str) -> str:
    """Text as Markdown, or HTML, that shows it as it is, in a table's cell as well."""
    return MARKDOWN.sub(lambda found: f"&#{ord(found[0])};", printable(text))


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`` Did you mean ...?`` with the nearest name; nothing if none is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=cutoff)
    return f" Did you mean {near[0]}?" if near else ""


@dataclass(frozen=True)
class PartSettings:
    """What a part can be told beside its sizes: nothing. A part's own settings are a subclass.

    Raises:
        ValueError: when made, if a value is not of its type or not finite.
    """

    def __post_init__(self) -> None:
        check_fields(self)


class Registry(dict[str, T], Generic[T]):
    """Parts of one kind by their names: a word in a configuration is a key of it.

    Args:
        kind: what they are, in words.

    Attributes:
        settings: the class of the settings of each part that has some, by name.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.settings: dict[str, type[PartSettings]] = {}

    def add(self, name: str, settings: type[PartSettings] | None = None) -> Callable[[T], T]:
        """A decorator that adds a part.

        Args:
            name: the word that chooses it.
            settings: a frozen dataclass, a subclass of `PartSettings`, if the part has settings of
                its own; an instance is then passed to it as ``settings=``.

        Raises:
            ValueError: if there is a part of this name already.
        """

        def added(part: T) -> T:
            if name in self and _path(self[name]) != _path(part):  # not run anew, as in a notebook
                raise ValueError(
                    f"there are two {self.kind}s named {name!r}: {_path(self[name])} and "
                    f"{_path(part)}. Give one another name."
                )
            self[name] = part
            if settings is not None:
                self.settings[name] = settings
            return part

        return added

    def check(self, name: str) -> str:
        """``name`` if there is such a part.

        Raises:
            ValueError: otherwise; suggests the nearest, and how one's own are brought.
        """
        return choose(name, self, self.kind, ", or one that foveal --import MODULE adds")

    def settings_of(self, name: str) -> type[PartSettings]:
        """The class of a part's settings.

        Raises:
            ValueError: if there is no such part; see `check`.
        """
        return self.settings.get(self.check(name), PartSettings)

    def make(self, name: str, *sizes: Any, settings: PartSettings) -> Any:
        """The part of this name, of these sizes."""
        if name in self.settings:
            return self[name](*sizes, settings=settings)
        return self[name](*sizes)


def _path(part: Any) -> str:
    return f"{part.__module__}.{part.__qualname__}"
