from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from foveal.commands import workers as module
from foveal.commands.console import Stop
from foveal.commands.workers import last_line, workers


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What --import named, in a directory with two modules."""
    monkeypatch.chdir(tmp_path)
    Path("own_parts.py").write_text("open('imported', 'w')")
    Path("sleeping.py").write_text("import time\nopen('asleep', 'w')\ntime.sleep(600)")
    names: list[str] = []
    monkeypatch.setattr(module, "IMPORTED", names)
    return names


def test_workers_import_what_was_imported_and_say_why_they_failed(imported: list[str]) -> None:
    imported.append("own_parts")
    with workers() as start:
        well = start(["tasks"], Path("logs/well.log"))
        badly = start(["trian"], Path("logs/badly.log"))
        assert (well.wait(60), badly.wait(60)) == (0, 2)
    assert Path("imported").exists()
    assert last_line(Path("logs/well.log")) == "it was killed."
    assert last_line(Path("logs/badly.log")).startswith("foveal: unknown command 'trian'")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_workers_and_says_how_to_go_on(
    number: signal.Signals, imported: list[str]
) -> None:
    # Where the tests run in the background, Python found Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    imported.append("sleeping")
    before = signal.getsignal(signal.SIGTERM)
    started = []

    def work() -> None:
        with workers() as start:
            started.append(start(["tasks"], Path("worker.log")))
            while not Path("asleep").exists():
                assert started[0].poll() is None
            os.kill(os.getpid(), number)
            started[0].wait(60)

    with pytest.raises(Stop, match="Go on with: the same command") as stop:
        work()
    assert stop.value.exit_code == 130
    assert started[0].returncode == -signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
