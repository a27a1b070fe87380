"""Processes of their own that run ``foveal``: how they begin, how they end, what they last said."""

import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from foveal.commands.console import INTERRUPTED, Stop
from foveal.names import IMPORTED

Worker = subprocess.Popen[bytes]


@contextlib.contextmanager
def workers() -> Iterator[Callable[[list[str], Path], Worker]]:
    """Gives what starts a worker: ``foveal`` with some words, its standard error in a log file.

    Each has a session of its own, so that one Ctrl-C reaches it once: from here, where SIGTERM does
    the same, and both raise `Stop`. Those that still run at the end are ended too.
    """
    started: list[Worker] = []

    def start(words: list[str], log: Path) -> Worker:
        imports = [word for module in IMPORTED for word in ("--import", module)]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as errors:
            worker = subprocess.Popen(
                [sys.executable, "-m", "foveal", *imports, *words],
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        started.append(worker)
        return worker

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield start
    except KeyboardInterrupt:
        raise Stop(
            "stopped; what was done is saved. Go on with: the same command", INTERRUPTED
        ) from None
    finally:
        for worker in started:
            worker.terminate()
        for worker in started:
            worker.wait()
        signal.signal(signal.SIGTERM, before)


def last_line(log: Path) -> str:
    """The last line of a worker's log: why it failed."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1] if lines else "it was killed."
