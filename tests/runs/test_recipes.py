from __future__ import annotations

import dataclasses

import pytest

from foveal.io.files import config_from_dict
from foveal.model.attention import RecurrentAttention
from foveal.runs.classifier import CanvasRun
from foveal.runs.paper.rows import ROWS
from foveal.runs.recipes import RECIPES, recipe, usual_recipe
from foveal.tasks import TASKS
from foveal.tasks.augmentation import AugmentationConfig


def test_paper_is_what_the_paper_states() -> None:
    run = recipe("mnist-28", "paper")
    model, training = run.model, run.training
    assert (model.glimpse_size, model.num_scales, model.num_glimpses) == (8, 1, 7)
    assert (model.glimpse_hidden, model.location_hidden) == (128, 128)
    assert (model.glimpse_features, model.core_size, model.core) == (256, 256, "rnn")
    assert (training.optimizer, training.momentum, training.batch_size) == ("sgd", 0.9, 20)
    assert run.objective.reward == "correct"
    assert run.objective.credit_decay == 1
    assert model.detach_policy
    assert not run.objective.privileged_baseline


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_survives_its_json(task: str, name: str) -> None:
    run = recipe(task, name)
    assert config_from_dict(CanvasRun, dataclasses.asdict(run), "here") == run


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", ["paper", "fast"])
def test_recipes_of_the_paper_train_the_published_retina(task: str, name: str) -> None:
    run = recipe(task, name)
    scales = {"mnist-28": 1, "translated-60": 3, "cluttered-60": 3}.get(task, 4)
    assert run.model.num_scales == scales
    assert run.model.glimpse_size == (8 if task == "mnist-28" else 12)


@pytest.mark.parametrize("task", ["translated-60", "cluttered-60", "cluttered-100"])
def test_beyond_the_paper_a_sixteenth_is_read_first_and_no_more_than_the_paper_after(
    task: str,
) -> None:
    best, fast = (RecurrentAttention(recipe(task, name).model) for name in ("best", "fast"))
    assert best.count_pixels_read(0) <= TASKS[task].canvas_size ** 2 / 16
    assert best.config.num_glimpses <= 8
    assert best.count_pixels_read() < fast.count_pixels_read()


@pytest.mark.parametrize("task", ["cheung-1", "cheung-2"])
@pytest.mark.parametrize("name", RECIPES)
def test_with_zoom_nothing_is_read_but_4_looks_of_144_samples(task: str, name: str) -> None:
    model = RecurrentAttention(recipe(task, name).model)
    assert model.count_pixels_read() == 4 * 144
    assert model.config.zoom
    assert ROWS[task].config == recipe(task, "best")


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.task in TASKS])
def test_digits_are_transformed_where_there_is_no_clutter_and_for_no_rival(name: str) -> None:
    config = ROWS[name].config
    assert isinstance(config, CanvasRun)
    transformed = config.task.augmentation != AugmentationConfig()
    # Of a trail there are two dozen digits on each canvas, few of which matter.
    cluttered = name.startswith(("cluttered", "cheung", "row-3", "trail"))
    assert transformed == (config.network == "ram" and not cluttered)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown task 'mnist_28'.*Did you mean mnist-28?"):
        recipe("mnist_28", "fast")
    with pytest.raises(
        ValueError, match="unknown recipe 'quick'; it must be one of paper, fast, b"
    ):
        recipe("mnist-28", "quick")


def test_the_usual_recipe_is_that_of_the_rows() -> None:
    for name in TASKS:
        row = next((row for row in ROWS.values() if row.task == name and not row.apart), None)
        usual = recipe(name, usual_recipe(name)).model
        several = recipe(name, "best").model.max_answers > 1 or name in ("pairs", "addition")
        assert (usual.context != "none") == several, name
        assert row is None or usual.context == "none"
    assert [usual_recipe(name) for name in ("catch", "control", "folder")] == [
        "fast",
        "fast",
        "best",
    ]
