"""``foveal make-dataset`` and what the other commands make of its files."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest
import torch

from foveal import cli
from foveal.scene.files import open_source
from foveal.scene.sparse import SparseScene
from foveal.tasks import CanvasTask, TaskConfig


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_writes_splits_classes_and_a_manifest(capsys: pytest.CaptureFixture[str]) -> None:
    line = "make-dataset cluttered-60 --digits uci --train 6 --validation 0 --test 4 --out"
    assert cli.main([*line.split(), "öut/a b", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["counts"] == {"train": 6, "validation": 0, "test": 4}
    assert answer["image_size"] == [60, 60]
    out = Path("öut/a b")
    with (out / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.png")} == {
        row["path"] for row in rows
    }
    assert sorted(row["split"] for row in rows) == ["test"] * 4 + ["train"] * 6
    assert cli.main([*line.split(), "öut/a b"]) == 2
    assert "must be a new or empty directory" in capsys.readouterr().err


def test_a_large_canvas_becomes_a_pyramid(capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--digits uci --canvas-size 2100 --num-clutter 9 --train 0 --validation 0 --test 1"
    assert cli.main(["make-dataset", "translated-60", *flags.split(), "--out", "big"]) == 0
    assert "1 test; 2,100 x 2,100 pixels" in capsys.readouterr().out
    (path,) = Path("big").rglob("*.tif")
    data = CanvasTask(TaskConfig(digits="uci", canvas_size=2100, num_clutter=9))
    (layout,) = (block.part(slice(0, 1)) for block in data.fixed_layouts("test", 1))
    canvases, _ = data.render(layout)
    assert isinstance(canvases, SparseScene)
    canvas = canvases.image(0)[0]
    with open_source(path) as source:
        assert [level.factor for level in source.levels] == [1, 2, 4, 8, 16]
        y, x = layout.places[0, 0].tolist()
        seen = torch.from_numpy(source.read(x, y, 28, 1))[0]
        torch.testing.assert_close(seen, canvas[y : y + 28, x : x + 28])
        mean = source.read(0, 0, 1, 2100)[0, 0, 0]
        assert abs(mean - canvas.mean().item()) < 1e-3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("cluttered-61 --out x", "Did you mean cluttered-60?"),
        ("cluttered-60", "required"),
        (
            "cluttered-60 --digits uci --test 9999 --out x",
            "--test must .* from 0 to 299; got 9999",
        ),
        (
            "cluttered-60 --digits uci --train -3 --out x",
            "--train must .* from 0 to 10,000,000; got -3",
        ),
        ("needle --digits uci --train -3 --out x", "--train must .* from 0 to 11,276; got -3"),
        ("needle --digits uci --seed 3 --out x", "--seed is nothing that needle has"),
        ("cluttered-60 --digits uci --train 1000000000000 --out x", "from 0 to 10,000,000; got 10"),
        ("mnist-28 --digits uci --train 0 --validation 0 --test 0 --out x", "nothing to write"),
        ("mnist-28 --digits uci --num-clutter 3 --out x", "clutter needs a canvas"),
        (
            "cluttered-60 --digits uci --canvas-size 20000 --format png --out x",
            "Pass --format tiff",
        ),
        ("cluttered-60 --digits uci --canvas-size 999999 --out x", "from 0 to 131,072; got 999999"),
    ],
)
def test_wrong_input_gives_one_line_and_no_files(
    flags: str, words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(["make-dataset", *flags.split()]) == 2
    error = capsys.readouterr().err
    assert error.startswith("foveal make-dataset: ")
    assert error.count("\n") == 1
    assert re.search(words, error), error
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_evaluated_on_canvases_of_another_size(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = "evaluate cluttered-60 --digits uci --canvas-size 90 --num-clutter 2 --json"
    assert cli.main(line.split()) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["image_size"] == [90, 90]
    assert answer["pixels_read"] == 8 * 3 * 12 * 12
    assert cli.main(["evaluate", "cluttered-60", "--digits", "uci", "--canvas-size", "20"]) == 2
    assert "at least a digit's 28 pixels; got 20" in capsys.readouterr().err
