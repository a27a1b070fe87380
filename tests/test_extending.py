"""Parts of one's own, from docs/extending.md and examples/dram.py, through every command."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
from dataclasses import dataclass, make_dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from foveal import (
    CORES,
    GLIMPSE_NETWORKS,
    CanvasTask,
    PartSettings,
    RAMConfig,
    RecurrentAttention,
    TaskConfig,
    cli,
)
from foveal.evaluation.classifier import evaluate, observe
from foveal.model.core import RNNCore
from tests.processes import output

ROOT = Path(__file__).parents[1]
TINY = "--core-size 16 --glimpse-features 16 --num-glimpses 2 --threads 1"


def foveal(module: str, line: str, place: Path, code: int = 0) -> str:
    return output(f"--import {module} {line}" if module else line, place, code)


def test_a_dram_goes_through_every_command(tmp_path: Path) -> None:
    (tmp_path / "dram.py").write_text((ROOT / "examples" / "dram.py").read_text())
    parts = f"--core dram --context dram --glimpse-network dram --filters 4 {TINY}"
    train = f"train cluttered-60 --digits uci {parts} --epochs 1 --json --out run"
    trained = json.loads(foveal("dram", train, tmp_path))
    assert trained["pixels_read"] == 2 * 3 * 12**2 + 16**2, "the thumbnail counts"
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["model"]["glimpse_settings"] == {"filters": 4}
    found = json.loads(foveal("dram", "evaluate run --json --threads 1", tmp_path))
    assert found["error"] == trained["error"]
    games = "--decisions 2000 --num-envs 20 --validation-episodes 4 --test-episodes 4"
    lines = ["train --resume run --json", "look run --out look.png", "predict run look.png"]
    lines += ["export run --out run.onnx", f"train catch {parts} {games} --json --out catch"]
    lines += ["play catch --episodes 4 --json", "export catch --one-step --out catch.onnx"]
    for line in lines:
        foveal("dram", line, tmp_path)
    missing = foveal("", "evaluate run", tmp_path, code=2)
    assert "'dram'" in missing
    assert "--import" in missing
    assert missing.count("\n") == 1


def test_the_pages_parts_train(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), re.S)
    (tmp_path / "my_parts.py").write_text("\n".join(blocks))
    parts = "--core gru --glimpse-network convolution --policy deep --reward brier --filters 3"
    line = f"train mnist-28 --digits uci {parts} {TINY} --epochs 1 --json --out run"
    trained = json.loads(foveal("my_parts", line, tmp_path))
    found = json.loads(foveal("my_parts", "evaluate run --json --threads 1", tmp_path))
    assert found["error"] == trained["error"]


def test_two_parts_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two cores named 'lstm'.*RNNCore.*Give one another name"):
        CORES.add("lstm")(RNNCore)
    assert CORES.add("rnn")(RNNCore) is CORES["rnn"], "the same again, as in a notebook"


@dataclass(frozen=True)
class Layers(PartSettings):
    layers: int = 1
    rate: float = 0.5


@pytest.mark.parametrize(
    ("name", "parts", "words"),
    [
        ("epochs", "--core named", "--epochs would be of core_settings and of training"),
        (
            "heads",
            "--core named --glimpse-network named",
            "--heads would be of glimpse_settings and of core_settings",
        ),
    ],
)
def test_two_settings_of_one_name_are_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    parts: str,
    words: str,
) -> None:
    settings = make_dataclass("Named", [(name, int, 3)], bases=(PartSettings,), frozen=True)
    for registry in (CORES, GLIMPSE_NETWORKS):
        monkeypatch.setitem(registry, "named", RNNCore)  # type: ignore[arg-type]
        monkeypatch.setitem(registry.settings, "named", settings)
    assert cli.main(f"train mnist-28 --digits uci {parts}".split()) == 2
    assert words in capsys.readouterr().err


def test_settings_of_a_part_that_is_not_chosen_are_refused() -> None:
    try:
        CORES.add("layered", settings=Layers)(type("Layered", (RNNCore,), {}))
        chosen = RAMConfig(core="layered", core_settings=Layers(3))
        with pytest.raises(ValueError, match="core_settings are those of another core than 'rnn'"):
            RAMConfig(core_settings=Layers(3))
        assert RAMConfig(core_settings=Layers()).core_settings == PartSettings(), "says nothing"
        assert RAMConfig(core="layered").core_settings == Layers(1)
        with pytest.raises(ValueError, match="layers must be .* to 4,096; got 1000000000"):
            RAMConfig(core="layered", core_settings=Layers(10**9))
        with pytest.raises(ValueError, match="another core than 'lstm'"):
            dataclasses.replace(chosen, core="lstm")
        assert chosen.with_parts(core="lstm").core_settings == PartSettings()
        assert chosen.with_parts(policy="random").core_settings == Layers(3), "the core is the same"
        with pytest.raises(ValueError, match="rate must be a number; got nan"):
            Layers(rate=math.nan)
        with pytest.raises(ValueError, match="layers must be a whole number; got '3'"):
            Layers("3")  # type: ignore[arg-type]
    finally:
        del CORES["layered"], CORES.settings["layered"]


def test_a_part_that_gives_a_wrong_shape_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = RecurrentAttention(RAMConfig())
    monkeypatch.setattr(model.glimpse_network, "forward", lambda *_: torch.zeros(2, 3))
    wanted = r"the glimpse network 'mlp' must give features of \(B, 256\); got \(2, 3\)"
    with pytest.raises(ValueError, match=wanted):
        model(torch.rand(2, 1, 28, 28))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "must give features as a tensor of floats; got a NoneType"),
        (torch.zeros(2, 256).long(), "as a tensor of floats; got torch.int64"),
        (torch.zeros(1, 256), r"of \(B, 256\); got \(1, 256\), of 2 image"),
    ],
)
def test_a_part_that_gives_no_floats_of_each_image_is_named(
    monkeypatch: pytest.MonkeyPatch, given: object, words: str
) -> None:
    model = RecurrentAttention(RAMConfig())
    monkeypatch.setattr(model.glimpse_network, "forward", lambda *_: given)
    with pytest.raises(ValueError, match=f"the glimpse network 'mlp' .*{words}"):
        model(torch.rand(2, 1, 28, 28))


def test_answers_that_are_no_numbers_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    model = RecurrentAttention(RAMConfig(num_glimpses=2)).eval()
    task = CanvasTask(TaskConfig(digits="uci", canvas_size=0))
    monkeypatch.setattr(
        model.glimpse_network, "forward", lambda *_: torch.full((len(_[0]), 256), torch.nan)
    )
    for ask in (
        lambda: model.predict([np.zeros((28, 28), dtype=np.uint8)] * 2),
        lambda: model.predict(np.zeros((28, 28), dtype=np.uint8), threshold=0.9),
        lambda: evaluate(model, task, "test"),
        lambda: observe(model, task, "test"),
    ):
        with pytest.raises(ValueError, match=r"answers with what is no number .*Mend that part"):
            ask()


FAULTY = """
import os, torch
import foveal
from foveal.model.glimpse import GlimpseNetwork

