"""The commands on files that are read only where they are looked at."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from foveal import RecurrentAttention, cli
from foveal.scene import as_scene
from foveal.scene import files as readers
from foveal.viz.scanpath import overview
from tests.conftest import TINY
from tests.tasks.folder.test_folder import damage


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model, and every TIFF of more than 64 x 64 pixels counts as large."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(readers.is_large, "__kwdefaults__", {"large": 64 * 64})
    torch.manual_seed(0)
    RecurrentAttention(TINY).save_pretrained(tmp_path / "model")


def write(path: str, side: int, seed: int = 0) -> np.ndarray:
    image = np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, image, tile=(32, 32), compression="zlib")
    return image


def predict(capsys: pytest.CaptureFixture[str], line: str) -> tuple[int, list[dict], str]:
    code = cli.main(["predict", "model", *line.split(), "--json"])
    out, err = capsys.readouterr()
    return code, [json.loads(row) for row in out.splitlines()], err


def test_a_large_file_is_predicted_as_if_it_were_read_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = write("large.tif", 200)
    write("small.tif", 40)
    np.save("array.npy", image)
    code, answers, _ = predict(capsys, "small.tif large.tif array.npy small.tif")
    assert code == 0
    assert [answer["file"] for answer in answers] == [
        "small.tif",
        "large.tif",
        "array.npy",
        "small.tif",
    ]
    assert answers[0] == answers[3]
    assert answers[1]["height"] == answers[2]["width"] == 200
    monkeypatch.setattr(readers.is_large, "__kwdefaults__", {"large": 10**9})
    _, whole, _ = predict(capsys, "large.tif")
    for answer in answers[1:3]:
        assert answer["locations"] == whole[0]["locations"]
        assert answer["probabilities"] == pytest.approx(whole[0]["probabilities"], abs=1e-5)


def test_a_damaged_large_file_stops_none_of_the_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("a.tif", 200)
    shutil.copy("a.tif", "bad tile ö.tif")
    damage(Path("bad tile ö.tif"))
    Path("cut.tif").write_bytes(Path("a.tif").read_bytes()[:3000])
    write("z.tif", 100)
    names = ["a.tif", "bad tile ö.tif", "cut.tif", "z.tif"]
    code = cli.main(["predict", "model", *names, "--json"])
    out, err = capsys.readouterr()
    assert code == 1
    assert [json.loads(row)["file"] for row in out.splitlines()] == ["a.tif", "z.tif"]
    lines = err.splitlines()
    assert any("bad tile ö.tif has a tile that cannot be decoded" in line for line in lines)
    assert any("cut.tif" in line for line in lines)
    assert "2 of 4 files could not be read" in lines[-1]
    assert cli.main(["predict", "model", *names, "--strict"]) == 2


def test_a_folder_of_large_files_is_evaluated(capsys: pytest.CaptureFixture[str]) -> None:
    labels = []
    for i in range(6):
        label = str(i % 2)
        write(f"data/{label}/{i}.tif", 120 if i < 4 else 40, seed=i)
        labels.append((f"data/{label}/{i}.tif", label))
    _, answers, _ = predict(capsys, "data")
    assert len(answers) == 6
    assert cli.main(["evaluate", "model", "--data", "data", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["count"] == 6
    assert result["image_size"] == [120, 120]


def test_damaged_large_files_stop_neither_evaluation_nor_training(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for i in range(12):
        write(f"data/{i % 2}/{i:02}.tif", 120, seed=i)
    damage(Path("data/0/00.tif"))
    code = cli.main(["evaluate", "model", "--data", "data", "--json"])
    out, err = capsys.readouterr()
    assert (code, json.loads(out)["count"]) == (1, 11)
    first, last = err.splitlines()
    assert first.startswith("foveal evaluate: left out: data/0/00.tif has a tile that cannot be")
    assert last == "foveal evaluate: 1 file(s) could not be read and were left out."
    assert cli.main(["evaluate", "model", "--data", "data", "--strict"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(r"00.tif has a tile that cannot be decoded.* \(--strict\)", line)

    small = "--glimpse-size 4 --core-size 8 --epochs 2 --batch-size 4 --threads 1"
    line = f"train folder --data data --held-out 0.2 --out run --workers 0 {small}"
    assert cli.main(line.split()) == 0
    err = capsys.readouterr().err
    assert err.count("00.tif has a tile") == err.count("left out") == 1

    with Path("run/split.csv").open(newline="") as file:
        held_out = [row["path"] for row in csv.DictReader(file) if row["split"] == "test"]
    damage(Path("data", held_out[0]))
    assert cli.main(["evaluate", "run", "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out)["count"] == len(held_out) - 1
    assert f"{held_out[0]} has a tile" in err
    assert cli.main(["evaluate", "run", "--strict"]) == 2


def test_a_file_with_many_faults_is_one_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Each of its tiles is missing at a place of its own, and each look meets others."""
    for i in range(4):
        write(f"data/{i % 2}/{i}.tif", 200, seed=i)
    cut = Path("data/0/0.tif")
    cut.write_bytes(cut.read_bytes()[:3000])
    code = cli.main(["evaluate", "model", "--data", "data", "--num-glimpses", "9", "--json"])
    out, err = capsys.readouterr()
    assert (code, json.loads(out)["count"]) == (1, 3)
    first, last = err.splitlines()
    assert first.startswith("foveal evaluate: left out: data/0/0.tif is damaged or cut off")
    assert last == "foveal evaluate: 1 file(s) could not be read and were left out."


def test_a_large_file_is_shown_as_if_it_were_read_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("large.tif", 200)
    shown = []
    for large in (64 * 64, 10**9):
        monkeypatch.setattr(readers.is_large, "__kwdefaults__", {"large": large})
        assert cli.main(["look", "model", "large.tif", "--out", f"{large}.png", "--json"]) == 0
        shown.append(json.loads(capsys.readouterr().out))
        assert Path(f"{large}.png").stat().st_size > 1000
    assert shown[0]["locations"] == shown[1]["locations"]


def test_the_overview_of_a_source_is_the_image_averaged_down() -> None:
    image = np.random.default_rng(0).random((1500, 2100, 3)).astype(np.float32)
    got = overview(as_scene([readers.ArraySource(image)]))
    assert got.shape == (3, 500, 700)
    wanted = image.reshape(500, 3, 700, 3, 3).mean((1, 3))
    np.testing.assert_allclose(got.movedim(0, -1), wanted, atol=1e-5)


def test_made_files_have_the_error_that_the_task_has(capsys: pytest.CaptureFixture[str]) -> None:
    """The pretrained model on files of the first test canvases, all read by windows."""
    line = "make-dataset cluttered-60 --digits uci --train 0 --validation 0 --test 40 --format tiff"
    assert cli.main([*line.split(), "--canvas-size", "70", "--out", "made"]) == 0
    capsys.readouterr()
    with Path("made/manifest.csv").open(newline="") as file:
        rows = [row["label"] for row in csv.DictReader(file)]
    assert len(rows) == 40
    code = cli.main(["evaluate", "cluttered-60", "--data", "made/manifest.csv", "--json"])
    assert code == 0
    result = json.loads(capsys.readouterr().out)
    assert result["count"] == 40
    assert result["error"] <= 40
