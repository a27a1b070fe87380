from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock, Timeout

from foveal import cli
from foveal.commands import reproduce
from foveal.envs import EnvConfig
from foveal.io.models import read_tensors, upgraded
from foveal.model.config import RAMConfig
from foveal.runs.agent import AgentRun
from foveal.runs.classifier import CanvasRun
from foveal.runs.paper import report, rows
from foveal.runs.paper.rows import ROWS, Row
from foveal.tasks import TaskConfig
from foveal.training.agent import ControlConfig
from foveal.training.classifier import TrainConfig
from tests.processes import Command
from tests.training.test_agent import AGENT

# Rows that train in a second, in place of the real ones.
SMALL = {
    name: Row(
        name,
        title,
        "mnist-28",
        CanvasRun(
            network=network,  # type: ignore[arg-type]
            task=TaskConfig(digits="uci"),
            model=RAMConfig(num_glimpses=2, core_size=16, glimpse_features=16),
            training=TrainConfig(epochs=10, batch_size=100, checkpoint_minutes=0),
        ),
        paper,
    )
    for name, title, network, paper in (
        ("small-ram", "RAM, 2 glimpses", "ram", 1.5),
        ("small-conv", "convolutional", "conv", None),
    )
}
SMALL["small-agent"] = Row(
    "small-agent",
    "an agent",
    "catch",
    AgentRun(
        env=EnvConfig(env_options=("size=5",)),
        model=dataclasses.replace(AGENT, core_size=16),
        training=ControlConfig(
            decisions=20 * 4 * 16,
            num_envs=16,
            rollout_length=4,
            validate_every=10,
            validation_episodes=20,
            test_episodes=50,
            checkpoint_minutes=0,
        ),
    ),
    85.0,
)


