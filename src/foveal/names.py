"""What people type and files say: words and parts by name, values by type and range, plain text."""

import difflib
import functools
import importlib
import inspect
import math
import re
import shlex
import sys
import traceback
import types
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, TypeVar

T = TypeVar("T", bound=Callable[..., Any])
# What a terminal or a picture would act on (controls, line ends, turned directions), or refuse.
CONTROLS = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
MARKDOWN = re.compile(r"[\\`*_\[\]<>&|~$#]")

END = "end"  # the class behind the last of a sequence
IGNORED = -1  # in a sequence of labels: no further answer is wanted

IMPORTED: list[str] = []  # the modules that --import named; worker processes import them too


def joined(names: Iterable[str], classes: Iterable[str]) -> str:
    """Names of several classes in one line; with commas where a class has a space in its name."""
    return (", " if any(" " in name for name in classes) else " ").join(names)


def import_here(module: str) -> None:
    """Import a module of the user's, from the current directory if it is there; or `ValueError`."""
    if sys.path[:1] != [str(Path.cwd())]:
        sys.path.insert(0, str(Path.cwd()))
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as problem:
        said = f"{type(problem).__name__}: {problem}"
        raise ValueError(f"{module} could not be imported. {said}") from problem


def fault_of_ones_own(problem: Exception) -> str | None:
    """What to say of an error that a module which was imported by `--import` may have made.

    It names the last line of such a module that was running, if one was; None without modules.
    """
    if not IMPORTED:
        return None
    said = f"{type(problem).__name__}: {str(problem).rstrip('.')}."
    for frame, line in reversed(list(traceback.walk_tb(problem.__traceback__))):
        name = frame.f_globals.get("__name__", "")
        if any(name == module or name.startswith(f"{module}.") for module in IMPORTED):
            return f"{Path(frame.f_code.co_filename).name}, line {line}, failed. {said}"
    return f"it failed, perhaps by what {', '.join(IMPORTED)} added. {said}"


def choose(name: str, known: Iterable[str], kind: str, more: str = "") -> str:
    """``name`` if it is known; `ValueError` otherwise, which suggests the nearest and lists all.

    The message says ``kind`` of what the names name, and ``more`` of what else it may be.
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


def on_one_line(text: str) -> str:
    """Text that has lines, as `printable` says it: they are joined, and spaces within them stay."""
    return printable(" ".join(filter(None, map(str.strip, text.splitlines()))))


def in_markdown(text: str) -> str:
    """Text as Markdown, or HTML, that shows it as it is, in a table's cell as well."""
    return MARKDOWN.sub(lambda found: f"&#{ord(found[0])};", printable(text))


def shell_line(*words: object) -> str:
    """A ``foveal`` command of these words, as a shell takes it."""
    return shlex.join(["foveal", *map(str, words)])


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """`` Did you mean ...?`` with the nearest name; nothing if none is near."""
    near = difflib.get_close_matches(str(name), list(known), n=1, cutoff=cutoff)
    return f" Did you mean {near[0]}?" if near else ""


@dataclass(frozen=True)
class PartSettings:
    """What a part can be told beside its sizes: nothing. A part's own settings are a subclass.

    Raises `ValueError` when made, if a value is not of its type or not finite.
    """

    def __post_init__(self) -> None:
        check_fields(self)


class Registry(dict[str, T], Generic[T]):
    """Parts of one ``kind``, in words, by names: a word in a configuration is a key of it.

    Attributes:
        settings: the class of the settings of each part that has some, by name.
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.settings: dict[str, type[PartSettings]] = {}

    def add(self, name: str, settings: type[PartSettings] | None = None) -> Callable[[T], T]:
        """A decorator that adds a part; `ValueError` if there is one of this name already.

        Args:
            name: the word that chooses it.
            settings: a frozen dataclass, a subclass of `PartSettings`, if the part has settings of
                its own; an instance is then passed to it as ``settings=``.
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
        """``name`` if there is such a part; `ValueError` otherwise, as `choose`."""
        return choose(name, self, self.kind, ", or one that foveal --import MODULE adds")

    def settings_of(self, name: str) -> type[PartSettings]:
        """The class of a part's settings; `ValueError` if there is no such part."""
        return self.settings.get(self.check(name), PartSettings)

    def takes(self, name: str, sizes: int) -> bool:
        """Whether a part can be made of so many sizes."""
        settings = {"settings": None} if name in self.settings else {}
        try:
            inspect.signature(self[name]).bind(*[None] * sizes, **settings)
        except TypeError:
            return False
        return True

    def make(self, name: str, *sizes: Any, settings: PartSettings) -> Any:
        """The part of this name, of these sizes."""
        if name in self.settings:
            return self[name](*sizes, settings=settings)
        return self[name](*sizes)


