"""Kinds of runs: what each says of itself in files, and what commands do with its model."""

from __future__ import annotations

import dataclasses
import json
import signal
from pathlib import Path

import pytest
import torch
from PIL import Image

from foveal import RAMConfig, RecurrentAttention, cli
from foveal.envs import EnvConfig
from foveal.io.files import read_tensors, write_json
from foveal.io.models import save_model
from foveal.runs.agent import AgentRun
from foveal.runs.classifier import CanvasRun
from foveal.runs.folder import FolderRun
from foveal.runs.haystacks import HaystackRun
from foveal.runs.run import saved_as, train_run
from foveal.runs.saved import KINDS, load
from foveal.tasks import TaskConfig
from foveal.training.agent import ControlConfig
from foveal.training.classifier import TrainConfig
from foveal.training.progress import TrainingStopped
from tests.commands.test_own_images import Foveal, foveal, write_bars  # noqa: F401
from tests.conftest import TINY, StopAt

CPU = torch.device("cpu")
ABOUT = {"name": "a task", "recipe": "fast", "command": "foveal", "threads": 1}
CANVASES = CanvasRun(
    task=TaskConfig(digits="uci"),
    model=dataclasses.replace(TINY, num_classes=10),
    training=TrainConfig(epochs=3, batch_size=100, checkpoint_minutes=0, log_every=1),
)
AGENT = AgentRun(
    env=EnvConfig(env_options=("size=5",)),
    model=dataclasses.replace(TINY, num_classes=3, core="lstm"),
    training=ControlConfig(
        decisions=10 * 64, num_envs=16, rollout_length=4, checkpoint_minutes=0, log_every=1
    ),
)
OLD = {"canvases": CANVASES, "folder": FolderRun(model=TINY), "agent": AGENT}  # than kinds
KNOWN = {**OLD, "haystacks": HaystackRun(model=TINY)}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_read_back_as_it_was_also_where_no_kind_was_written(
    kind: str, tmp_path: Path
) -> None:
    saved = saved_as(KNOWN[kind])
    assert saved["kind"] == kind
    before = {name: value for name, value in saved.items() if name != "kind"}
    for number, content in enumerate((saved, before) if kind in OLD else (saved,)):
        place = tmp_path / str(number)
        write_json(place / "config.json", {"format": "foveal", "version": 2, **content})
        assert load(place).run == KNOWN[kind]
        assert load(place).kind is type(KNOWN[kind])


def test_a_model_alone_is_of_no_kind(tmp_path: Path) -> None:
    RecurrentAttention(TINY).save_pretrained(tmp_path)
    saved = load(tmp_path)
    assert (saved.kind, saved.run, saved.result, saved.done) == (None, None, {}, 0)
    assert saved.classes == ("0", "1")


def test_a_kind_that_is_not_known_is_named(tmp_path: Path, foveal: Foveal) -> None:  # noqa: F811
    save_model(tmp_path / "new", RecurrentAttention(TINY), {**saved_as(CANVASES), "kind": "agents"})
    code, _, err = foveal("evaluate new")
    assert code == 2
    assert "new/config.json: unknown kind of run 'agents'" in err
    assert "Did you mean agent?" in err


