from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from foveal import randomness
from foveal.io.files import read_tensors
from foveal.training import parallel
from foveal.training.classifier import TrainConfig, Trainer
from foveal.training.journal import read_metrics
from foveal.training.machine import DeviceFailed
from foveal.training.objective import ObjectiveConfig
from foveal.training.parallel import ProcessLost
from tests.conftest import Halves
from tests.processes import Command, output

# SGD without momentum: rounding does not grow, as it would where matrices are orthogonalized.
SMALL = (
    "cluttered-60 --digits uci --num-glimpses 3 --glimpse-hidden 16 --glimpse-features 16 "
    "--core-size 16 --optimizer sgd --momentum 0 --lr 0.003 --precision 32-true --batch-size 40 "
    "--epochs 2 --log-every 2 --threads 1 --location-gradient 0"
)


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def torchrun(line: str) -> subprocess.Popen[str]:
    """Two processes that PyTorch's own launcher starts, and watches."""
    several = "-m torch.distributed.run --standalone --nproc-per-node 2 -m foveal train"
    words = [sys.executable, *several.split(), *shlex.split(line)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def two(line: str) -> list[Command]:
    """Two processes that are told what that launcher tells them."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "1"}
    return [
        Command(f"train {line}", RANK=number, LOCAL_RANK=number, **common) for number in ("0", "1")
    ]


def losses(run: str) -> list[float]:
    return [line["loss"] for line in read_metrics(Path(run)) if "loss" in line]


def test_two_processes_compute_what_one_does() -> None:
    output(f"train {SMALL} --out one")
    process = torchrun(f"{SMALL} --out two")
    out, err = process.communicate(timeout=180)
    assert process.returncode == 0, err
    assert out.count("test error") == 1, "one process speaks"
    assert len(losses("one")) == 29
    assert losses("two") == pytest.approx(losses("one"), rel=1e-4)
    ours, theirs = (read_tensors(Path(run, "model.safetensors"))[0] for run in ("two", "one"))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-4, msg=name)
    results = [json.loads(Path(run, "result.json").read_text()) for run in ("one", "two")]
    assert results[0]["images_seen"] == results[1]["images_seen"] == 2 * 29 * 40
    assert len(list(Path("two").glob("events.out.tfevents.*"))) == 1, "one process writes"


def test_another_number_of_processes_goes_on_with_a_run() -> None:
    output(f"train {SMALL} --epochs 8 --out whole")
    processes = two(f"{SMALL} --epochs 8 --checkpoint-minutes 0 --out parts")
    processes[0].wait_for(Path("parts/checkpoint/last.safetensors").exists)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        process.communicate()
    assert not Path("parts/result.json").exists()
    output("train --resume parts")
    assert losses("parts") == pytest.approx(losses("whole"), rel=1e-2)


def test_a_dead_process_ends_the_job_which_can_go_on() -> None:
    process = torchrun(f"{SMALL} --epochs 200 --checkpoint-minutes 0 --out run")
    limit, saved = time.monotonic() + 120, Path("run/checkpoint/last.safetensors")
    while not saved.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "Signal 9 (SIGKILL)" in err or "lost touch with the others" in err, err
    step = read_tensors(saved)[1]["step"]
    again = two("--resume run")
    again[0].wait_for(lambda: read_tensors(saved)[1]["step"] > step)
    for each in again:
        each.send_signal(signal.SIGTERM)
    for each in again:
        each.communicate()


@pytest.mark.parametrize(
    ("problem", "kind", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), DeviceFailed, "not enough memory"),
        (torch.AcceleratorError("CUDA error: launch failure"), DeviceFailed, "the device failed"),
        (RuntimeError("Connection closed by peer"), ProcessLost, "process 1 of 2 lost touch"),
    ],
)
def test_a_device_that_fails_is_no_lost_process(
    problem: RuntimeError,
    kind: type[Exception],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trainer = Trainer(nn.Linear(3, 2), Halves(), TrainConfig(), ObjectiveConfig(), tmp_path)

    def fail() -> None:
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", "1")
        raise problem

    monkeypatch.setattr(trainer, "_train_step", fail)
    with pytest.raises(kind, match=words):
        trainer.run()


def test_a_batch_that_cannot_be_divided_is_refused() -> None:
    err = output(f"train {SMALL} --batch-size 41 --out run", code=2, WORLD_SIZE="2", RANK="0")
    assert "batch_size must be a multiple of the 2 processes; got 41" in err
    assert not Path("run").exists()


def test_an_agent_trains_in_one_process() -> None:
    err = output("train catch --out run", code=2, WORLD_SIZE="2", RANK="0")
    assert "an agent trains in one process" in err


def test_rows_are_shared_as_one_process_would_draw_them(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    whole = torch.randn(6, 2, generator=torch.Generator().manual_seed(4))
    monkeypatch.setenv("WORLD_SIZE", "3")
    for number in range(3):
        monkeypatch.setenv("RANK", str(number))
        generator = randomness.make_generator(device, 4)
        rows = randomness.random_rows(torch.randn, (2, 2), generator, device)
        assert torch.equal(rows, whole[2 * number : 2 * number + 2])
    monkeypatch.delenv("WORLD_SIZE")
    generator = randomness.make_generator(device, 4)
    assert torch.equal(randomness.random_rows(torch.randn, (6, 2), generator, device), whole)


def test_the_spread_of_one_process_is_the_standard_deviation() -> None:
    values = torch.tensor([1.0, 2.0, 4.0, 8.0], requires_grad=True)
    got = parallel.spread(values)
    assert got.item() == pytest.approx(3.095696)
    assert not got.requires_grad
