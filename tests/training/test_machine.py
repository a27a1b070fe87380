from __future__ import annotations

import importlib.util
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import foveal
from foveal import CanvasTask, RAMConfig, RecurrentAttention, TaskConfig
from foveal.evaluation.classifier import evaluate, rollouts
from foveal.training import machine
from foveal.training.machine import (
    DeviceFailed,
    RunHeld,
    commit,
    device_failures_explained,
    fast_products,
    hardware,
    hold,
    precision_on,
    stop_on_signal,
)


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


def test_tf32_is_float32_but_for_a_gpus_products() -> None:
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    usual = (products.allow_tf32, convolutions.allow_tf32)
    assert usual == (False, True)
    for device, precision, wanted in (
        ("cuda", "tf32", (True, True)),
        ("cuda", "32-true", (False, False)),
        ("cpu", "tf32", usual),
    ):
        assert precision_on(torch.device(device), precision) == "32-true"
        with fast_products(torch.device(device), precision):
            assert (products.allow_tf32, convolutions.allow_tf32) == wanted
        assert (products.allow_tf32, convolutions.allow_tf32) == usual


def test_what_is_judged_is_judged_in_float32() -> None:
    products = (torch.backends.cuda.matmul, torch.backends.cudnn)
    seen = []

    class Looked(RecurrentAttention):
        def forward(self, *inputs: Any, **settings: Any) -> Any:
            seen.append([kind.allow_tf32 for kind in products])
            return super().forward(*inputs, **settings)

    task = CanvasTask(TaskConfig(digits="uci", canvas_size=0))
    model = Looked(RAMConfig(num_glimpses=1))
    with fast_products(torch.device("cuda"), "tf32"):
        evaluate(model, task, "test")
        list(rollouts(model, task, "validation"))
        assert [kind.allow_tf32 for kind in products] == [True, True]
    assert seen == [[False, False]] * len(seen)
    assert seen


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


def clone(root: Path, project: str, package: str) -> ModuleType:
    """The module as another repository at ``root`` would hold it, with one commit."""
    copy = root / package / "training" / "machine.py"
    copy.parent.mkdir(parents=True)
    (root / "results").mkdir()
    (root / "results/README.md").write_text("")
    shutil.copyfile(machine.__file__, copy)
    (root / "pyproject.toml").write_text(f'[project]\nname = "{project}"\n')
    git = ["git", "-C", str(root), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    spec = importlib.util.spec_from_file_location("copied_machine", copy)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_other_repositorys_commit_is_named(tmp_path: Path) -> None:
    own = clone(tmp_path / "own", "foveal", "src/foveal")
    head = ["git", "-C", str(tmp_path / "own"), "rev-parse", "--short=12", "HEAD"]
    named = subprocess.run(head, capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / "own/results/README.md").write_text("a result")
    assert own.commit() == named, "the code is as it was"
    (tmp_path / "own" / "pyproject.toml").write_text('project.name = "foveal"')
    assert own.commit() == f"{named}-dirty"

    site_packages = ".venv/lib/python3/site-packages/foveal"
    assert clone(tmp_path / "installed", "theirs", site_packages).commit() is None
    assert clone(tmp_path / "copied", "theirs", "src/foveal").commit() is None
    inside = clone(tmp_path / "inside", "foveal", "src/foveal")
    shutil.rmtree(tmp_path / "inside" / ".git")  # an unpacked archive of foveal, in another's
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert inside.commit() is None


def test_hardware_names_the_processor_and_the_threads() -> None:
    assert hardware(torch.device("cpu")).endswith(f", {torch.get_num_threads()} thread(s)")


def test_a_full_memory_is_explained(tmp_path: Path) -> None:
    """Really full: the process may have 6 GB of addresses, and a step's canvases take more."""
    line = "train cluttered-60 --digits uci --network fc-64 --canvas-size 1400 --batch-size 1000"
    line += " --epochs 1 --threads 1 --out run"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))

    done = subprocess.run(
        [sys.executable, "-m", "foveal", *line.split()],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        preexec_fn=limit,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "there is not enough memory for --batch-size 1000" in done.stderr


def test_a_lost_device_is_explained_and_other_mistakes_are_not_hidden() -> None:
    batch = "--batch-size 8"
    lost = r"the device failed \(CUDA error: unspecified launch failure\)"
    with pytest.raises(DeviceFailed, match=lost), device_failures_explained(batch):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure\nmore")
    with pytest.raises(RuntimeError, match="shapes"), device_failures_explained(batch):
        raise RuntimeError("shapes differ")


HOLDS = """
import sys, time
from pathlib import Path
from foveal.training.machine import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_run_that_a_process_holds_is_left_alone_until_it_is_no_more(tmp_path: Path) -> None:
    words = [sys.executable, "-c", HOLDS, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        words = rf"\(process {holder.pid} on .*\)\. Let it finish"
        with pytest.raises(RunHeld, match=words), hold(tmp_path):
            pass
        holder.kill()
    with hold(tmp_path):
        words = rf"\(process {os.getpid()} on"
        with pytest.raises(RunHeld, match=words), hold(tmp_path):
            pass