@pytest.mark.parametrize(("kind", "steps"), [("canvases", 3 * 11), ("agent", 10)])
def test_an_unfinished_run_is_used_as_its_last_checkpoint_has_it(
    kind: str,
    steps: int,
    foveal: Foveal,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("foveal.training.engine.ILLUSTRATIONS", 0)
    with pytest.raises(TrainingStopped):
        train_run(KNOWN[kind], ABOUT, Path("run"), CPU, StopAt(4, signal.SIGINT))
    tensors, about = read_tensors(Path("run/checkpoint/last.safetensors"))
    saved = load("run")
    assert not saved.finished
    for name, value in saved.model.state_dict().items():
        torch.testing.assert_close(value, tensors[f"model.{name}"], rtol=0, atol=0)
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert about["step"] == lines[-1]["step"] < steps
    Image.new("L", (28, 28)).save("a.png")
    does = ["evaluate run", "look run", "predict run a.png"]
    for line in ["play run --episodes 4"] if kind == "agent" else does:
        code, out, err = foveal(line)
        assert code == 0
        assert f"run has not finished: it is used as it was at step {about['step']} of {steps}" in (
            err
        )
        assert err.count("\n") == 1
        assert out


@pytest.mark.parametrize("line", ["predict run a.png", "evaluate run", "look run a.png"])
def test_an_agent_answers_no_questions(line: str, foveal: Foveal) -> None:  # noqa: F811
    save_model(Path("run"), RecurrentAttention(AGENT.model), saved_as(AGENT))
    Image.new("L", (24, 24)).save("a.png")
    code, out, err = foveal(line)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "run is an agent. See how it plays: foveal play run" in err


def test_images_of_a_validation_split_give_a_validation_error(
    tmp_path: Path,
    foveal: Foveal,  # noqa: F811
) -> None:
    write_bars(tmp_path / "bars" / "train", 4)
    write_bars(tmp_path / "bars" / "val", 3)
    model = dataclasses.replace(TINY, num_channels=3)
    content = {"classes": ["lying", "standing"]}
    save_model(Path("model"), RecurrentAttention(model), {"model": dataclasses.asdict(model)})
    config = json.loads(Path("model/config.json").read_text())
    write_json(Path("model/config.json"), config | content)
    code, out, _ = foveal("evaluate model --data bars")
    assert code == 0
    assert out.startswith("validation error")
    assert "of 6 images" in out
    code, out, _ = foveal("evaluate model --data bars --json")
    assert json.loads(out)["split"] == "validation"


def test_the_demo_goes_on_where_it_was_stopped(
    foveal: Foveal,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("foveal.commands.demo.demo_run", lambda: CANVASES)

    def stopped(*values: object, **more: object) -> object:
        return train_run(*values[:4], StopAt(4, signal.SIGINT), **more)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("foveal.commands.demo.train_run", stopped)
        code, _, err = foveal("demo --threads 1")
    assert code == 130
    assert "Go on with: the same command" in err
    before = Path("demo/metrics.jsonl").read_text()
    assert json.loads(before.splitlines()[-1])["step"] < 33
    assert foveal("demo --threads 1")[0] == 0
    after = Path("demo/metrics.jsonl").read_text()
    assert after.startswith(before), "what was done is not done again"
    assert json.loads(after.splitlines()[-1])["step"] == 33
    assert foveal("demo --threads 1 --epochs 2")[0] == 0
    assert '"epochs": 2' in Path("demo/config.json").read_text(), "an earlier demo is replaced"


def test_quick_runs_have_an_epoch_or_an_update_at_least() -> None:
    assert CANVASES.shortened(7, 50).training.epochs == 1
    assert CANVASES.shortened(7, 1) == dataclasses.replace(
        CANVASES, training=dataclasses.replace(CANVASES.training, seed=7)
    )
    assert AGENT.shortened(7, 2).training.decisions == 5 * 64
    assert AGENT.shortened(7, 50).training.decisions == 64


def test_how_far_a_run_is() -> None:
    assert CANVASES.done([{"step": 1, "epoch": 0}]) == 0
    assert CANVASES.done([{"step": 11, "epoch": 0, "validation_error": 1.0}]) == pytest.approx(
        1 / 3
    )
    assert AGENT.done([{"step": 5}]) == pytest.approx(0.5)


@pytest.mark.parametrize("labels", [("3 1", "1 3"), ("3 1", "1 1")])
def test_distinct_answers_are_for_classes_that_come_once(
    labels: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = ["path,label"]
    for number in range(12):
        Image.new("L", (12, 12), 9 * number).save(f"{number}.png")
        rows.append(f"{number}.png,{labels[number % 2]}")
    Path("list.csv").write_text("\n".join(rows), encoding="utf-8")
    small = "--epochs 1 --glimpse-size 6 --num-glimpses 1 --distinct"
    line = f"train folder --data list.csv {small} --recipe fast --out run --separator"
    refused = labels[1] == "1 1"
    assert cli.main([*line.split(), " "]) == (2 if refused else 0)
    assert ("Leave out --distinct." in capsys.readouterr().err) == refused
    if refused:
        assert cli.main(["train", "row-3", "--digits", "uci", "--distinct"]) == 2
        assert "Leave out --distinct." in capsys.readouterr().err


def test_images_smaller_than_any_thumbnail_are_told_the_way_without(tmp_path: Path) -> None:
    model = RAMConfig(glimpse_size=1, policy="map", context="conv")
    run = CanvasRun(task=TaskConfig(digits="uci"), model=model)
    task = run.open(tmp_path, torch.device("cpu"))
    task.image_size = (1, 1)
    with pytest.raises(ValueError, match="or --context none --policy learned"):
        run.trainer(task, drawn=False, capture=False)
