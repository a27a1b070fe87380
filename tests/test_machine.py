from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch

import foveal
from foveal.machine import commit, hardware, precision_on, stop_on_signal


@pytest.mark.parametrize(
    ("capabilities", "wanted"),
    [({}, "32-true"), ({"avx512_bf16": True}, "bf16-mixed"), ({"amx_bf16": True}, "bf16-mixed")],
)
def test_auto_is_bfloat16_where_the_processor_has_it(
    capabilities: dict[str, bool], wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    cpu = torch.device("cpu")
    assert precision_on(cpu, "auto") == wanted
    assert precision_on(cpu, "32-true") == "32-true"
    assert precision_on(cpu, "bf16-mixed") == "bf16-mixed"


def test_auto_is_float32_where_pytorch_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert precision_on(torch.device("cpu"), "auto") == "32-true"


def test_a_signal_asks_once_and_insists_twice() -> None:
    with stop_on_signal() as stopping:
        assert not stopping.is_set()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.is_set()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_the_commit_is_gits() -> None:
    source = Path(foveal.__file__).parent
    head = subprocess.run(
        ["git", "-C", str(source), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    if head.returncode:
        assert commit() is None
    else:
        assert head.stdout.startswith(str(commit()).removesuffix("-dirty"))


def test_hardware_names_the_processor_and_the_threads() -> None:
    assert hardware(torch.device("cpu")).endswith(f", {torch.get_num_threads()} thread(s)")
