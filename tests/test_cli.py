from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import shlex
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tests.envs.test_games  # noqa: F401 (registers environments)
from foveal import RAMConfig, RecurrentAttention, cli
from foveal.commands.demo import _clear
from foveal.envs import CATCH_ID
from foveal.io.files import read_tensors, write_json
from foveal.io.models import FORMAT, VERSION, save_model
from foveal.model.whole_image import make_reference_network
from foveal.runs.recipes import demo_run, recipe
from foveal.runs.saved import load
from foveal.training.journal import read_metrics
from tests.conftest import idx_bytes
from tests.processes import Command

SMALL = (
    "--glimpse-hidden 8 --location-hidden 8 --glimpse-features 16 --core-size 16 "
    "--num-glimpses 3 --batch-size 50 --threads 1 --log-every 5 "
    "--validate-every 1"
)


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """600 training and 100 test digits of 12 x 12 in two classes: a bar lies, or stands."""
    directory = tmp_path / "digits"
    directory.mkdir()
    random_numbers = np.random.default_rng(0)
    for part, count in (("train", 600), ("t10k", 100)):
        labels = (np.arange(count) % 2).astype(np.uint8)
        images = random_numbers.integers(0, 60, (count, 12, 12), dtype=np.uint8)
        images[labels == 0, 5:7, :] = 250
        images[labels == 1, :, 5:7] = 250
        (directory / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (directory / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    return directory


@pytest.fixture
def train(digits: Path) -> str:
    return f"train mnist-28 --digits {digits} --num-classes 2 {SMALL}"


class Foveal:
    """Calls the command in this process, in a directory of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, line: str) -> tuple[int, str, str]:
        code = cli.main(shlex.split(line))
        out, err = self.capsys.readouterr()
        return code, out, err


@pytest.fixture
def foveal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Foveal:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(cli, "IMPORTED", [])
    return Foveal(capsys)


def test_the_best_is_what_is_said_of_the_weights_that_were_kept(
    foveal: Foveal, train: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what the metrics have, which a run that was killed may have gone on without."""
    lost = [{"step": 7, "validation_error": 0.0, "seconds": 1.0}]
    monkeypatch.setattr("foveal.runs.run.read_metrics", lambda _: lost)
    assert foveal(f"{train} --epochs 3 --keep best --out run")[0] == 0
    result = json.loads(Path("run/result.json").read_text())
    kept = read_tensors(Path("run/best.safetensors"))[1]
    assert result["best_step"] == kept["step"]
    assert result["best_validation_error"] == kept["validation"]["validation_error"]
    assert result["validation_error"] == result["best_validation_error"] > 0


def test_train_evaluate_and_look(foveal: Foveal, train: str) -> None:
    code, out, err = foveal(f"{train} --epochs 20 --out run --lr 0.01")
    assert (code, err) == (0, "")
    assert "test error" in out
    assert "foveal look run" in out
    wanted = {"config.json", "metrics.jsonl", "checkpoint", "model.safetensors", "result.json"}
    assert wanted <= {path.name for path in Path("run").iterdir()}
    result = json.loads(Path("run/result.json").read_text())
    assert result["error"] <= 5
    assert result["interval"][0] <= result["error"] <= result["interval"][1]
    assert result["images_seen"] == 20 * 10 * 50
    errors = [error for _, error in result["validation_curve"]]
    assert result["best_validation_error"] == min(errors)
    assert result["best_step"] == 10 * (20 - errors[::-1].index(min(errors))), "the last of equals"
    assert re.search(r"training: epoch 2, step 20 of 200, .*/s, \d:\d\d:\d\d left\n", out)
    assert result["pixels_read"] == 3 * 64

    code, out, _ = foveal("evaluate run --json")
    answer = json.loads(out)
    assert code == 0
    assert answer["error"] == result["error"], "the recorded error is repeated exactly"
    assert answer["count"] == 100
    code, out, _ = foveal("evaluate run --split validation --num-glimpses 5")
    assert code == 0
    assert "validation error" in out
    assert "5 glimpses, 320 numbers read" in out

    code, out, _ = foveal("look run --out pictures/first.png --index 3")
    assert code == 0
    assert "3 looks, answer" in out
    with Image.open("pictures/first.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 200
    Image.new("RGB", (40, 30), (200, 10, 90)).save("mine.png")
    code, out, _ = foveal("look run mine.png --out mine-look.png --json")
    answer = json.loads(out)
    assert code == 0
    assert len(answer["locations"]) == 3
    assert sum(answer["probabilities"]) == pytest.approx(1)
    assert all(0 <= x <= 40 and 0 <= y <= 30 for x, y in answer["locations"])

    events = EventAccumulator("run", size_guidance={"images": 0})
    events.Reload()
    assert [image.step for image in events.Images("scanpaths")] == [200], "a run of seconds"

    code, out, _ = foveal("train --resume run --json")
    assert (code, json.loads(out)["error"]) == (0, result["error"]), "a finished run only reports"
    older = {name: value for name, value in result.items() if not name.startswith("best")}
    Path("run/result.json").write_text(json.dumps(older | {"validation_error": 7.5}))
    assert "validation error 7.50 %, " in foveal("train --resume run")[1]
    Path("run/result.json").write_text(json.dumps(result | {"validation_error": 101}))
    assert re.search(r"101.00 % \(best .* at step \d+\)", foveal("train --resume run")[1])


def test_steps_are_captured_unless_one_says_no(
    foveal: Foveal, train: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def instead(*_: object, **options: object) -> dict[str, object]:
        asked.append(options["capture"])
        return {}

    monkeypatch.setattr("foveal.commands.training.train_run", instead)
    for flags in ("", "--no-capture", "--capture"):
        assert foveal(f"{train} {flags} --out run")[0] == 0
    assert asked == [True, False, True]


def test_looks_take_every_form(foveal: Foveal, digits: Path) -> None:
    torch.manual_seed(0)
    RecurrentAttention(RAMConfig(num_classes=2, num_glimpses=3, num_scales=2)).save_pretrained(
        "ram"
    )
    task = f"--task mnist-28 --digits {digits}"
    code, out, err = foveal(f"look ram {task} --count 9 --index 96 --out page.html --json")
    assert (code, err) == (0, "")
    looks = [json.loads(line) for line in out.splitlines()]
    assert [look["image"] for look in looks] == [f"test image {n}" for n in range(96, 100)]
    page = Path("page.html").read_text()
    assert all(f'"name": "{look["image"]}"' in page for look in looks)

    _, out, _ = foveal(f"evaluate ram {task} --json")
    error = json.loads(out)["error"]
    assert 0 < error < 100
    code, out, _ = foveal(f"look ram {task} --maps maps.svg --json")
    answer = json.loads(out)
    assert answer["error"][2] == error, "after as many looks as in training"
    assert len(answer["error"]) == len(answer["interval"]) == 3 + 4
    assert "over 100 test images" in Path("maps.svg").read_text()
    assert not Path("look.png").exists(), "maps alone were asked for"

    code, out, _ = foveal(f"look ram {task} --wrong --count 100 --out wrong.gif --theme dark")
    wrong = round(error)
    assert f"wrong.gif: {wrong} images, 3 looks at each, 0 of {wrong} right" in out
    with Image.open("wrong.gif") as film:
        assert film.n_frames == 3 * wrong
    mean, sampled = (
        json.loads(foveal(f"look ram {task} {flag} --json")[1])["locations"]
        for flag in ("", "--sampled")
    )
    assert mean[0] == sampled[0]
    assert mean != sampled
    assert foveal(f"look ram {task} --canvas-size 50 --out sheet.pdf --json")[0] == 0
    Image.new("RGB", (40, 30), (200, 10, 90)).save("mine.png")
    code, out, _ = foveal("look ram mine.png mine.png --out mine.mp4 --num-glimpses 2")
    assert "mine.mp4: 2 images, 2 looks at each" in out
    assert b"ftyp" in Path("mine.mp4").read_bytes()[:12]


@pytest.mark.parametrize("network", ["fc-64", "conv"])
def test_a_network_that_sees_the_whole_image(network: str, foveal: Foveal, digits: Path) -> None:
    train = f"train mnist-28 --digits {digits} --batch-size 50 --threads 1 --log-every 5"
    code, out, err = foveal(f"{train} --network {network} --epochs 20 --out run --lr 0.01")
    assert (code, err) == (0, "")
    assert "foveal look" not in out
    result = json.loads(Path("run/result.json").read_text())
    assert result["error"] <= 5
    assert result["pixels_read"] == 144
    code, out, _ = foveal("evaluate run --json")
    assert json.loads(out)["error"] == result["error"]
    assert foveal("evaluate run")[1].startswith("test error")


@pytest.mark.parametrize("policy", ["random", "center"])
def test_a_control_is_evaluated_the_same_each_time(policy: str, foveal: Foveal, train: str) -> None:
    code, _, err = foveal(f"{train} --policy {policy} --epochs 2 --out run")
    assert (code, err) == (0, "")
    result = json.loads(Path("run/result.json").read_text())
    assert json.loads(foveal("evaluate run --json")[1])["error"] == result["error"]


def test_a_model_trained_on_canvases_of_several_sizes_is_evaluated_on_any(
    foveal: Foveal, train: str
) -> None:
    sizes = "--smallest-canvas 20 --canvas-size 80 --num-scales 3 --glimpse-size 8"
    code, _, err = foveal(f"{train} {sizes} --epochs 2 --out run")
    assert (code, err) == (0, "")
    assert json.loads(foveal("evaluate run --json")[1])["image_size"] == [80, 80]
    code, out, err = foveal("evaluate run --canvas-size 16 --json")
    assert (code, err, json.loads(out)["image_size"]) == (0, "", [16, 16])
    assert foveal("look run --count 1 --out look.png")[0] == 0
    code, _, err = foveal(f"{train} --smallest-canvas 20 --canvas-size 16")
    assert code == 2
    assert "smallest_canvas must be 0 (all canvases alike) or at most canvas_size, 16" in err


def test_training_starts_from_the_weights_of_a_model(foveal: Foveal, train: str) -> None:
    assert foveal(f"{train} --epochs 1 --out first")[0] == 0
    assert foveal(f"{train} --epochs 1 --lr 1e-12 --seed 5 --start first --out second")[0] == 0
    first, second = (
        read_tensors(Path(f"{run}/model.safetensors"))[0] for run in ("first", "second")
    )
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, msg=name)
    content = json.loads(Path("second/config.json").read_text())
    assert load("second").run.start == content["start"] == "first"


def test_training_starts_from_a_model_of_other_classes(foveal: Foveal, train: str) -> None:
    config = recipe("mnist-28", "fast").model
    words = re.findall("--([a-z-]+) ([0-9]+)", train)
    known = {name.replace("-", "_"): int(value) for name, value in words}
    known = {name: value for name, value in known.items() if hasattr(config, name)}
    saved = RecurrentAttention(dataclasses.replace(config, **known | {"num_classes": 3}))
    saved.save_pretrained("three")
    code, out, err = foveal(f"{train} --epochs 1 --lr 1e-12 --start three --out run")
    assert (code, err) == (0, "")
    assert out.count("three answers with other classes") == 1
    kept = load("run").model.state_dict()
    for name, value in saved.state_dict().items():
        if not name.startswith("action_head"):
            torch.testing.assert_close(kept[name], value, msg=name)


def test_the_default_directory_is_named_after_the_run_and_never_reused(
    foveal: Foveal, train: str
) -> None:
    said = [foveal(f"{train} --epochs 1 --seed 4")[1].splitlines() for _ in range(2)]
    first, second = "runs/mnist-28-3-fast-4", "runs/mnist-28-3-fast-4-2"
    sizes = "500 training images; 10 steps of 50 images"
    assert said[0][0] == f"The run is written to {first}, on cpu: {sizes}"
    assert said[1][0] == f"The run is written to {second} ({first} is taken), on cpu: {sizes}"
    assert {str(path) for path in Path("runs").iterdir()} == {first, second}
    third = json.loads(foveal(f"{train} --epochs 1 --seed 4 --json")[1])
    assert third["run"] == f"{first}-3"


def test_recipes_set_the_flags(foveal: Foveal, train: str) -> None:
    code, _, _ = foveal(f"{train} --recipe paper --epochs 1 --out run")
    assert code == 0
    config = json.loads(Path("run/config.json").read_text())
    assert config["training"]["optimizer"] == "sgd"
    assert config["objective"]["reward"] == "correct"
    assert config["objective"]["privileged_baseline"] is False


def test_a_run_killed_three_times_ends_with_the_same_weights(train: str, tmp_path: Path) -> None:
    """kill -9 at random moments, at a checkpoint a step, against a run never killed."""
    line = f"{train} --epochs 30 --checkpoint-minutes 0 --out "
    whole = Command(f"{line} whole", tmp_path)
    moments = random.Random(5)
    metrics = tmp_path / "killed" / "metrics.jsonl"
    command = f"{line} killed"
    for _ in range(3):
        process = Command(command, tmp_path)
        lines = len(metrics.read_text().splitlines()) if metrics.exists() else 0
        process.wait_for(
            lambda lines=lines: (
                metrics.exists() and len(metrics.read_text().splitlines()) > lines + 3
            )
        )
        time.sleep(moments.random() / 4)
        process.kill()
        process.communicate()
        assert not (tmp_path / "killed" / "result.json").exists(), "killed before its end"
        command = "train --resume killed"
    process = Command(command, tmp_path)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    whole.communicate(timeout=120)
    ours, theirs = (
        read_tensors(tmp_path / name / "model.safetensors")[0] for name in ("killed", "whole")
    )
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(
    number: signal.Signals, train: str, tmp_path: Path
) -> None:
    process = Command(f"{train} --epochs 5000 --out run", tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    process.wait_for(lambda: metrics.exists() and len(metrics.read_text()) > 300)
    os.kill(process.pid, number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.count("\n") == 1
    assert "Go on with: foveal train --resume run" in err
    assert (tmp_path / "run" / "checkpoint" / "last.safetensors").exists()


def test_a_diverged_run_says_what_to_do(foveal: Foveal, train: str) -> None:
    line = f"{train} --recipe paper --epochs 50 --lr 1e8 --momentum 0.99 --out run"
    code, _, err = foveal(line)
    assert code == 1
    assert "the loss is no longer a number" in err
    assert "lower --lr" in err


SMALL_AGENT = (
    "--glimpse-size 3 --num-scales 2 --glimpse-hidden 8 --location-hidden 8 --glimpse-features 16 "
    "--core-size 16 --num-envs 16 --rollout-length 4 --decisions 640 --validate-every 5 "
    "--validation-episodes 20 --test-episodes 60 --threads 1 --log-every 2"
)


def test_an_agent_trains_and_plays(foveal: Foveal) -> None:
    code, out, err = foveal(f"train catch --env-options size=5 {SMALL_AGENT} --out run")
    assert (code, err) == (0, "")
    assert "60 fresh games: mean return" in out
    assert "foveal play run --gif play.gif" in out
    result = json.loads(Path("run/result.json").read_text())
    assert (result["env"], result["episodes"], result["decisions_seen"]) == (CATCH_ID, 60, 640)
    low, high = result["interval"]
    assert low <= result["success_rate"] <= high
    decisions, seconds, _, rate = result["validation_curve"][-1]
    assert decisions == 640
    assert 0 < seconds <= result["seconds"]
    assert rate == result["validation_success_rate"]

    code, out, _ = foveal("play run --episodes 60 --seed 2014 --json --gif films/play.gif")
    answer = json.loads(out)
    assert code == 0
    for name in ("success_rate", "interval", "mean_return", "ball_distance"):
        assert answer[name] == result[name], "the recorded figures are repeated exactly"
    with Image.open("films/play.gif") as movie:
        assert movie.format == "GIF"
    code, out, _ = foveal("play run --gif play.gif --gif-episodes 2 --json")
    assert (code, json.loads(out)["episodes"]) == (0, 2), "a film is of a few games"
    with Image.open("play.gif") as movie:
        assert movie.n_frames == 2 * 4, "of the four decisions of each"
    assert foveal("play run --episodes 2 --num-envs 2 --gif few.gif --gif-episodes 5")[0] == 0
    with Image.open("few.gif") as movie:
        assert movie.n_frames == 2 * 4, "no game that was cut off"
    code, out, _ = foveal("play run --episodes 20 --env-options size=9")
    assert code == 0
    assert "20 games of foveal/Catch-v0: success" in out
    assert "8.0 decisions a game" in out
    assert foveal("train --resume run --json")[0] == 0
    code, _, err = foveal("evaluate run")
    assert code == 2
    assert "run is an agent. See how it plays: foveal play run" in err
    assert foveal("play run --env test/Countdown-v0")[0] == 2


def test_any_environment_of_images_trains_an_agent(foveal: Foveal) -> None:
    """The model takes the shape of the game: two actions, one channel."""
    code, _, err = foveal(f"train control --env test/Countdown-v0 {SMALL_AGENT} --out run")
    assert (code, err) == (0, "")
    model = json.loads(Path("run/config.json").read_text())["model"]
    assert (model["num_classes"], model["num_channels"]) == (2, 1)
    assert json.loads(foveal("play run --episodes 30 --json")[1])["mean_return"] > 0


def test_what_is_sensed_beside_the_image_goes_through_every_command(foveal: Foveal) -> None:
    line = f"train control --env test/Feeling-v0 --env-senses heading text {SMALL_AGENT}"
    code, _, err = foveal(f"{line} --sense-features 4 --out run")
    assert (code, err) == (0, "")
    model = json.loads(Path("run/config.json").read_text())["model"]
    assert model["senses"] == [["heading", 6], ["text", 5]]
    assert foveal("train --resume run --json")[0] == 0
    assert json.loads(foveal("play run --episodes 30 --json")[1])["mean_return"] > 0
    assert foveal("play run --gif play.gif")[0] == 0
    code, out, _ = foveal("export run --out run.pt2")
    assert code == 0
    assert "sense_heading, sense_text" in out
    code, _, err = foveal("play run --env test/Countdown-v0")
    assert code == 2
    assert "test/Countdown-v0 has no sense 'heading'; beside the image it has nothing" in err


def test_a_game_of_a_package_trains_an_agent(foveal: Foveal) -> None:
    """MinAtar announces its games; ten decisions in each, on a screen of four channels."""
    line = f"train control --env MinAtar/Breakout-v1 {SMALL_AGENT} --rollout-length 10"
    code, _, err = foveal(f"{line} --pixel-mean 0.1 0.2 --out run")
    assert (code, "number for each of the 4 channel(s), or none; got 2" in err) == (2, True)
    line = f"{line} --pixel-mean 0.1 0 0.2 0"
    code, _, err = foveal(f"{line} --decisions 480 --test-episodes 8 --out run")
    assert (code, err) == (0, "")
    model = json.loads(Path("run/config.json").read_text())["model"]
    assert (model["num_classes"], model["num_channels"]) == (3, 4)
    assert model["pixel_mean"] == [0.1, 0, 0.2, 0]
    code, out, _ = foveal("play run --episodes 4 --gif play.gif --json")
    assert code == 0
    assert json.loads(out)["episodes"] == 4
    assert Path("play.gif").stat().st_size > 1000


def test_runs_are_listed_and_compared(foveal: Foveal, train: str) -> None:
    assert foveal(f"{train} --epochs 2 --out runs/first")[0] == 0
    assert foveal(f"{train} --epochs 2 --out runs/second --seed 1")[0] == 0
    Path("runs/second/result.json").unlink()
    Path("runs/other").mkdir()
    Path("runs/other/config.json").write_text('{"format": "not ours"}')
    code, out, _ = foveal("runs --json")
    lines = json.loads(out)["runs"]
    assert code == 0
    assert [line["run"] for line in lines] == ["runs/first", "runs/second"]
    assert [line["finished"] for line in lines] == [True, False]
    curve = [
        line["validation_error"]
        for line in read_metrics(Path("runs/first"))
        if "validation_error" in line
    ]
    assert (lines[0]["last"], lines[0]["best"], lines[0]["done"]) == (curve[-1], min(curve), 1.0)
    assert "mnist-28" in foveal("runs")[1]
    assert lines[1]["changed"]["seed"] == 1
    assert "seed" not in lines[0]["changed"]
    assert lines[0]["changed"].items() >= {"epochs": 2, "core_size": 16}.items()
    assert "epochs 2" in foveal("runs")[1]
    renamed = Path("runs/second").rename(Path("runs", 150 * "n"))
    assert 150 * "n" in foveal("runs")[1], "a name is never cut"
    renamed.rename("runs/second")
    code, out, _ = foveal("compare runs/first runs/second --json")
    assert code == 0
    points = json.loads(out)["curves"]["runs/first"]
    assert [value for _, value in points] == curve
    assert foveal("compare runs/first runs/second --pool")[1].startswith("1 curve of")
    twice = json.loads(foveal(f"compare runs/first {Path('runs/first').resolve()} --json")[1])
    assert len(twice["curves"]) == 1, "two names of one run"
    assert foveal("compare runs/first --time --out time.png")[0] == 0
    for name in ("compare.png", "time.png"):
        with Image.open(name) as picture:
            assert picture.format == "PNG"
    whole = Path("runs/second/metrics.jsonl").read_text()
    for odd, why in (('{"step": 10}', "has no 'epoch'"), ('{"step": 1, "error": "x"}', "")):
        Path("runs/second/metrics.jsonl").write_text(f"{odd}\n{whole}" if not why else odd)
        code, out, err = foveal("runs --json")
        told = [line["run"] for line in json.loads(out)["runs"]]
        assert (code, "runs/first" in told) == (0, True)
        assert why in err
    Path("runs/second/metrics.jsonl").write_text(whole)
    Path("runs/first").rename("$20%$30")  # drawn as mathematics, it would be refused
    assert foveal("compare '$20%$30'")[0] == 0
    assert foveal("runs runs/other")[1].startswith("no runs in runs/other")
    config = json.loads(Path("runs/second/config.json").read_text())
    config["model"]["core"] = "mine"
    Path("runs/second/config.json").write_text(json.dumps(config))
    code, out, err = foveal("runs runs/second --json")
    assert (code, json.loads(out)["runs"]) == (0, [])
    assert "left out: runs/second: " in err
    assert "unknown core 'mine'" in json.loads(out)["left_out"][0]


WRONG = {
    "runs /nowhere": "there is no directory '/nowhere'",
    "compare": "which runs\\? Name them",
    "compare mnist-28": "mnist-28 must be a run directory",
    "compare model": "model has no validation yet",
    "compare model --out x.jpg": "--out must be a .png file",
    "trian": "unknown command 'trian'; .* Did you mean train?",
    "train": "It must be one of mnist-28, .* as in: foveal train mnist-28",
    "train mnist28": "unknown task 'mnist28'; .* Did you mean mnist-28?",
    "train mnist-28 --recipe fats": "unknown recipe 'fats'; .* Did you mean fast?",
    "train mnist-28 --num-glimpse 3": "unknown flag --num-glimpse. Did you mean --num-glimpses?",
    "train mnist-28 --core-size 1000000000": "core_size must be .* 65,536; got 1000000000",
    "train mnist-28 --core-size 60000": "about 14,462,113,728 weights; it may have 134,217,728",
    "train mnist-28 --num-scales 1000000000": "num_scales must be .* from 1 to 17",
    "train mnist-28 --lr nan": "lr must be .* above 0 and at most 1,000,000,000; got nan",
    "train mnist-28 --location-gradient inf": "location_gradient must be .* got inf",
    "train mnist-28 --glimpse-weight nan": "glimpse_weight must be a number from 0 .*; got nan",
    "train mnist-28 --baseline-weight inf": "baseline_weight must be a number from 0 .*; got inf",
    "train mnist-28 --seed -1": "seed must be a whole number from 0",
    "train catch --env-options size=1000000": "size must be .* from 2 to 1,024; got 1000000",
    "train catch --num-envs 1000000": "1,000,000 games of 24 x 24 pixels take too much memory",
    "evaluate mnist-28 --digits uci --num-glimpses 1000000000": "num_glimpses must be .* to 1,000;",
    "evaluate mnist-28 --digits uci --separator ,": "--separator is for a manifest of --data",
    "evaluate mnist-28 --digits uci --rollouts 1000000000": "rollouts must be .* from 1 to 1,000",
    "look mnist-28 --num-glimpses 1000000000": "num_glimpses must be .* from 1 to 1,000",
    "predict mnist-28 x.png --num-glimpses 1000000000": "num_glimpses must be .* from 1 to 1,000",
    "predict mnist-28 x.png --seed 99999999999999999999": "seed must be a whole number from 0",
    "export mnist-28 --out m.pt2 --num-glimpses 1000000000": "num_glimpses must be .* to 1,000",
    "train mnist-28 --network conv --core lstm": "--core is of a network that looks; conv sees the",
    "train mnist-28 --network fc-64 --no-detach-policy": "--no-detach-policy is of a network that",
    "train mnist-28 --num-glimpses 0": "num_glimpses must be .* from 1 to 1,000; got 0",
    "train mnist-28 --num-glimpses x": "--num-glimpses: invalid literal .* 'x'",
    "train mnist-28 --glimpse-size 999": "from 1 to 256; got 999. To see more",
    "train mnist-28 --digits uci --glimpse-size 29": "at most the image's 28 pixels; got 29",
    "train mnist-28 --digits uci --num-classes 3": "num_classes must be 10, .* got 3",
    "train mnist-28 --digits uci --batch-size 5000": "at most the 1,199 training images",
    "train mnist-28 --digits uci --glimpse-weight -1": "glimpse_weight must be .* from 0.*got -1",
    "train mnist-28 --digits uci --threads -1": "threads must be a whole number from 0",
    "train mnist-28 --digits /nowhere": "got '/nowhere', which does not exist",
    "train mnist-28 --digits empty": "empty holds no images",
    "train mnist-28 --digits text": "Pass the directory that holds it",
    "train mnist-28 --digits uci --out text": "--out must be a directory; text is a file",
    "train mnist-28 --digits uci --out text/run": "Not a directory.* unchanged. Choose another d",
    "train mnist-28 --digits uci --out full": "--out must be a new or empty directory; full",
    "train mnist-28 --digits uci --out foreign": "is not foveal's: another program wrote it",
    "train mnist-28 --digits uci --out model": "model holds a run already",
    "train mnist-28 --digits uci --device tpu": "device must be auto, cpu or cuda; got 'tpu'",
    "train mnist-28 --digits uci --start mnist-29": "there is no directory .* mean mnist-28?",
    "train mnist-28 --digits uci --start conv": "conv holds a conv network, which sees the whole",
    "train mnist-28 --digits uci --start mnist-28 --num-glimpses 2 --glimpse-hidden 64": (
        r"to another configuration \(glimpse_hidden 128 there, 64 here\). Pass the flags"
    ),
    "train mnist-28 --digits uci --senses a 3": r"nothing is sensed .* got a \(3\). Leave out",
    "train mnist-28 --digits uci --num-channels 3": "num_channels must be 1, .* --num-channels 1",
    "train catch --env-options size=1": "size must be a whole number from 2 to 1,024",
    "train catch --env-options sze=9": "could not be made with sze=9",
    "train catch --num-classes 4": "unknown flag --num-classes",
    "train catch --num-envs 6": "num_envs must be a multiple of num_minibatches; got 6 and 4",
    "train catsh": "unknown task 'catsh'; .* Did you mean catch?",
    "train control": "which environment\\? Pass --env",
    "train control --env Catch-v0": "got 'Catch-v0'.* Did you mean foveal/Catch-v0?",
    "train control --env CartPole-v1": "observations of CartPole-v1 must be images",
    "train control --env test/Steering-v0": "actions of test/Steering-v0 must be discrete",
    "play nothing": "there is no directory 'nothing'",
    "play mnist-28": "plays no games. Try: foveal look mnist-28",
    "play model": "does not say what it was trained in. Pass --env",
    "play model --env foveal/Catch-v0": "made for 10 actions; foveal/Catch-v0 has 3",
    "play model --episodes 0": "episodes must be a whole number from 1 to 1,000,000; got 0",
    "play model --gif play.png": "--gif must be a .gif or .mp4 file; got 'play.png'",
    "train --resume /nowhere": "there is no '/nowhere'",
    "train --resume empty": "it holds no config.json",
    "compare nowhere/at-all": "nowhere/at-all must be a run .*; there is no such directory",
    "train --resume foreign": "is not foveal's: another program wrote it",
    "train --resume broken": "must be JSON; it is damaged",
    "train --resume empty --lr 3": "unknown flag --lr beside --resume: all else is the run's own",
    "train folder --resume empty": "unknown argument folder beside --resume",
    "evaluate nothing": "there is no directory 'nothing'",
    "evaluate foreign": "is not foveal's: another program wrote it",
    "evaluate model": "does not say what it was trained on. Pass --task",
    "evaluate model --task clutterd-60": "Did you mean cluttered-60?",
    "evaluate model --task mnist-28 --digits empty": "empty holds no images",
    "look model --out look.jpg": "--out must end in one of .png, .svg, .*; got 'look.jpg'",
    "look model --maps maps.gif": "--maps must end in one of .png, .svg, .pdf; got 'maps.gif'",
    "look model --count 101": "--count must be 1 to 100; got 101",
    "look model --maps m.png --count 6": "of single images, and --maps of all. Pass --out",
    "look model --out a.png --maps a.png": "are two pictures; both are a.png. Name another",
    "predict model ''": "a file's name is empty",
    "look model missing.png --wrong": "about the task's test images. Leave them out",
    "look model missing.png --index 7": "about the task's test images. Leave them out",
    "look model missing.png --canvas-size 300": "about the task.s test images. Leave them out",
    "look model --theme blue": "invalid choice 'blue' for argument '--theme'",
    "look model missing.png": "missing.png is missing",
    "look model text": "text is not a PNG, JPEG, WebP, TIFF or BMP image",
    "look model --task mnist-28 --digits uci --index 299": "--index must be 0 to 298; got 299",
    "evaluate clutterd-60": "there is no directory 'clutterd-60'",
    "train mnist-28 --network cnn": "invalid choice 'cnn' for argument '--network'",
    "train mnist-28 --digits uci --canvas-size 20": "at least a digit's 28 pixels; got 20",
    "train cluttered-60 --digits uci --clutter-size 29": "at most a digit's 28 pixels.* got 29",
    "train cluttered-60 --digits uci --canvas-size 0": "clutter needs a canvas",
    "look conv --task mnist-28 --digits uci": "sees the whole image and looks nowhere",
    "evaluate conv --task cluttered-60 --digits uci": r"made for images of \(28, 28\) pixels",
    "evaluate conv --num-glimpses 3": "--num-glimpses is for networks that look",
    "evaluate conv --rollouts 5": "--rollouts is for networks that look",
    "reproduce cluttered-60-ram-9": "unknown row .*one of mnist-28-fc-256.*mean cluttered-60-ram-",
    "reproduce --all mnist-28-conv": "not two; got mnist-28-conv and --all",
    "reproduce mnist-28-conv --jobs -1": "jobs must be a whole number from 0 to 1,024; got -1",
    "reproduce mnist-28-conv --threads 0": "threads must .* from 1 to 1,024; got 0. It is of each",
    "reproduce mnist-28-conv --seeds 1 1": "seeds must be different numbers",
    "reproduce mnist-28-conv --device tpu": "device must be auto, cpu or cuda; got 'tpu'",
    "bench --rounds 0": "rounds must be a whole number from 1 to 10,000; got 0",
    "bench --rounds 1000000000": "rounds must be a whole number from 1 to 10,000; got 1000000000",
    "bench --batch-sizes 0": "batch_sizes must be a whole number from 1 to 1,048,576; got 0",
    "play model --num-envs 1000000000": "num-envs must be a whole number from 1 to 1,000,000",
    "demo --out full": "holds other files than an earlier demo's",
    "demo --out text": "--out must be a directory; text is a file",
    "train mnist-28 mnist-28": "unknown argument mnist-28. See foveal train --help",
    "look model --no-sampld": "unknown flag --no-sampld. Did you mean --no-sampled?",
    "evaluate": "Missing from foveal evaluate: MODEL a run .*. See foveal evaluate --help",
    "--import": "which module\\? As in: foveal --import my_parts train mnist-28",
    "--import= tasks": "which module\\?",
    "--import --help": "which module\\?",
    "--import nowhere tasks": "nowhere could not be imported. ModuleNotFoundError: No module named",
    "--import unreadable tasks": "unreadable could not be .* SyntaxError: .*unreadable.py, line 1",
    "--import failing tasks": "failing could not be imported. RuntimeError: on two lines",
    "--import leaving tasks": "leaving could not be imported. SystemExit: 3",
}


@pytest.fixture
def odd_places(tmp_path: Path) -> None:
    for name in ("empty", "full", "foreign", "broken"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("three years of work")
    (tmp_path / "text").write_text("hello")
    (tmp_path / "unreadable.py").write_text("1 +")
    (tmp_path / "failing.py").write_text("raise RuntimeError('on two\\nlines')")
    (tmp_path / "leaving.py").write_text("raise SystemExit(3)")
    (tmp_path / "foreign" / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "broken" / "config.json").write_text('{"format": "fov')
    RecurrentAttention(RAMConfig()).save_pretrained(tmp_path / "model")
    conv = make_reference_network("conv", (28, 28), 10)
    about = {"network": "conv", "image_size": [28, 28], "classes": list("0123456789")}
    run = dataclasses.asdict(recipe("mnist-28", "fast"))
    run["task"]["digits"] = "uci"
    save_model(tmp_path / "conv", conv, run | about)


@pytest.mark.usefixtures("odd_places")
@pytest.mark.parametrize("line", WRONG)
def test_wrong_input_gives_one_line_and_exit_code_2(line: str, foveal: Foveal) -> None:
    code, out, err = foveal(line)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("foveal")
    assert "Traceback" not in err
    assert re.search(WRONG[line], err), err
    assert not Path("runs").exists(), "nothing is left behind"


def test_modules_of_ones_own_are_imported_before_the_command(foveal: Foveal) -> None:
    for name in ("own_first", "own_second"):
        Path(f"{name}.py").write_text(f"from foveal import cli\nprint({name!r}, cli.IMPORTED)")
    code, out, err = foveal("--import own_first --import=own_second tasks --json")
    assert (code, err) == (0, "")
    assert out.splitlines()[:2] == ["own_first []", "own_second ['own_first']"]
    assert json.loads(out.splitlines()[2])["tasks"]
    assert cli.IMPORTED == ["own_first", "own_second"]
    assert foveal("--import own_first --version") == (0, "foveal 0.1.0\n", "")
    assert "--import MODULE" in foveal("--import own_first")[1]


def test_debugging_shows_where_a_module_fails(
    foveal: Foveal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOVEAL_DEBUG", "1")
    with pytest.raises(ValueError, match="nowhere could not be imported") as raised:
        foveal("--import nowhere tasks")
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_refused(foveal: Foveal) -> None:
    code, _, err = foveal("train mnist-28 --digits uci --device cuda")
    assert code == 2
    assert "PyTorch finds no GPU here. Use --device cpu." in err


def test_damaged_runs_are_refused(foveal: Foveal, train: str) -> None:
    assert foveal(f"{train} --epochs 1 --out run")[0] == 0
    Path("run/result.json").unlink()
    weights, saved = Path("run/model.safetensors"), Path("run/checkpoint/last.safetensors")
    whole = saved.read_bytes()
    saved.write_bytes(whole[: len(whole) // 2])
    code, _, err = foveal("train --resume run")
    assert code == 2
    assert "last.safetensors is truncated" in err
    saved.write_bytes(whole)
    config = json.loads(Path("run/config.json").read_text())
    config["training"]["lr"] = 0.5
    Path("run/config.json").write_text(json.dumps(config))
    code, _, err = foveal("train --resume run")
    assert code == 2
    assert "belongs to another configuration" in err
    weights.write_bytes(weights.read_bytes()[:-7])
    code, _, err = foveal("evaluate run")
    assert code == 2
    assert "model.safetensors is truncated" in err
    weights.unlink()
    saved.unlink()
    code, _, err = foveal("evaluate run")
    assert code == 2
    assert "has not finished. Go on with it: foveal train --resume run" in err


@pytest.mark.parametrize("line", ["", "--help", *(f"{name} --help" for name in cli.COMMANDS)])
def test_every_help_explains(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = cli.main(shlex.split(line))
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    out = capsys.readouterr().out
    assert code == 0
    assert "usage: foveal" in out
    assert len(out.splitlines()) > 8


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("train catch", "[TASK]"),
        ("play", "MODEL"),
        ("evaluate catch", "MODEL"),
        ("search", "[TASK]"),
    ],
)
def test_usage_names_what_comes_without_a_flag(
    line: str, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *more = line.split()
    with pytest.raises(SystemExit):
        cli.main([name, *more, "--help"])
    usage = capsys.readouterr().out.splitlines()[0]
    assert usage.startswith(f"usage: foveal {name} [-h] [OPTIONS] {word}")


@pytest.mark.parametrize("line", ["train cluttered-60", "train catch", "search cluttered-60"])
def test_common_flags_come_first_and_the_rest_when_asked_for(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = []
    for more in ("--help", "--help-all"):
        with pytest.raises(SystemExit) as leaving:
            cli.main([*line.split(), more])
        assert leaving.value.code == 0
        said = capsys.readouterr().out
        flags.append(set(re.findall(r"--[a-z][\w-]*", said)))
        assert ("--help-all shows the rest" in said) == (more == "--help")
    few, every = flags
    assert {"--lr", "--seed", "--glimpse-size", "--num-glimpses", "--out", "--device"} <= few
    assert few - {"--help-all"} <= every
    assert {"--scale-gain", "--core-size", "--pixel-mean"} <= every - few
    assert len(few) < 40 < len(every)
    fixed = {"--num-classes", "--num-channels"}
    assert every & fixed == (set() if line == "train catch" else fixed), "games have their own"


def test_version_and_tasks(foveal: Foveal) -> None:
    assert foveal("--version") == (0, "foveal 0.1.0\n", "")
    code, out, _ = foveal("tasks")
    assert code == 0
    assert "cluttered-100" in out
    code, out, _ = foveal("tasks --json")
    names = [task["task"] for task in json.loads(out)["tasks"]]
    assert names[:4] == ["mnist-28", "translated-60", "cluttered-60", "cluttered-100"]
    several = ["pairs", "addition", "row-3", "digits-5", "trail"]
    hidden = ["megapixel", "needle"]
    assert names[4:] == ["cheung-1", "cheung-2", *several, *hidden, "catch", "control", "folder"]


def test_what_lies_beside_an_earlier_demo_stays(tmp_path: Path) -> None:
    old = ("model.safetensors", "look.png", "events.out.tfevents.1", "fully-connected/x", "thesis")
    for name in old:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("of then")
    content = {"format": FORMAT, "version": VERSION, "name": "demo", "kind": "canvases"}
    content |= asdict(demo_run())
    write_json(tmp_path / "config.json", content)
    _clear(tmp_path, demo_run())
    assert [path.name for path in tmp_path.iterdir()] == ["thesis"]


def test_the_demo_tells_its_story(foveal: Foveal) -> None:
    for _ in range(2):  # the second replaces the first
        code, out, err = foveal("demo --epochs 1")
        assert (code, err) == (0, "")
    lines = out.strip().splitlines()
    assert any(line.strip().startswith("attention ") and "%" in line for line in lines)
    assert any(line.strip().startswith("fully connected ") and "%" in line for line in lines)
    assert lines[-1].startswith("Next")
    assert Path("demo/look.png").exists()
    command = lines[-1].split("foveal ")[1]
    assert foveal(command)[0] == 0, "what it says to run next works"


def test_a_demo_that_was_stopped_goes_on(tmp_path: Path) -> None:
    command = "demo --epochs 8 --threads 1 --json --out stopped"
    process = Command(command, tmp_path)
    process.wait_for((tmp_path / "stopped" / "metrics.jsonl").exists)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    again, _ = Command(command, tmp_path).communicate(timeout=120)
    whole = Command(command.replace("stopped", "whole"), tmp_path)
    assert json.loads(again) == json.loads(whole.communicate(timeout=120)[0])


def test_a_run_goes_on_without_the_model_that_it_started_from(
    foveal: Foveal, train: str, tmp_path: Path
) -> None:
    assert foveal(f"{train} --epochs 1 --out first")[0] == 0
    process = Command(f"{train} --epochs 400 --start first --out run", tmp_path)
    metrics = tmp_path / "run" / "metrics.jsonl"
    process.wait_for(lambda: metrics.exists() and metrics.read_text())
    process.kill()
    process.communicate()
    (tmp_path / "first").rename(tmp_path / "elsewhere")
    process = Command("train --resume run", tmp_path)
    process.wait_for(lambda: len(list((tmp_path / "run").glob("events*"))) == 2)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "Go on with: foveal train --resume run" in err, err


def test_bench_measures(foveal: Foveal, monkeypatch: pytest.MonkeyPatch) -> None:
    from foveal.commands import bench  # noqa: PLC0415
    from foveal.runs import bench as benchmark  # noqa: PLC0415

    monkeypatch.setattr(benchmark, "LARGE", 200)
    monkeypatch.setattr(bench, "COMPARED_BATCH", 4)
    code, out, _ = foveal("bench --batch-sizes 4 --rounds 2 --json")
    answer = json.loads(out)
    assert code == 0
    assert len(answer["steps"]) == len(benchmark.STEPS) * len(benchmark.BENCHED)
    for row in answer["steps"]:
        assert row["ratio"] == pytest.approx(row["step"][1] / row["floor"][1])
        assert row["images_per_second"] == pytest.approx(4000 / row["step"][1])
        assert row["speedup"] == pytest.approx(row["obvious"][1] / row["step"][1])
    assert [row["part"] for row in answer["sensors"]] == list(benchmark.SENSORS)
    game = answer["environment"]
    assert game["steps_per_second"] == pytest.approx(23_000 * game["games"] / game["game"][1])
    code, out, _ = foveal("bench --parts step latency synthesis --batch-sizes 4 --rounds 2")
    assert code == 0
    assert "obvious sensor" in out
    assert "% of a step" in out
    assert "Catch" not in out


def test_a_missing_extra_is_one_line(foveal: Foveal, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("list.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, out, err = foveal("train folder --data list.parquet")
    assert (code, out) == (2, "")
    assert "pip install 'foveal[parquet]'" in err
    assert len(err.splitlines()) == 1
