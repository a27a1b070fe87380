"""The flags of the commands that train: whose recipe they are, and how they may be written."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from foveal.commands.train import TrainOptions, _options
from foveal.commands.training import read_flags
from tests.commands.test_own_images import SMALL
from tests.tasks.folder.test_folder import write_bars
from tests.test_cli import Foveal, foveal  # noqa: F401 (a fixture)


def read(line: str) -> tuple[TrainOptions, dict[str, Any]]:
    """The options of ``foveal train``, and what they change of the recipe."""
    options, _, _, changed = read_flags("train", shlex.split(line), _options)
    return options, changed


def test_of_a_flag_given_twice_the_last_counts_everywhere() -> None:
    options, changed = read("mnist-28 --recipe paper --recipe fast")
    assert options == read("mnist-28 --recipe fast")[0]
    assert changed == {}
    line = "mnist-28 --glimpse-network mlp --glimpse-network=conv --glimpse-filters 5"
    assert read(line)[1]["glimpse_filters"] == 5


def test_underscores_in_a_flag_are_hyphens() -> None:
    options, changed = read("mnist-28 --glimpse_network conv --glimpse_filters 5 --num_glimpses=3")
    assert changed == {"glimpse_network": "conv", "glimpse_filters": 5, "num_glimpses": 3}
    assert options.config.model.num_glimpses == 3
    with pytest.raises(ValueError, match="--num-glimpses is of a network that looks"):
        read("mnist-28 --network conv --num_glimpses 3")


@pytest.mark.parametrize(
    ("line", "answers", "looks", "classes"),
    [
        ("pairs --answer set", 2, 2, 10),  # four looks, as the recipe has for the pair
        ("pairs --answer sum", 1, 4, 19),
        ("trail --hops 2", 3, 1, 10),
        ("trail --answer last", 1, 5, 10),
        ("digits-5 --num-digits 4 4", 4, 1, 10),
        ("digits-5 --num-digits 1 3", 3, 1, 11),
        ("pairs --answer set --num-glimpses 5", 2, 5, 10),
    ],
)
def test_what_a_model_answers_follows_from_what_is_asked(
    line: str, answers: int, looks: int, classes: int
) -> None:
    model = read(line)[0].config.model
    assert (model.max_answers, model.num_glimpses, model.num_classes) == (answers, looks, classes)
    assert model.with_end == (classes == 11)


def test_an_empty_recipe_is_none() -> None:
    with pytest.raises(ValueError, match="unknown recipe ''"):
        read("mnist-28 --recipe ''")


def test_a_directory_in_place_of_a_task_is_taken_for_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"own: foveal train folder --data {tmp_path}"):
        read(str(tmp_path))


@pytest.mark.parametrize("recipe", ["", "fast"])
def test_a_run_is_told_and_saved_by_the_recipe_that_it_has(
    foveal: Foveal,  # noqa: F811
    tmp_path: Path,
    recipe: str,
) -> None:
    write_bars(tmp_path / "bars", 8)
    chosen = f"--recipe {recipe}" if recipe else ""
    small = SMALL.replace("--log-every 5", "--epochs 1")
    code, out, err = foveal(f"train folder --data bars {chosen} {small}")
    assert (code, err) == (0, "")
    (directory,) = Path("runs").iterdir()
    assert f"-{recipe or 'best'}-0" in directory.name
    assert json.loads((directory / "config.json").read_text())["recipe"] == (recipe or "best")
    assert f"written to {directory}" in out
