"""What commands read: flags, the device, the threads."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
from typing import Any

import torch
import tyro


def parse(function: Any, name: str, arguments: list[str], default: Any = None) -> Any:
    """Read flags with tyro; what it refuses becomes a `ValueError` of one line.

    Args:
        function: a dataclass, or a function to be called with the flags.
        name: of the command.
        arguments: after the command's name.
        default: an instance of the dataclass with other defaults.
    """
    options: dict[str, Any] = {} if default is None else {"default": default}
    complaint = io.StringIO()

    @functools.wraps(function, updated=())
    def later(*values: Any, **named: Any) -> Any:
        return functools.partial(function, *values, **named)

    try:
        with contextlib.redirect_stderr(complaint):
            read = tyro.cli(
                function if isinstance(function, type) else later,
                prog=f"foveal {name}",
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes,),
                **options,
            )
    except SystemExit as leaving:
        if not leaving.code:
            raise
        raise ValueError(_in_one_line(complaint.getvalue(), name)) from None
    # Called here, so that what it says on standard error is heard.
    return read if isinstance(function, type) else read()


def _in_one_line(boxed: str, name: str) -> str:
    """What tyro says in a box of several lines, as one: its first section, and its suggestion."""
    # Without the title; where the terminal has no better than ASCII, lines make the box.
    lines = [line.strip("│╭╰╮╯|+ ") for line in boxed.splitlines()[1:]]
    rules = [set(line) <= {"─", "-"} for line in lines]
    first = rules.index(False)
    end = rules.index(True, first) if True in rules[first:] else len(lines)
    said = " ".join(" ".join(lines[first:end]).split()).rstrip(".")
    said = re.sub(r"^Error parsing config\.\w+: ", "", said)
    said = re.sub(r"^Unrecognized options: (--[^\s,=]+).*", r"unknown flag \1", said)
    near = re.search(r"Perhaps you meant:.*?(--[a-z][\w-]*)", boxed, re.DOTALL)
    hint = f" Did you mean {near[1]}?" if near else ""
    return f"{said}.{hint} See foveal {name} --help."


def choose_device(name: str) -> torch.device:
    """The device of a ``--device`` flag: "auto" takes a GPU where there is one.

    Raises:
        ValueError: if PyTorch does not know the name, or has no such device here.
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
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"got device {name!r}, but there are {torch.cuda.device_count()} GPU(s), from cuda:0."
        )
    return device


def set_threads(threads: int) -> None:
    """Arithmetic on ``threads`` cores (0: PyTorch's choice), and no time lost on denormals."""
    if threads < 0:
        raise ValueError(f"threads must be at least 0 (all cores); got {threads}.")
    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