def with_small_rows(words: list[str]) -> int:
    """What a process of its own runs, which is not told of the small rows otherwise."""
    for module in (rows, report, reproduce):
        module.ROWS = SMALL  # type: ignore[attr-defined]
    return cli.main(words)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (rows, report, reproduce):
        monkeypatch.setattr(module, "ROWS", SMALL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(line: str) -> Command:
    return Command(line, main=with_small_rows)


def test_the_rows_are_those_of_the_paper() -> None:
    kinds = [
        row.name.removeprefix(f"{row.task}-").split("-")[0]
        for row in ROWS.values()
        if row.task != "catch" and not row.apart
    ]
    assert (kinds.count("ram"), kinds.count("random"), kinds.count("center")) == (15, 2, 4)
    assert kinds.count("fc") + kinds.count("conv") == 9
    assert ROWS["cluttered-100-ram-8"].paper == 8.11
    for name, row in ROWS.items():
        if isinstance(row.config, AgentRun):
            assert row.measure == "success_rate"
            assert row.config.completed(None, print, torch.device("cpu"))[0] == row.config
            continue
        assert row.measure == ("answer_error" if row.single else "error")
        if row.apart:
            most = {"mnist-28": 1.07, "translated-60": 1.2, "cluttered-60": 4.04}
            most |= {"cluttered-100": 8.11}
            assert row.paper == (most[row.task] if row.apart == "soonest" else None)
            continue
        assert (row.paper is None) == ("center" in name)
        if row.config.network == "ram":
            assert row.config.model.num_glimpses == int(name.rsplit("-", 1)[1])
            assert (row.config.model.policy == "learned") == ("-ram-" in name)
            kin = [n for n in ROWS if n.startswith(f"{row.task}-ram-") and not ROWS[n].apart]
            most = max(int(n[-1]) for n in kin)
            fewer = "-ram-" in name and row.config.model.num_glimpses < most
            assert row.config.start == (row.task if fewer else None)
    # As many weights in the hidden layer of both convolutional networks (the paper's §4.1).
    assert ROWS["cluttered-100-conv"].config.network == "conv-86"


@pytest.mark.parametrize("name", ROWS)
def test_a_published_figure_was_made_by_the_row_as_it_is(name: str) -> None:
    result = report.read_row(Path(__file__).parents[2] / "results", name)
    if ROWS[name].apart and result is None:
        pytest.skip("this row has not been trained yet")
    assert result is not None
    config = ROWS[name].config
    assert config.read(upgraded(result["config"]), Path(name)) == config


def test_a_row_is_trained_evaluated_and_put_beside_the_paper(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["reproduce", "small-ram", "--quick", "--seeds", "0", "1", "--jobs", "1"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "the paper" not in out, "a run cut short is not compared"
    result = json.loads((small / "runs/quick/results/small-ram.json").read_text())
    assert result["command"] == "foveal reproduce small-ram --seeds 0 1 --quick"
    assert result["paper"] is None
    assert result["config"]["training"]["epochs"] == 1, "a fiftieth, and not none"
    errors = [run["error"] for run in result["runs"]]
    assert result["error"] == pytest.approx(sum(errors) / 2)
    assert result["spread"] == pytest.approx(abs(errors[0] - errors[1]) / 2**0.5)
    for seed, made in enumerate(result["runs"]):
        assert made["seed"] == seed
        assert made["images_seen"] == 1100
        assert made["validation_curve"] == [[1100, made["validation_error"]]]
        assert made["hardware"]
        assert 0 < made["processor_seconds"] < made["seconds"] * (os.cpu_count() or 1)
        assert cli.main(["evaluate", f"runs/quick/small-ram/seed-{seed}", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["error"] == made["error"]
    table = (small / "runs/quick/results/README.md").read_text()
    assert f"| **{result['error']:.2f}** ± {result['spread']:.2f} |" in table
    assert "The rows above are cut short" in table
    quick = next(line for line in table.splitlines() if "`small-ram`" in line)
    assert "1.50" not in quick, "there is nothing to compare"
    assert "| `small-conv` | convolutional | not yet |" in table


def test_a_whole_row_is_put_beside_the_paper() -> None:
    row = SMALL["small-ram"]
    run = {"error": 2.5, "protocol": "", "seed": 0, "seconds": 60, "images_seen": 1}
    result = report.row_result(row, "foveal", [run | {"hardware": "", "commit": ""}])
    assert result["paper"] == 1.5
    assert "| 1.50 | +1.00 |" in report._line(report._cells(row, result))


def test_the_list_says_what_is_done_and_what_is_not(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["reproduce", "small-conv", "--quick", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)["results"][0]
    assert cli.main(["reproduce", "--quick", "--json"]) == 0
    lines = {line["row"]: line for line in json.loads(capsys.readouterr().out)["rows"]}
    assert lines["small-conv"]["state"] == "done, 1 seed(s)"
    assert lines["small-conv"]["error"] == answer["error"]
    assert lines["small-ram"]["state"] == "not yet"
    assert lines["small-ram"]["error"] is None
    assert cli.main(["reproduce"]) == 0
    assert "not yet" in capsys.readouterr().out, "a quick result is not a result"
    assert not (small / "results").exists()


def test_rows_train_in_processes_of_their_own_and_an_interrupted_one_goes_on(
    small: Path,
) -> None:
    """Rows of each kind, one stopped by a signal, against runs that never were."""
    line = "reproduce small-ram small-conv small-agent --jobs 1 --json"
    whole = start(f"{line} --runs whole --out whole/results")
    _, err = whole.communicate(timeout=120)
    assert whole.returncode == 0, err
    process = start("reproduce small-ram --json")
    saved = small / "runs/reproduce/small-ram/seed-0/checkpoint/last.safetensors"
    process.wait_for(saved.exists)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Go on with: the same command" in err
    assert not (small / "results").exists()
    again = start(line)
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert [result["row"] for result in json.loads(out)["results"]] == list(SMALL)
    for name in SMALL:
        ours, theirs = (
            read_tensors(small / runs / name / "seed-0" / "model.safetensors")[0]
            for runs in ("runs/reproduce", "whole")
        )
        for key, value in theirs.items():
            assert torch.equal(ours[key], value), (name, key)


def test_a_row_that_another_process_trains_is_left_alone(small: Path) -> None:
    first = start("reproduce small-ram --json")
    first.wait_for((small / "runs/reproduce/small-ram/seed-0/metrics.jsonl").exists)
    os.kill(first.pid, signal.SIGSTOP)
    try:
        second = start("reproduce small-ram --json")
        _, err = second.communicate(timeout=60)
    finally:
        os.kill(first.pid, signal.SIGCONT)
    assert second.returncode == 1
    assert re.search("another process is training runs/reproduce/small-ram/seed-0", err)
    out, err = first.communicate(timeout=120)
    assert first.returncode == 0, err
    assert json.loads(out)["results"][0]["seeds"] == [0]


@pytest.mark.usefixtures("small")
def test_a_run_of_another_recipe_is_not_taken_for_the_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["reproduce", "small-conv", "--quick"]) == 0
    row = SMALL["small-conv"]
    changed = dataclasses.replace(row.config.training, lr=0.5)
    config = dataclasses.replace(row.config, training=changed)
    monkeypatch.setitem(SMALL, row.name, dataclasses.replace(row, config=config))
    capsys.readouterr()
    assert cli.main(["reproduce", "small-conv", "--quick"]) == 2
    err = capsys.readouterr().err
    assert "holds a run of another configuration: lr is 0.001 there, and 0.5 was wanted" in err


def test_a_failed_run_is_named_and_the_others_finish(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = small / "runs/quick/small-ram/seed-0/checkpoint/last.safetensors"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"not a checkpoint")
    launcher = small / "launcher"
    launcher.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from tests.commands.test_reproduce import with_small_rows\n"
        "sys.exit(with_small_rows(sys.argv[3:]))"
    )
    launcher.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(launcher))
    code = cli.main(["reproduce", "--all", "--quick", "--jobs", "2"])
    out, err = capsys.readouterr()
    assert code == 1
    assert "1 run(s) failed: small-ram, seed 0: foveal reproduce: " in err
    assert "is truncated or not a safetensors file" in err
    assert "small-conv, seed 0: test error" in out


def test_a_damaged_run_is_named_and_the_other_seeds_make_the_row(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["reproduce", "small-ram", "--quick", "--jobs", "1", "--seeds"]
    assert cli.main([*line, "0", "1"]) == 0
    (small / "runs/quick/small-ram/seed-0/result.json").write_text('{"error": 1')
    path = small / "runs/quick/small-ram/seed-1/result.json"
    path.write_text(path.read_text().replace(json.loads(path.read_text())["commit"], "another"))
    capsys.readouterr()
    assert cli.main([*line, "0", "1", "2"]) == 1
    err = capsys.readouterr().err
    assert "1 run(s) failed: small-ram, seed 0: runs/quick/small-ram/seed-0/result.json must" in err
    assert re.search("left out.*seed-0/result.json must be JSON.* Remove it", err)
    result = json.loads((small / "runs/quick/results/small-ram.json").read_text())
    assert result["seeds"] == [1, 2]
    assert result["commits"] == sorted(["another", result["runs"][1]["commit"]])
    assert cli.main([*line, "2"]) == 0
    assert "; of different commits, " in capsys.readouterr().out


def test_a_row_is_of_all_seeds_that_are_known_and_of_no_other_recipe(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What lies under the runs' directory: old names, another recipe, and runs that are gone."""
    line = ["reproduce", "small-conv", "--quick", "--jobs", "1", "--seeds"]
    place, path = small / "runs/quick/small-conv", small / "runs/quick/results/small-conv.json"
    assert cli.main([*line, "0", "1"]) == 0
    shutil.rmtree(place / "seed-1")
    (place / "seed-0").rename(place / "seed-0-old")
    shutil.copytree(place / "seed-0-old", place / "seed-00")
    other = "train mnist-28 --digits uci --network fc-64 --epochs 1 --seed 3 --out"
    assert cli.main([*other.split(), str(place / "seed-3")]) == 0
    before = json.loads(path.read_text())
    capsys.readouterr()
    assert cli.main([*line, "2"]) == 0
    err = capsys.readouterr().err
    assert "left out: runs/quick/small-conv/seed-3 holds a run of another configuration" in err
    result = json.loads(path.read_text())
    assert result["seeds"] == [0, 1, 2]
    assert result["runs"][:2] == before["runs"]
    assert result["command"] == "foveal reproduce small-conv --seeds 0 1 2 --quick"


def test_what_is_not_the_rows_is_not_written_over(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (small / "mine").mkdir()
    (small / "mine/README.md").write_text("# My project")
    line = ["reproduce", "small-conv", "--quick", "--out", "mine"]
    assert cli.main(line) == 2
    assert "mine/README.md is no table of results. Choose another" in capsys.readouterr().err
    (small / "mine/README.md").unlink()
    row = SMALL["small-conv"]
    run = {"error": 2.5, "protocol": "", "seed": 0, "seconds": 60, "images_seen": 1, "commit": ""}
    whole = report.row_result(row, "foveal", [run | {"hardware": "", "command": "foveal"}])
    report.write_row(small / "mine", whole)
    assert cli.main(line) == 2
    err = capsys.readouterr().err
    assert "mine has the result of small-conv at its full length, which --quick would" in err
    assert report.read_row(small / "mine", "small-conv") == json.loads(json.dumps(whole))
    (small / "file").write_text("mine")
    for place in ("file", "file/results"):
        assert cli.main([*line[:-1], place]) == 2
        assert "file is no directory that can be written" in capsys.readouterr().err
    assert not (small / "runs").exists(), "said before anything is trained"


def test_of_two_runs_that_end_together_none_is_lost(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other process reads or writes results between what one reads of a row and what it adds."""
    held = []

    def read(*given: Any, **named: Any) -> list[dict[str, Any]]:
        with pytest.raises(Timeout), FileLock(small / "results/.lock", timeout=0):
            pass
        held.append(True)
        return report.kept_runs(*given, **named)

    monkeypatch.setattr(reproduce, "kept_runs", read)
    (small / "results").mkdir()
    assert cli.main(["reproduce", "small-conv", "--quick", "--out", "results"]) == 0
    assert held


@pytest.mark.parametrize(
    ("name", "value"),
    [("error", "2.5"), ("error", float("nan")), ("error", 300), ("seed", None), ("seconds", True)],
)
def test_a_result_that_is_not_whole_is_named(
    name: str, value: Any, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["reproduce", "small-conv", "--quick", "--jobs", "1"]
    assert cli.main(line) == 0
    for path in ("small-conv/seed-0/result.json", "results/small-conv.json"):
        place = small / "runs/quick" / path
        kept = place.read_text()
        content = json.loads(kept)
        (content if name in content else content["runs"][0])[name] = value
        place.write_text(json.dumps(content))
        capsys.readouterr()
        assert cli.main([*line, "--seeds", "1"] if "seed-0" in path else line) in (0, 2)
        said = capsys.readouterr().err
        assert path in said
        assert f"has no {name}" in said
        assert said.count("\n") == 1
        place.write_text(kept)


@pytest.mark.parametrize(("config", "named"), [([], True), (None, True), ({"model": "x"}, False)])
def test_a_row_without_its_configuration_is_named_and_of_another_made_anew(
    config: Any, named: bool, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line, place = ["reproduce", "small-conv", "--quick", "--jobs", "1"], small / "runs/quick"
    assert cli.main(line) == 0
    path = place / "results/small-conv.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"config": config}))
    capsys.readouterr()
    assert cli.main([*line, "--seeds", "1"]) == (2 if named else 0)
    assert ("small-conv.json has no config" in capsys.readouterr().err) == named


def test_of_no_result_there_is_no_row(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["reproduce", "small-conv", "--quick"]
    assert cli.main(line) == 0
    (small / "runs/quick/small-conv/seed-0/result.json").write_text("{}")
    capsys.readouterr()
    assert cli.main(line) == 2
    err = capsys.readouterr().err
    assert "seed-0/result.json has no seed" in err
    assert "no result of small-conv is left to make a row of" in err


def test_a_run_that_cannot_be_read_ends_no_other(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = small / "runs/quick/small-conv/seed-1/config.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    assert cli.main(["reproduce", "--quick", "--seeds", "0", "1"]) == 0
    assert "seed 1 cannot be read" in capsys.readouterr().out
    plan = reproduce._Plan(
        rows=(SMALL["small-conv"],),
        seeds=(1,),
        quick=True,
        jobs=2,
        threads=1,
        device="cpu",
        out=small / "results",
        runs=small / "runs/quick",
    )
    assert reproduce._progress(plan, SMALL["small-conv"], 1) == {}


def test_several_seeds_pool_into_one_interval() -> None:
    runs = [
        {"error": error, "seed": seed, "protocol": "one rollout"}
        for seed, error in enumerate((1.0, 1.2, 1.4))
    ]
    result = report.row_result(SMALL["small-ram"], "a command", runs)
    assert result["error"] == pytest.approx(1.2)
    assert result["spread"] == pytest.approx(0.2)
    low, high = result["interval"]
    assert (low, high) == pytest.approx((1.00, 1.43), abs=0.01)
    assert result["config"]["training"] == dataclasses.asdict(SMALL["small-ram"].config.training)
