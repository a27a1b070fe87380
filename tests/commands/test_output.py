"""What a command prints, where it cannot; and Ctrl-C before it has begun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

FOVEAL = [sys.executable, "-m", "foveal"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for n in range(5):
        Image.new("L", (9, 9)).save(tmp_path / f"{n}.png")
    return tmp_path


def predict(images: Path, **options: object) -> subprocess.CompletedProcess[str]:
    words = [*FOVEAL, "predict", "mnist-28", str(images), "--threads", "1", "--workers", "0"]
    return subprocess.run(words, check=False, text=True, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_no_unreadable_image(images: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ran = predict(images, stdout=full)
    said = "foveal predict: what it prints could not be written (No space left on device).\n"
    assert (ran.returncode, ran.stderr) == (2, said)


def test_a_reader_that_has_had_enough_is_no_fault(images: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    ran = predict(images, stdout=writing)
    os.close(writing)
    assert ran.stderr == ""


def test_a_name_of_other_bytes_costs_no_answer(images: Path) -> None:
    try:
        (images / "0.png").rename(images / os.fsdecode(b"caf\xe9.png"))
    except OSError:
        pytest.skip("file names are text here")
    env = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    ran = predict(images, stdout=subprocess.PIPE, env=env)
    assert (ran.returncode, ran.stderr) == (0, "")
    names = [line.split(":")[0].removeprefix(f"{images}/") for line in ran.stdout.splitlines()]
    assert sorted(names) == ["1.png", "2.png", "3.png", "4.png", r"caf\xe9.png"]


@pytest.mark.parametrize("seconds", [0.4, 0.8, 1.6])
def test_an_early_interrupt_says_nothing(seconds: float, images: Path) -> None:
    words = [*FOVEAL, "train", "mnist-28", "--digits", "uci", "--threads", "1", "--out", "run"]

    def heard() -> None:  # not ignored, as it is in what a shell runs in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    options = {"cwd": images, "stderr": subprocess.PIPE, "text": True, "preexec_fn": heard}
    with subprocess.Popen(words, **options) as running:
        time.sleep(seconds)
        running.send_signal(signal.SIGINT)
        try:
            said = running.communicate(timeout=60)[1]
        finally:
            running.kill()
    assert running.returncode in (-signal.SIGINT, 130)
    assert "Traceback" not in said
    assert said == "" or "Go on with" in said
