"""The models that ship with the package."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from foveal import RecurrentAttention, cli
from foveal.evaluation.classifier import evaluate
from foveal.io.files import read_json
from foveal.io.models import locate_model, pretrained_models
from foveal.runs.saved import load

NAMES = pretrained_models()
AGENTS = ["catch"]
CLASSIFIERS = [name for name in NAMES if name not in AGENTS]


@pytest.mark.parametrize("name", NAMES)
def test_a_pretrained_model_loads_by_name_and_looks(name: str) -> None:
    model = RecurrentAttention.from_pretrained(name)
    run = load(name).run
    assert run is not None
    side = 24 if run.task is None else run.task.canvas_size or 28
    rollout = model(torch.rand(2, 1, side, side))
    assert not model.training
    looks = model.config.num_glimpses * model.config.max_answers
    assert rollout.locations.shape == (2, looks, 2)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_small_and_its_card_says_what_its_result_says(name: str) -> None:
    directory = locate_model(name)
    result, card = read_json(directory / "result.json"), (directory / "README.md").read_text()
    assert (directory / "model.safetensors").stat().st_size < 3_000_000
    assert f"{result['success_rate' if name in AGENTS else 'error']:.2f} %" in card
    assert result["command"] in card
    assert f'from_pretrained("{name}")' in card or f"foveal play {name} " in card
    assert result["parameters"] == RecurrentAttention.from_pretrained(name).count_parameters()


@pytest.mark.skipif("FOVEAL_DATA" not in os.environ, reason="needs MNIST; FOVEAL_DATA is not set")
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_its_recorded_error_is_repeated_exactly(name: str, tmp_path: Path) -> None:
    saved = load(name)
    task = saved.run.open(tmp_path, torch.device("cpu"))
    error = evaluate(saved.model, task, "test").error
    assert error == read_json(locate_model(name) / "result.json")["error"]


@pytest.mark.parametrize("name", AGENTS)
def test_an_agents_recorded_success_is_repeated_exactly(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = read_json(locate_model(name) / "result.json")
    games = f"--episodes {recorded['episodes']} --seed 2014 --threads 1 --json"
    assert cli.main(["play", name, *games.split()]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["success_rate"] == recorded["success_rate"]
    assert answer["ball_distance"] == pytest.approx(recorded["ball_distance"], abs=1e-3)


def test_models_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["models"]
    assert [row["model"] for row in rows] == NAMES
    assert {"mnist-28", "catch"} <= set(NAMES)
    assert cli.main(["models"]) == 0
    assert "mnist-28" in capsys.readouterr().out


def test_an_unknown_name_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["look", "mnist-82"]) == 2
    err = capsys.readouterr().err
    assert "there is no directory 'mnist-82'" in err
    assert "Did you mean mnist-28?" in err
    with pytest.raises(FileNotFoundError, match="Did you mean mnist-28?"):
        RecurrentAttention.from_pretrained("mnist-82")
