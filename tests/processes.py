"""Command lines in processes of their own, forked from one that has imported PyTorch already.

A signal, a kill or a crash needs a process that it ends; that each imports PyTorch anew would be
most of the time of such a test.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import shlex
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["foveal.commands.training", "foveal.commands.reproduce", "foveal.runs.agent_recipes"]
)


def foveal(words: list[str]) -> int:
    from foveal import cli  # noqa: PLC0415

    return cli.main(words)


def _run(
    main: Callable[[list[str]], int],
    words: list[str],
    place: str,
    environment: dict[str, str],
    home: str,
) -> None:
    """What the forked process does: as ``python -m foveal`` in a directory."""
    os.environ.clear()
    os.environ.update(environment)
    for stream in (1, 2):
        os.dup2(os.open(f"{home}/{stream}", os.O_WRONLY | os.O_CREAT), stream)
    torch.set_num_threads(1)
    os.chdir(place)
    sys.path.insert(0, place)
    sys.argv[1:] = words
    sys.exit(main(words))


class Command:
    """A command line that runs in a process of its own, as `subprocess.Popen` has them."""

    def __init__(
        self,
        line: str,
        place: Path | str = ".",
        main: Callable[[list[str]], int] = foveal,
        **environment: str,
    ) -> None:
        self._home = tempfile.mkdtemp()
        weakref.finalize(self, shutil.rmtree, self._home, ignore_errors=True)
        self._process: BaseProcess = FORKS.Process(
            target=_run,
            args=(
                main,
                shlex.split(line),
                str(Path(place).resolve()),
                {**os.environ, **environment},
                self._home,
            ),
        )
        self._process.start()
        atexit.register(self._process.kill)  # of a test that failed before it ended

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    returncode = property(poll)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """What it wrote to its output and to its errors, once it has ended."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self.kill()
            raise TimeoutError(f"it still ran after {timeout} seconds")
        out, err = (Path(self._home, str(stream)).read_text() for stream in (1, 2))
        return out, err

    def wait_for(self, condition: Callable[[], object], timeout: float = 60) -> None:
        """Until something holds, which a process that has ended will not bring about."""
        limit = time.monotonic() + timeout
        while not condition():
            assert self.poll() is None, self.communicate()
            assert time.monotonic() < limit
            time.sleep(0.01)


def output(line: str, place: Path | str = ".", code: int = 0, **environment: str) -> str:
    """What a command says that ends with this code; of one that fails, its errors."""
    command = Command(line, place, **environment)
    out, err = command.communicate()
    assert command.returncode == code, err[-800:]
    return out if code == 0 else err