@foveal.GLIMPSE_NETWORKS.add("faulty")
class Faulty(GlimpseNetwork):
    calls = 0
    def forward(self, glimpses, locations):
        Faulty.calls += 1
        how = os.environ.get("HOW", "") if self.training and Faulty.calls > 20 else ""
        if how == "raise":
            raise KeyError("first\\nsecond")
        return super().forward(glimpses, locations) * (torch.nan if how == "nan" else 1)
"""


def test_a_part_that_fails_costs_a_line_and_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faulty.py").write_text(FAULTY)
    train = "train mnist-28 --digits uci --glimpse-network faulty --batch-size 400 --epochs 5 "
    train += f"{TINY} --json --out"
    failed = r"faulty.py, line 13, failed. KeyError: .* What was learned by step [1-9]\d* is saved"
    for how, words in (("raise", failed), ("nan", "no longer a number by step .* faulty makes")):
        monkeypatch.setenv("HOW", how)
        said = foveal("faulty", f"{train} {how}", tmp_path, code=1)
        assert said.count("\n") == 1
        assert re.search(words, said)
    monkeypatch.setenv("HOW", "")
    assert json.loads(foveal("faulty", "train --resume raise --json", tmp_path))["steps"] == 10
    again = f"{train} raise"
    assert "Go on with it: foveal train --resume" in foveal("faulty", again, tmp_path, code=2)
    shutil.rmtree(tmp_path / "raise" / "checkpoint")  # as one that failed at once
    (tmp_path / "raise" / "model.safetensors").unlink()
    assert "It learned nothing: delete it" in foveal("faulty", again, tmp_path, code=2)


def test_a_state_of_another_core_is_refused() -> None:
    model = RecurrentAttention(RAMConfig(core="lstm"))
    state = RecurrentAttention(RAMConfig()).initial_state(1)
    with pytest.raises(ValueError, match=r"the state must be 2 tensor\(s\).*'lstm'.*got \(256,\)"):
        model.step(torch.rand(1, 1, 28, 28), torch.zeros(1, 2), state)
