"""The ``foveal`` command: finds the subcommand, and turns errors into a line and an exit code."""

import errno
import importlib
import io
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from foveal import __version__
from foveal.names import IMPORTED, choose, fault_of_ones_own, import_here, on_one_line, printable

# A command is the function of its name, with _ for -, in the module of that name in
# foveal.commands, or its `run`, which reads the arguments itself; imported when called: --help is
# quick.
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
USAGE = "usage: foveal [--import MODULE]... COMMAND [flags]"
NO_ROOM = (errno.ENOSPC, errno.EIO)
NO_MEMORY = (
    "there is not enough memory. End other programs, or ask for less: fewer --workers, smaller "
    "images, in training a smaller --batch-size or --cache-gb."
)
FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130  # exit codes


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    # PyTorch's own switch, which it reads when it is imported: large tensors in huge pages. The
    # memory of each is fresh, and to touch it page by page took a fifth of a training step.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = ""
    try:
        while arguments and arguments[0].partition("=")[0] == "--import":
            _import(arguments)
        if not arguments or arguments[0] in ("-h", "--help"):
            _print_help()
            return 0
        if arguments[0] == "--version":
            print(f"foveal {__version__}")
            return 0
        name = choose(arguments[0], COMMANDS, "command")
        code = _call(name, arguments[1:])
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read our output, as head, has had enough
        _drop_output()
        return INTERRUPTED
    except (ValueError, OSError, ImportError) as problem:  # ImportError: an extra to install
        if os.environ.get("FOVEAL_DEBUG"):
            raise
        one_line = _line(str(problem), problem)
        if isinstance(problem, OSError) and problem.errno in NO_ROOM and not problem.filename:
            one_line = f"what it prints could not be written ({problem.strerror})."
            _drop_output()
        print(f"foveal{' ' if name else ''}{name}: {one_line}", file=sys.stderr)
        return WRONG_INPUT
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as problem:
        words = NO_MEMORY if _out_of_memory(problem) else fault_of_ones_own(problem)
        if words is None or os.environ.get("FOVEAL_DEBUG"):
            raise
        print(f"foveal {name}: {_line(words, problem)}", file=sys.stderr)
        return FAILED


def _line(words: str, problem: Exception) -> str:
    """What is said of a problem, and the notes on it, in one line."""
    return on_one_line("\n".join([words, *getattr(problem, "__notes__", [])]))


def _out_of_memory(problem: Exception) -> bool:
    """Whether Python or PyTorch, which need not be imported, had no memory left."""
    kinds = {kind.__name__ for kind in type(problem).__mro__}
    torchs = isinstance(problem, RuntimeError) and "can't allocate memory" in str(problem)
    return torchs or not kinds.isdisjoint({"MemoryError", "OutOfMemoryError"})


def run_and_exit() -> None:
    """The entry point of the installed command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # whatever a file's name is
    sys.exit(main())


def _drop_output() -> None:
    """Send what is yet to be printed nowhere, so that Python does not try again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _import(arguments: list[str]) -> None:
    """Take ``--import MODULE`` from the front of the arguments, and import the module."""
    _, sign, module = arguments.pop(0).partition("=")
    if not sign and arguments:
        module = arguments.pop(0)
    if not module or module.startswith("-"):
        raise ValueError("which module? As in: foveal --import my_parts train mnist-28")
    import_here(module)
    if module not in IMPORTED:
        IMPORTED.append(module)


def _call(name: str, arguments: list[str]) -> int:
    # They import what only commands need.
    from foveal.commands.console import Stop  # noqa: PLC0415
    from foveal.commands.flags import parse  # noqa: PLC0415

    usual = warnings.formatwarning

    def formatted(message: Warning | str, category: type[Warning], *where: Any) -> str:
        told = f"foveal {name}: {on_one_line(str(message))}\n"
        return told if category is UserWarning else usual(message, category, *where)

    warnings.formatwarning = formatted  # type: ignore[assignment]  # called by places
    place = name.replace("-", "_")
    module = importlib.import_module(f"foveal.commands.{place}")
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # until here it ended the imports
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if hasattr(module, "run"):
            module.run(arguments)
        else:
            parse(getattr(module, place), name, arguments)
    except Stop as stop:
        print(f"foveal {name}: {printable(str(stop))}", file=sys.stderr)
        return stop.exit_code
    finally:
        warnings.formatwarning = usual
    return 0


def _print_help() -> None:
    print(f"{USAGE}\n\nHard visual attention: networks that choose where to look.\n\ncommands:")
    for name, text in COMMANDS.items():
        print(f"  {name:12} {text}")
    print("\n--import MODULE adds the parts of a Python module of your own, before any command.")
    print("foveal COMMAND --help explains a command; start with foveal demo.")