def _path(part: Any) -> str:
    return f"{part.__module__}.{part.__qualname__}"


# --- Fields of configurations: each of its type, finite, and within its range ---

LARGEST = 10**12  # that a whole number may be where no range says otherwise


class Range(NamedTuple):
    """What a number may be."""

    low: float  # the least
    high: float  # the most
    advice: str = ""  # a sentence on what to do otherwise
    above: bool = False  # whether it must be more than ``low``
    below: bool = False  # whether it must be less than ``high``

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
MOST_PROCESSES = 1024
DECODERS = Range(-1, MOST_PROCESSES, "-1 is one a core.")  # processes that decode
WHOLE = Range(-LARGEST, LARGEST)


def positive(most: float, advice: str = "") -> Range:
    """Above 0, and at most so much."""
    return Range(0, most, advice, above=True)


def flat_fields(config: Any) -> dict[str, Any]:
    """The values of a configuration and of those within it, by name (no two parts share one)."""
    flat: dict[str, Any] = {}
    for field in fields(config):
        value = getattr(config, field.name)
        flat |= flat_fields(value) if is_dataclass(value) else {field.name: value}
    return flat


def check_fields(config: Any, **ranges: Range) -> None:
    """Refuse a field of a dataclass that is not of its type, not finite, or out of its range.

    What a file says is checked by this as much as flags are. A range is that of each number of a
    tuple. Whole numbers are at most 10 to the 12 where no range is given. What is itself a
    configuration is checked too. The `ValueError` names the first, with what it may be.
    """
    cls: Any = type(config)
    for name, kind in _kinds(cls).items():
        check_value(name, getattr(config, name), kind, ranges.get(name))


def check_value(name: str, value: Any, kind: Any, allowed: Range | None = None) -> None:
    """Refuse a value that is not of a type, by `ValueError`; see `check_fields`."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        if value not in arguments:
            listed = ", ".join(map(str, arguments))
            raise ValueError(f"{name} must be one of {listed}; got {shortened(value)}.")
    elif isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        if value is not None:
            check_value(name, value, arguments[0], allowed)
    elif typing.get_origin(kind) is tuple:
        if not isinstance(value, tuple):
            raise ValueError(f"{name} must be a tuple, or in JSON a list; got {shortened(value)}.")
        each = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        if len(each) != len(value):
            raise ValueError(f"{name} must be {len(each)} values; got {shortened(value)}.")
        for part, wanted in zip(value, each, strict=True):
            check_value(name, part, wanted, allowed)
    elif kind in (int, float):
        _check_number(name, value, kind, allowed)
    elif isinstance(kind, type):
        if not isinstance(value, kind):
            words = {str: "text", bool: "true or false"}.get(kind, kind.__name__)
            raise ValueError(f"{name} must be {words}; got {shortened(value)}.")
        if is_dataclass(value):
            check_fields(value)


def _check_number(name: str, value: Any, kind: type, allowed: Range | None) -> None:
    types_ = int if kind is int else (int, float)
    good = isinstance(value, types_) and not isinstance(value, bool)
    allowed = allowed or (WHOLE if kind is int else None)
    if good and (allowed.holds(value) if allowed else math.isfinite(value)):
        return
    number = "a whole number" if kind is int else "a number"
    where = f" {allowed}" if allowed and (good or allowed is not WHOLE) else ""
    advice = f" {allowed.advice}" if allowed and allowed.advice else ""
    raise ValueError(f"{name} must be {number}{where}; got {shortened(value)}.{advice}")


@functools.cache
def _kinds(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in fields(cls)}


def _plain(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.12g}"


def shortened(value: Any) -> str:
    """What was given, for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
