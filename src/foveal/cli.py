"""The ``foveal`` command: finds the subcommand, and turns errors into a line and an exit code."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

from foveal import __version__

# A command is the function `run` of foveal.commands.<name>, with _ for -, imported when called:
# --help is quick.
COMMANDS = {
    "demo": "the whole story in about two minutes, with data that ships in a package",
    "tasks": "what can be trained",
    "make-dataset": "any task as image files on disk, PNG or tiled TIFF, with a manifest",
    "train": "train a model on a task, or go on with a run",
    "evaluate": "the error of a model, with a 95 % interval",
    "predict": "what a model answers on your own image files, and where it looked",
    "look": "a picture of where a model looked, what it saw and what it believed",
    "app": "a page in the browser: draw a digit, look at your own image, play Catch",
    "play": "an agent in games: success, return, and an animation of where it looks",
    "models": "the pretrained models that ship with foveal",
    "reproduce": "the rows of the paper's tables: trained, evaluated, beside the paper's figures",
    "search": "hyper-parameters: random search as in the paper, or guided; many workers, one study",
    "runs": "runs in a table: task, recipe, progress, validation",
    "compare": "the curves of runs in one picture",
    "export": "a model as an ONNX file or a torch.export program, checked against PyTorch",
    "bench": "how fast the training step and the sensor are on this machine",
}
USAGE = "usage: foveal COMMAND [flags]"
WRONG_INPUT, INTERRUPTED = 2, 130  # exit codes


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        _print_help()
        return 0
    if arguments[0] == "--version":
        print(f"foveal {__version__}")
        return 0
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        return _complain(
            "", f"unknown command {name!r}; it must be one of {', '.join(COMMANDS)}.{hint}"
        )
    try:
        return _call(name, rest)
    except BrokenPipeError:  # whoever read our output, as head, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except (ValueError, OSError, ImportError) as problem:  # ImportError: an extra to install
        if os.environ.get("FOVEAL_DEBUG"):
            raise
        return _complain(name, str(problem))
    except KeyboardInterrupt:
        return INTERRUPTED


def run_and_exit() -> None:
    """The entry point of the installed command."""
    sys.exit(main())


def _call(name: str, arguments: list[str]) -> int:
    from foveal.commands.console import Stop  # noqa: PLC0415 (imports what only commands need)

    module = importlib.import_module(f"foveal.commands.{name.replace('-', '_')}")
    try:
        module.run(arguments)
    except Stop as stop:
        print(f"foveal {name}: {stop}", file=sys.stderr)
        return stop.exit_code
    return 0


def _complain(name: str, text: str) -> int:
    one_line = " ".join(text.split())
    print(f"foveal{' ' if name else ''}{name}: {one_line}", file=sys.stderr)
    return WRONG_INPUT


def _print_help() -> None:
    print(f"{USAGE}\n\nHard visual attention: networks that choose where to look.\n\ncommands:")
    for name, text in COMMANDS.items():
        print(f"  {name:12} {text}")
    print("\nfoveal COMMAND --help explains a command; start with foveal demo.")
