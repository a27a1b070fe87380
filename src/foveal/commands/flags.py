"""What commands read: flags, the device, the threads."""

import contextlib
import dataclasses
import functools
import io
import itertools
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from threadpoolctl import threadpool_limits
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

from foveal.names import MOST_PROCESSES, Range, check_value, nearest

HELP, HELP_ALL = {"-h", "--help", "--help-all"}, "--help-all"


def parse(
    function: Any,
    name: str,
    arguments: list[str],
    default: Any = None,
    *,
    common: Collection[str] = (),
    fixed: Collection[str] = (),
) -> Any:
    """Read a command's flags with tyro; what it refuses becomes a `ValueError` of one line.

    A function is called with them, of a dataclass there may be an instance with other defaults.
    Of its parts --help shows the fields in ``common``, or all if there are none, and --help-all
    shows all; those in ``fixed`` are no flags here.
    """
    options: dict[str, Any] = {} if default is None else {"default": default}
    helping = bool(HELP & set(arguments))
    few = helping and bool(common) and HELP_ALL not in arguments

    @functools.wraps(function, updated=())
    def later(*values: Any, **named: Any) -> Any:
        return functools.partial(function, *values, **named)

    def read(words: list[str], *, few: bool = False) -> tuple[Any, list[str]]:
        return tyro.cli(
            function if isinstance(function, type) else later,
            prog=f"foveal {name}",
            args=words,
            config=(
                tyro.conf.OmitArgPrefixes,
                tyro.conf.AvoidSubcommands,
                tyro.conf.PositionalMetavarFromFieldName,
            ),
            return_unknown_args=True,
            registry=_hiding(function, common if few else None, fixed),
            **options,
        )

    if helping:
        arguments = ["--help"]  # after a positional argument, tyro would leave that one out
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found, unknown = read(arguments, few=few)
    except AssertionError:
        _check_names(default)
        raise
    except SystemExit as leaving:
        if not leaving.code:
            if few:
                print(f"These are the common flags; {HELP_ALL} shows the rest.")
            raise
        raise ValueError(f"{_unboxed(said.getvalue())}. See foveal {name} --help.") from None
    if unknown:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            read(["--help"])
        flags = [word.strip(",.") for word in said.getvalue().split() if word.startswith("--")]
        flag = unknown[0].partition("=")[0]
        kind = "flag" if flag.startswith("-") else "argument"
        raise ValueError(f"unknown {kind} {flag}.{nearest(flag, flags)} See foveal {name} --help.")
    # Called here, so that what it says on standard error is heard.
    return found if isinstance(function, type) else found()


def _check_names(default: Any) -> None:
    """Refuse two settings of one name, which would be one flag; `ValueError` says whose."""
    owners: dict[str, str] = {}

    def visit(part: Any, owner: str) -> None:
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            if dataclasses.is_dataclass(value):
                visit(value, field.name)
            elif field.name in owners:
                raise ValueError(
                    f"--{field.name.replace('_', '-')} would be of {owners[field.name]} and of "
                    f"{owner}. Give the setting of your own part another name."
                )
            owners[field.name] = owner

    if default is not None:
        visit(default, "the command")


def _hiding(
    whole: Any, shown: Collection[str] | None, fixed: Collection[str]
) -> ConstructorRegistry:
    """What tells tyro which fields of the parts of a configuration are flags, and shown as such."""
    registry, inside = ConstructorRegistry(), False

    @registry.struct_rule
    def rule(info: StructTypeInfo) -> StructConstructorSpec | None:
        nonlocal inside
        if inside or info.type is whole or not dataclasses.is_dataclass(info.type):
            return None
        inside = True  # the rule that tyro has for dataclasses is asked
        try:
            spec = registry.get_struct_spec(info)
        finally:
            inside = False
        assert isinstance(spec, StructConstructorSpec)
        return dataclasses.replace(spec, fields=tuple(map(marked, spec.fields)))

    def marked(field: Any) -> Any:
        hidden = shown is not None and field.name not in shown
        if hidden and not dataclasses.is_dataclass(field.default):
            field = dataclasses.replace(field, type=Annotated[field.type, tyro.conf.Suppress])
        if field.name in fixed:
            kind = Annotated[field.type, tyro.conf.Fixed, tyro.conf.Suppress]
            field = dataclasses.replace(field, type=kind)
        return field

    return registry


def _unboxed(message: str) -> str:
    """The first section of what tyro says in a box of several lines, as one line."""
    lines = (line.strip("│ ") for line in message.splitlines()[1:])
    sections = itertools.groupby(lines, lambda line: bool(line.strip("─-")))
    words = next(" ".join(section) for is_text, section in sections if is_text).rstrip(".")
    words = re.sub(r"(?<=\d,) (?=\d{3}\b)", "", words)  # a number that was broken at its commas
    part, _, reason = words.partition(": ")  # of a configuration, which checked itself, or a flag
    return reason if part.startswith("Error parsing") and "--" not in part else words


def choose_device(name: str) -> torch.device:
    """The device of a ``--device`` flag: "auto" takes a GPU where there is one.

    Raises `ValueError` if PyTorch does not know the name, or has no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and "LOCAL_RANK" in os.environ:  # torchrun: a device for each process
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu or cuda; got {name!r}.") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda; got {name!r}.")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"got device {name!r}, but PyTorch finds no GPU here. Use --device cpu.")
    own = os.environ.get("LOCAL_RANK")
    if device.type == "cuda" and own is not None and device.index != int(own):
        raise ValueError(
            f"got device {name!r}, but torchrun gives each of its processes a GPU of its own. "
            "Use --device cuda."
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"got device {name!r}, but there are {torch.cuda.device_count()} GPU(s), from cuda:0."
        )
    return device


def check_suffix(flag: str, path: Path | None, suffixes: Sequence[str]) -> None:
    """Refuse a file to write, by `ValueError`, unless its name ends in one of the suffixes."""
    if path is None or path.suffix.lower() in suffixes:
        return
    listed = f"end in one of {', '.join(suffixes)}"
    if len(suffixes) < 3:
        listed = f"be a {' or '.join(suffixes)} file"
    raise ValueError(f"{flag} must {listed}; got {str(path)!r}.")


def set_threads(threads: int) -> None:
    """Arithmetic on ``threads`` cores (0: the libraries' choice), no time lost on denormals."""
    check_value("threads", threads, int, Range(0, MOST_PROCESSES, "0 is all cores."))
    if threads:
        torch.set_num_threads(threads)
        threadpool_limits(threads, user_api="blas")  # NumPy's, which averages what files hold
    torch.set_flush_denormal(True)
