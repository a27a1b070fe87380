"""The machine and the process: what they can do, what they are, and when they are told to stop."""

from __future__ import annotations

import errno
import os
import platform
import signal
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Literal

import torch

from foveal.evaluation.classifier import exact_products

LOCK_FILES = (".lock", ".holder")  # of a run directory: held by a process, and by which


def precision_on(device: torch.device, precision: str) -> Literal["32-true", "bf16-mixed"]:
    """Say what a ``--precision`` means on a device: "auto" is bfloat16 where it has that.

    "tf32" is float32 but for the products of a GPU; see `fast_products`.
    """
    native = has_bfloat16(device) if precision == "auto" else precision == "bf16-mixed"
    return "bf16-mixed" if native else "32-true"


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16.

    A processor without them does it several times slower than float32.
    """
    if device.type == "cuda":
        with torch.cuda.device(device):  # the question is of the current one
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    known: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


@contextmanager
def fast_products(device: torch.device, precision: str) -> Iterator[None]:
    """Have a GPU multiply and convolve as TF32 with "tf32" alone; see `exact_products`.

    And a processor take denormal numbers for 0: gradients of far components of a mixture are full
    of them, and each costs as much as a hundred others.
    """
    if device.type == "cpu":
        torch.set_flush_denormal(True)
        try:
            yield
        finally:
            torch.set_flush_denormal(False)
    else:
        with exact_products(tf32=precision == "tf32"):
            yield


@contextmanager
def stop_on_signal() -> Iterator[threading.Event]:
    """Give an event that SIGINT and SIGTERM set; a second signal interrupts at once."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def handle(_number: int, _frame: FrameType | None) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, handle) for number in signals]
    try:
        yield stopping
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


class RunHeld(OSError):
    """Another process trains the run."""


@contextmanager
def hold(directory: Path) -> Iterator[None]:
    """Keep other processes out of a run directory. One that is no more keeps nobody out.

    Raises:
        RunHeld: if another process holds it; says which.
        OSError: if the directory cannot be written.
    """
    from filelock import FileLock, Timeout  # noqa: PLC0415 (only where something is trained)

    directory.mkdir(parents=True, exist_ok=True)
    holder = directory / LOCK_FILES[1]
    try:
        lock = FileLock(directory / LOCK_FILES[0]).acquire(timeout=0)
    except Timeout:
        who = holder.read_text(encoding="utf-8") if holder.is_file() else "its name is not known"
        raise RunHeld(
            f"another process is training {directory} ({who}). Let it finish, or stop it first."
        ) from None
    with lock:
        holder.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield


class DeviceFailed(Exception):
    """The device ran out of memory, or does not answer."""


@contextmanager
def device_failures_explained(batch: str) -> Iterator[None]:
    """Turn what a full or lost device says into a `DeviceFailed`.

    Args:
        batch: the flag that says how much is computed at once, and its value.
    """
    try:
        yield
    except (RuntimeError, MemoryError, OSError) as problem:
        full = isinstance(problem, (torch.OutOfMemoryError, MemoryError)) or (
            getattr(problem, "errno", None) == errno.ENOMEM or "can't allocate" in str(problem)
        )
        if full:
            flag = batch.split(maxsplit=1)[0]
            raise DeviceFailed(
                f"there is not enough memory for {batch}; the last checkpoint is kept. Begin again "
                f"with a smaller {flag}, or on a device with more"
            ) from problem
        if isinstance(problem, torch.AcceleratorError):
            first = str(problem).strip().splitlines()[0]
            raise DeviceFailed(
                f"the device failed ({first}); the last checkpoint is kept"
            ) from problem
        raise


def commit() -> str | None:
    """Name the commit of the code that runs, with "-dirty" if it was changed.

    What else changed, as the results that runs themselves write, is no other code.

    Returns:
        None unless this package is ``src/foveal`` of a clone of foveal: where it is installed, or
        copied, into another repository, git would name that one's commit.
    """
    package = Path(__file__).resolve().parents[1]
    root = package.parents[1]
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        if project["name"] != "foveal" or package != root / "src" / "foveal":
            return None
        clone = [f"--git-dir={root / '.git'}", f"--work-tree={root}"]  # and none further up
        said = []
        for words in (
            ["describe", "--always", "--abbrev=12"],
            ["diff", "--name-only", "HEAD", "--", str(package), str(root / "pyproject.toml")],
        ):
            answer = subprocess.run(
                ["git", *clone, *words], capture_output=True, text=True, timeout=10, check=True
            )
            said.append(answer.stdout.strip())
    except (OSError, ValueError, LookupError, TypeError, subprocess.SubprocessError):
        return None
    name, changed = said
    return f"{name}-dirty" if changed and name else name or None


def hardware(device: torch.device) -> str:
    """Name the device: a GPU, or the processor and the threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass  # not Linux: the platform's word must do
    return f"{name}, {torch.get_num_threads()} thread(s)"
