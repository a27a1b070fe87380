from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from foveal import cli
from foveal.io.files import config_from_dict
from foveal.model.attention import RecurrentAttention
from foveal.runs.haystacks import HaystackRun
from foveal.runs.paper.rows import HIDDEN, ROWS
from foveal.runs.recipes import haystack, recipe
from foveal.runs.saved import load
from foveal.tasks import HAYSTACKS, HaystackConfig


@pytest.mark.parametrize("name", HAYSTACKS)
def test_the_recipe_survives_its_json(name: str) -> None:
    run = recipe(name, "best")
    assert config_from_dict(HaystackRun, dataclasses.asdict(run), "here") == run
    with pytest.raises(ValueError, match="unknown recipe 'fast'; it must be one of best"):
        recipe(name, "fast")


def test_of_a_megapixel_3_percent_are_read_at_most() -> None:
    for side in (1500, 3000):
        model = RecurrentAttention(haystack(HaystackConfig(canvas_size=side)).model)
        assert model.count_pixels_read() <= 0.03 * side**2


@pytest.mark.parametrize("side", [64, 128, 256, 512, 1024, 2048])
def test_needles_of_every_published_size_have_a_model(side: int) -> None:
    run = haystack(HaystackConfig("needle", canvas_size=side))
    assert run.model.num_classes == 2
    assert RecurrentAttention(run.model).context is not None


def test_rows_ask_what_their_names_say() -> None:
    tasks = {name: ROWS[name].config.task for name in HIDDEN}
    assert tasks["megapixel-max"].question == "max"
    assert tasks["megapixel-3000"].pieces == 800
    assert (tasks["needle-1024"].canvas_size, tasks["needle-1024"].train_images) == (1024, 11_276)


def test_all_classes_are_asked_for_as_a_set_of_answers_that_share_the_looks() -> None:
    for looks, each in ((16, 5), (2, 1)):
        run = haystack(HaystackConfig("multi", digits="uci", train_images=8))
        made, _ = run.altered(model={"num_glimpses": looks}).completed()
        assert (made.model.max_answers, made.model.num_glimpses) == (3, each)
        assert (made.model.end, made.model.distinct, made.model.num_classes) == (10, True, 11)
        assert made.completed()[0] == made, "a run that goes on stays as it is"


def test_a_run_from_training_to_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    small = "--digits uci --canvas-size 64 --train-images 8 --batch-size 4 --epochs 1"
    assert cli.main(f"train needle {small} --num-glimpses 2 --out run --json".split()) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["test_images"], result["num_glimpses"]) == (1000, 2)
    assert result["pixels_read"] == 32**2 + 2 * 32**2
    saved = load(tmp_path / "run")
    assert isinstance(saved.run, HaystackRun)
    task = saved.run.open(tmp_path, torch.device("cpu"))
    assert (task.size("train"), task.classes) == (8, ("absent", "present"))
    assert cli.main(["evaluate", "run", "--split", "validation", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["count"] == 1000
    line = "make-dataset needle --digits uci --canvas-size 64 --train 3 --validation 1 --test 0"
    assert cli.main([*line.split(), "--out", "files", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["checksums"]) == {"train", "validation"}
    assert len(list((tmp_path / "files").rglob("*.png"))) == 4
    assert cli.main(["make-dataset", "needle", "--clutter-size", "3", "--out", "other"]) == 2
    assert "unknown flag --clutter-size" in capsys.readouterr().err
