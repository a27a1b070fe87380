"""The commands on one's own images: train folder, evaluate, predict, look."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from foveal import RAMConfig, RecurrentAttention, cli
from tests.tasks.folder.test_folder import write_bars
from tests.tasks.folder.test_pictures import bad_files
from tests.test_cli import Foveal, foveal  # noqa: F401 (a fixture)

SMALL = (
    "--glimpse-hidden 8 --location-hidden 8 --glimpse-features 16 --core-size 16 "
    "--glimpse-size 6 --num-scales 2 --num-glimpses 3 --threads 1 --log-every 5 --workers 0"
)


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    return write_bars(tmp_path / "my bars, ü", 40)


@pytest.fixture
def models(tmp_path: Path) -> None:
    RecurrentAttention(RAMConfig(num_channels=1)).save_pretrained(tmp_path / "grey")
    RecurrentAttention(RAMConfig(num_channels=3)).save_pretrained(tmp_path / "colour")
    RecurrentAttention(RAMConfig(num_channels=4)).save_pretrained(tmp_path / "four")


@pytest.mark.parametrize("network", ["conv", "bag"])
def test_networks_that_see_all_learn_from_large_pictures_that_are_shifted(
    foveal: Foveal,  # noqa: F811
    network: str,
) -> None:
    bright = "light, and of a name that is as long as a line is, but is cut in no table of a file"
    for kind, light in (("dark", 40), (bright, 200)):
        Path("large", kind).mkdir(parents=True)
        for number in range(8):
            pixels = np.full((130, 140), light + 4 * number, np.uint8)
            Image.fromarray(pixels).save(Path("large", kind, f"{number}.png"))
    line = f"train folder --data large --network {network} --shift 0.1 --flips both --out run"
    code, _, err = foveal(f"{line} --epochs 9 --batch-size 5 --threads 1 --workers 0")
    assert code == 0, err
    assert json.loads(Path("run/result.json").read_text())["error"] == 0
    assert bright in foveal("evaluate run")[1]


def test_train_evaluate_predict_and_look(foveal: Foveal, bars: Path) -> None:  # noqa: F811
    (bars / "lying" / "bad.png").write_text("text")
    line = f"train folder --data '{bars}' {SMALL} --epochs 40 --lr 0.01 --batch-size 14 --out run"
    code, out, err = foveal(line)
    assert code == 0
    assert err.count("\n") == 1
    assert "left out:" in err
    assert "bad.png is not a PNG" in err
    assert "80 images, 2 classes; in colour; 10 x 10 to 19 x 19 pixels" in out
    assert "56 train, 12 validation, 12 test images; mean" in out
    assert "--glimpse-size" not in out, "a reason for what was given by hand would be wrong"
    result = json.loads(Path("run/result.json").read_text())
    assert result["error"] <= 10
    config = json.loads(Path("run/config.json").read_text())
    assert config["classes"] == ["lying", "standing"]
    assert len(config["model"]["pixel_mean"]) == 3
    assert len(Path("run/split.csv").read_text().splitlines()) == 81

    code, out, _ = foveal("evaluate run --json --confusion confusion.png")
    answer = json.loads(out)
    assert (code, answer["error"]) == (0, result["error"]), "the recorded error is repeated"
    assert [row["class"] for row in answer["classes"]] == ["lying", "standing"]
    assert sum(sum(row) for row in answer["confusion"]) == answer["count"] == 12
    wrong = answer["confusion"][0][1] + answer["confusion"][1][0]
    assert answer["error"] == pytest.approx(100 * wrong / 12)
    with Image.open("confusion.png") as picture:
        assert picture.format == "PNG"
    code, out, _ = foveal("evaluate run")
    assert code == 0
    assert "standing" in out
    assert "numbers read of 19 x 19 pixels at most" in out

    code, out, err = foveal(f"evaluate run --data '{bars}' --json")
    assert code == 1
    assert "left out:" in err
    assert "56 of the images are left out: the model was trained on them" in err
    assert json.loads(out)["count"] == 24, "all others of a folder without a test split"

    code, out, err = foveal(f"predict run '{bars}/standing' --json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, len(lines)) == (0, 40)
    right = sum(line["answer"] == "standing" for line in lines)
    assert right >= 34
    for line in lines:
        with Image.open(line["file"]) as picture:
            assert (line["width"], line["height"]) == picture.size
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=2e-6)
        assert line["pixels_read"] == 3 * (3 * 2 * 36 + 9 * 9)
        assert len(line["locations"]) == 3
        for x, y in line["locations"]:
            assert 0 <= x <= line["width"]
            assert 0 <= y <= line["height"]
    assert foveal("look run --index 3 --out look.png")[0] == 0
    assert foveal("train --resume run --json")[0] == 0


@pytest.mark.parametrize("words", ["", "--held-out 0.45", "--split-seed 3"])
@pytest.mark.parametrize("count", [3, 10])
def test_the_batch_fits_the_images_that_it_was_chosen_for(
    words: str,
    count: int,
    foveal: Foveal,  # noqa: F811
    tmp_path: Path,
) -> None:
    write_bars(tmp_path / "few", count)
    line = f"train folder --data few --epochs 1 --threads 1 --workers 0 --json {words} --out run"
    code, _, err = foveal(line)
    assert (code, err) == (0, "")


def test_an_answer_does_not_depend_on_the_other_files(foveal: Foveal, bars: Path) -> None:  # noqa: F811
    names = [str(path) for path in sorted(bars.rglob("*.png"))[:7]]
    together = foveal("predict mnist-28 --json " + " ".join(f"'{name}'" for name in names))[1]
    for name, line in zip(names, together.splitlines(), strict=True):
        alone = json.loads(foveal(f"predict mnist-28 --json '{name}'")[1])
        got = json.loads(line)
        assert got["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-5)
        assert got["locations"] == alone["locations"]


def test_files_come_from_names_folders_patterns_and_standard_input(
    foveal: Foveal,  # noqa: F811
    bars: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def files(line: str) -> list[str]:
        code, out, err = foveal(f"predict mnist-28 --json {line}")
        assert (code, err) == (0, "")
        return [
            Path(json.loads(text)["file"]).relative_to(bars).as_posix() for text in out.splitlines()
        ]

    assert files(f"'{bars}/lying/01.png' '{bars}/standing/00.png'") == [
        "lying/01.png",
        "standing/00.png",
    ]
    assert len(files(f"'{bars}'")) == 80
    assert files(f"'{bars}/**/0[12].png'") == [
        "lying/01.png",
        "lying/02.png",
        "standing/01.png",
        "standing/02.png",
    ]
    assert len(files(f"'{bars}/**'")) == 80, "a directory that matches, and what is in it"
    text = f"{bars}/lying/03.png\n\n{bars}/standing/04.png\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert files("-") == ["lying/03.png", "standing/04.png"]


@pytest.mark.usefixtures("models")
def test_bad_files_are_named_and_do_not_stop_good_ones(
    foveal: Foveal,  # noqa: F811
    bars: Path,
    tmp_path: Path,
) -> None:
    wanted = bad_files(tmp_path)
    Image.new("CMYK", (9, 9)).save("cmyk.tif")
    Image.new("RGB", (1, 1)).save("one.png")
    names = " ".join([*wanted, "cmyk.tif", "one.png", f"'{bars}/lying/00.png'"])
    code, out, err = foveal(f"predict colour {names}")
    assert code == 1
    assert [line.split(":")[0] for line in out.splitlines()] == [
        "cmyk.tif",
        "one.png",
        f"{bars}/lying/00.png",
    ]
    *complaints, last = err.splitlines()
    assert last == (
        f"foveal predict: {len(wanted)} of {len(wanted) + 3} files could not be read and were "
        "left out."
    )
    for name, complaint in zip(wanted, complaints, strict=True):
        assert complaint.startswith(f"foveal predict: {name} ")
    code, _, err = foveal(f"predict colour {names} --strict")
    assert code == 2
    assert err.count("\n") == 1
    assert "truncated.jpg is damaged" in err


def _all_of(screen: int) -> str:
    """What a terminal shows until its last writer has closed it."""
    parts = []
    with contextlib.suppress(OSError):  # Linux ends a terminal with an error
        while part := os.read(screen, 4096):
            parts.append(part)
    return b"".join(parts).decode()


def test_answers_go_to_standard_output_while_a_bar_is_on_the_terminal(bars: Path) -> None:
    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "foveal", "predict", "mnist-28", str(bars), "--workers", "0"]
    with ThreadPoolExecutor(1) as reader:  # a terminal that nobody reads from fills up
        shown = reader.submit(_all_of, screen)
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=terminal, text=True, check=False
        )
        os.close(terminal)
        assert done.returncode == 0
        assert "80/80" in shown.result()
    os.close(screen)
    assert len(done.stdout.splitlines()) == 80


@pytest.mark.usefixtures("models")
def test_one_channel_or_three_take_either_file(foveal: Foveal, bars: Path) -> None:  # noqa: F811
    Image.new("L", (20, 30), 90).save("grey.png")
    for model in ("grey", "colour"):
        code, out, err = foveal(f"predict {model} grey.png '{bars}/lying/00.png' --top-k 0")
        assert (code, err) == (0, "")
        assert out.count("\n") == 2
        assert out.splitlines()[0].count(", ") >= 9, "all ten classes"
    code, _, err = foveal("predict four grey.png")
    assert code == 2
    assert "image files have 1 or 3 channels; four takes 4" in err


WRONG = {
    "train folder": "which images\\? Pass --data",
    "train folder --data nowhere": "must be a directory or a manifest; there is no 'nowhere'",
    "train folder --data empty": "empty holds no images. Put the images of each class",
    "train folder --data one": "has one class only, 'a'",
    "train folder --data lone": "has 1 image of class 'b'; at least 3 are needed",
    "train folder --data texts": "holds no readable image; the first: .*is not a PNG",
    "train folder --data m.csv": "m.csv has an unknown column 'lable'",
    "train folder --data bars --held-out 0.7": "held_out must be .* above 0 and below 0.5; got 0.7",
    "train folder --data bars --shift 3": "shift must be a number from 0 to 1; got 3.0",
    "train folder --data bars --colour red": "invalid choice 'red'",
    "train folder --data bars --workers -2": "workers must be a whole number from -1",
    "train folder --data bars --cache-gb -1": "cache_gb must be a number from 0",
    "train folder --data bars --recipe fats": "unknown recipe 'fats'; .* mean fast?",
    "train folder --data bars --num-class 3": "unknown flag --num-class",
    "train folder --data bars --network conv": "the images must have one size; they differ",
    "train folder --data bars --strict": r"bad.png is not a PNG.* \(--strict\)",
    "train folder --data bars --out bars": "--out must be a new or empty directory",
    "train foldr": "unknown task 'foldr'; .* Did you mean folder?",
    "evaluate grey": "does not say what it was trained on. Pass --task, or --data",
    "evaluate grey --data bars": "is of class 'lying', which the model does not know; it knows",
    "evaluate grey --data nowhere": "there is no 'nowhere'",
    "evaluate grey --data bars --digits uci": "--data is for your own images",
    "evaluate grey --data bars --confusion x.jpg": "--confusion must be a .png file",
    "predict": "Missing from foveal predict",
    "predict grey": "which images\\? Name files",
    "predict nothing one": "there is no directory 'nothing'",
    "predict grey one --top-k -1": "top_k must be at least 0",
    "predict grey one --workers -3": "workers must be a whole number from -1 to 1,024; got -3",
}


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("line", WRONG)
def test_wrong_input_gives_one_line_and_exit_code_2(
    line: str,
    foveal: Foveal,  # noqa: F811
    tmp_path: Path,
) -> None:
    write_bars(tmp_path / "bars", 4)
    (tmp_path / "bars" / "lying" / "bad.png").write_text("text")
    for name in ("empty", "one/a", "lone/a", "lone/b", "texts/a"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    for name in ("one/a/1", "lone/a/1", "lone/a/2", "lone/a/3", "lone/b/1"):
        Image.new("L", (9, 9)).save(tmp_path / f"{name}.png")
    (tmp_path / "texts" / "a" / "text.png").write_text("hello")
    (tmp_path / "m.csv").write_text("path,label,lable\none/a/1.png,a,b\n")
    code, out, err = foveal(line)
    assert code == 2
    assert out == "" or "train folder --data" in line, "reasons may be said before"
    assert err.splitlines()[-1].startswith("foveal")
    assert "Traceback" not in err
    assert re.search(WRONG[line], err.splitlines()[-1]), err
    assert not Path("runs").exists(), "nothing is left behind"


def test_a_run_whose_images_are_gone_says_so(foveal: Foveal, tmp_path: Path) -> None:  # noqa: F811
    write_bars(tmp_path / "bars", 10)
    line = f"train folder --data bars {SMALL} --epochs 1 --batch-size 5 --out run"
    assert foveal(line)[0] == 0
    (tmp_path / "bars").rename(tmp_path / "moved")
    code, _, err = foveal("evaluate run")
    assert code == 2
    assert "the images of the run are missing" in err
    assert "take others by --data" in err
    # Moved or copied, its own images are known by name, class and size; of the same names others.
    code, out, err = foveal("evaluate run --data moved --json")
    assert (code, json.loads(out)["count"]) == (0, 8)
    assert "12 of the images are left out: the model was trained on them" in err
    shutil.copytree("moved", "bars")
    shutil.copytree("moved", "copied")
    write_bars(tmp_path / "others", 10, seed=1)
    for place, count in (("copied", 8), ("bars", 8), ("others", 20)):
        assert json.loads(foveal(f"evaluate run --data {place} --json")[1])["count"] == count
    shutil.rmtree("bars")
    before = {path.name: path.read_bytes() for path in Path("run").iterdir() if path.is_file()}
    model = RecurrentAttention.from_pretrained("run")
    for place in ("run/checkpoint", "checkpoint"):  # also where that was moved away, for room
        with pytest.raises(FileExistsError, match="run holds a run, which the model would be"):
            model.save_pretrained("run")
        Path(place).rename("checkpoint" if place != "checkpoint" else "run/checkpoint")
    after = {path.name: path.read_bytes() for path in Path("run").iterdir() if path.is_file()}
    assert after == before
    Path("run/split.csv").rename("split.csv")
    code, out, err = foveal("evaluate run --data moved --json")
    assert (code, json.loads(out)["count"]) == (0, 20)
    assert "which images were in which split is unknown" in err
    assert "the error flatters it" in err
    Path("split.csv").rename("run/split.csv")
    (tmp_path / "run" / "split.csv").unlink()
    (tmp_path / "moved").rename(tmp_path / "bars")
    code, _, err = foveal("evaluate run")
    assert code == 2
    assert "split.csv is missing" in err


def test_a_manifest_by_a_link_stays_beside_its_images(
    foveal: Foveal,  # noqa: F811
    tmp_path: Path,
) -> None:
    """The link's target has files of the same names beside it, of the other class."""
    write_bars(tmp_path / "here", 10)
    shutil.copytree("here/lying", "there/standing")
    shutil.copytree("here/standing", "there/lying")
    rows = [f"{path.relative_to('there')},{path.parent.name}" for path in Path("there").glob("*/*")]
    Path("there/m.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    Path("here/m.csv").symlink_to("../there/m.csv")
    line = f"train folder --data here/m.csv {SMALL} --epochs 1 --batch-size 5 --out run"
    assert foveal(line)[0] == 0
    assert json.loads(Path("run/config.json").read_text())["task"]["data"].endswith("here/m.csv")
    # Of one class alone no test image is left, if these are the files that it was trained on.
    shutil.rmtree("there/lying")
    assert foveal("evaluate run")[0] == 0


def test_training_images_are_known_in_another_layout(foveal: Foveal, tmp_path: Path) -> None:  # noqa: F811
    write_bars(tmp_path / "bars", 10)
    line = f"train folder --data bars {SMALL} --epochs 1 --batch-size 5 --out run"
    assert foveal(line)[0] == 0
    shutil.copytree("bars", "copy/test")
    assert json.loads(foveal("evaluate run --data copy --json")[1])["count"] == 8
    shutil.rmtree("bars")  # what begins alike cannot be told any more
    assert json.loads(foveal("evaluate run --data copy --json")[1])["count"] == 20


def test_the_stop_alone_is_not_trained_for_random_answers(
    foveal: Foveal,  # noqa: F811
    tmp_path: Path,
) -> None:
    write_bars(tmp_path / "bars", 10)
    line = f"train folder {SMALL} --epochs 1 --batch-size 5"
    assert foveal(f"{line} --data bars --out run")[0] == 0
    Path("bars/lying").rename("bars/flat")
    code, _, err = foveal(f"{line} --data bars --out other --start run --stop --only-stop")
    assert code == 2
    assert "run answers with other classes than flat, standing" in err
    assert not Path("other").exists()


def test_a_picture_of_looks_is_not_written_over_what_is_looked_at(
    foveal: Foveal,  # noqa: F811
    tmp_path: Path,
) -> None:
    RecurrentAttention(RAMConfig()).save_pretrained(tmp_path / "model")
    Image.new("L", (40, 40), 90).save("look.png")
    Path("link.png").symlink_to("look.png")
    before = Path("look.png").read_bytes()
    for line in ("look model look.png", "look model look.png --out link.png"):
        code, _, err = foveal(line)
        assert (code, Path("look.png").read_bytes()) == (2, before)
        assert "would be written over" in err


def test_digits_of_a_folder_that_has_changed_are_refused(
    foveal: Foveal,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Which of them train is drawn from all, so that one more file moves others."""
    images = load_digits().images
    labels = load_digits().target
    for label, name in ((0, "nought"), (1, "one")):
        Path("digits", name).mkdir(parents=True)
        for number, image in enumerate(images[labels == label][:20]):
            Image.fromarray((image * 15).astype(np.uint8)).save(f"digits/{name}/{number}.png")
    sizes = "--canvas-size 8 --glimpse-size 4 --num-scales 1 --num-classes 2"
    small = SMALL.replace("--workers 0", sizes)
    line = f"train mnist-28 --digits digits {small} --epochs 2 --batch-size 9 --out run"
    code, _, err = foveal(line)
    assert code == 0, err
    assert json.loads(Path("run/config.json").read_text())["task"]["digits"] == str(
        tmp_path / "digits"
    )
    assert foveal("evaluate run")[0] == 0
    shutil.copy("digits/one/3.png", "digits/one/new.png")
    for words in ("evaluate run", "look run --out looks.png"):
        code, _, err = foveal(words)
        assert code == 2
        assert "digits are others than run was trained on" in err.replace(
            f" of {tmp_path}/digits", ""
        )
    Path("digits/one/new.png").unlink()
    Path("digits/nought").rename("digits/zero")
    code, _, err = foveal("evaluate run --digits digits")
    assert code == 2
    assert "class 0 of the task is 'one', and 'nought' to the model" in err


def test_evaluate_scales_and_inverts(foveal: Foveal, tmp_path: Path) -> None:  # noqa: F811
    """Digits four times as large, in ink on paper, are taken for what the small ones are."""
    small, large = tmp_path / "small", tmp_path / "large"
    pixels, labels = load_digits(return_X_y=True)
    for number in range(60):
        digit = np.pad(pixels[number].reshape(8, 8) * 15, 3).repeat(2, 0).repeat(2, 1)
        for root, shown in ((small, digit), (large, 255 - digit.repeat(4, 0).repeat(4, 1))):
            (root / str(labels[number])).mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(shown.astype(np.uint8))
            image.save(root / str(labels[number]) / f"{number}.png")
    code, wanted, err = foveal(f"evaluate mnist-28 --data '{small}' --json")
    assert (code, err) == (0, "")
    code, out, err = foveal(f"evaluate mnist-28 --data '{large}' --fit --invert --json")
    assert (code, err) == (0, "")
    for name in ("confusion", "image_size"):
        assert json.loads(out)[name] == json.loads(wanted)[name]
    code, out, err = foveal(f"evaluate mnist-28 --data '{large}' --json")
    assert code == 0
    assert json.loads(out)["confusion"] != json.loads(wanted)["confusion"]
    assert err.count("\n") == 1
    assert "has 112 x 112 pixels" in err
    assert "is bright at its edge" in err
    code, _, err = foveal("evaluate mnist-28 --digits uci --fit")
    assert code == 2
    assert "--fit and --invert are for images of your own. Pass --data with them." in err
    code, _, err = foveal("look mnist-28 --digits uci --invert")
    assert code == 2
    assert "--fit and --invert are for image files" in err


def test_a_class_of_which_no_image_can_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_bars(Path("bars"), 20)
    for number in range(6):
        copy = Path("bars", "third", f"{number}.png")
        copy.parent.mkdir(exist_ok=True)
        whole = Path("bars", "lying", f"1{number}.png").read_bytes()
        copy.write_bytes(whole if number < 2 else whole[: len(whole) // 2])
    line = "train folder --data bars --recipe fast --epochs 1 --workers 0 --threads 1"
    for number in (0, 1):
        Path("bars", "third", f"{number}.png").write_text("text")
        wanted = 2 if number == 0 else 0
        assert cli.main([*line.split(), "--out", f"run{number}"]) == wanted
        err = capsys.readouterr().err
        if wanted:  # one is left, and what became of the others is said
            assert "has 1 image of class 'third'; at least 3 are needed" in err
            assert re.search(r"5 could not be read; the first: .*0.png is not a PNG", err)
    assert "left out: the class 'third', of which no image can be read." in err
    assert json.loads(Path("run1", "config.json").read_text())["classes"] == ["lying", "standing"]


def test_a_network_that_sees_all_reads_every_channel(foveal: Foveal, tmp_path: Path) -> None:  # noqa: F811
    random = np.random.default_rng(0)
    for number in range(24):
        path = tmp_path / "data" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (12, 16, 3), dtype=np.uint8)).save(path)
    run = tmp_path / "run"
    line = f"train folder --data {tmp_path / 'data'} --network fc-64 --epochs 1 --workers 0"
    assert foveal(f"{line} --out {run}")[0] == 0
    code, out, err = foveal(f"evaluate {run} --json")
    assert code == 0, err
    found = json.loads((run / "result.json").read_text())["pixels_read"]
    assert json.loads(out)["pixels_read"] == found == 12 * 16 * 3
