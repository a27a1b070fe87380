"""Python in one line answers what the command answers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageDraw

import foveal
from foveal import RecurrentAttention, cli
from foveal.evaluation.prediction import Prediction
from foveal.randomness import OneForAll
from foveal.scene.files import open_source
from foveal.viz.scanpath import follow
from tests.conftest import TINY


@pytest.fixture(scope="module")
def model() -> RecurrentAttention:
    return RecurrentAttention.from_pretrained("cluttered-60")


def test_each_looks_size_is_that_of_the_scale_it_chose() -> None:
    torch.manual_seed(2)
    zoom = RecurrentAttention(dataclasses.replace(TINY, zoom=True, num_scales=3))
    image = torch.rand(1, 30, 50)
    zooms = zoom.eval()(image[None]).locations[0, :, 2].tolist()
    answer = foveal.predict(zoom, image)
    assert isinstance(answer, Prediction)
    assert answer.sizes == [{-1: 4, 0: 8, 1: 16}[round(z)] for z in zooms]
    assert answer.pixels_read == 3 * 16


@pytest.fixture
def seven(tmp_path: Path) -> Path:
    """Drawn on white paper, larger than any image of training."""
    image = Image.new("RGB", (400, 300), "white")
    ImageDraw.Draw(image).line([(140, 70), (260, 70), (190, 240)], fill="black", width=22)
    image.save(tmp_path / "seven.png")
    return tmp_path / "seven.png"


def test_a_seven_on_paper_is_a_seven(
    model: RecurrentAttention, seven: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = model.predict(seven, fit=True, invert=True)
    assert isinstance(answer, Prediction)
    assert answer.answer == "7"
    assert next(iter(answer.probabilities)) == "7"
    assert set(answer.probabilities) == set(model.classes) == set("0123456789")
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-4)
    assert (answer.height, answer.width) == (300, 400)
    x, y = np.array(answer.locations).T
    assert len(x) == 8
    assert 60 < x.max() <= 400, "in pixels of the file"
    assert y.max() <= 300
    assert answer.pixels_read == 8 * 3 * 12 * 12
    assert answer.sizes == [48 * 7] * 8, "boxes of 7 pixels make 58 of 400"
    line = f"predict cluttered-60 {seven} --fit --invert --top-k 0 --json"
    assert cli.main(line.split()) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) | {"answers": ()} == vars(answer)
    assert err == ""
    assert cli.main(["predict", "cluttered-60", str(seven)]) == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "--fit" in err
    assert "--invert" in err
    with pytest.warns(UserWarning, match="fit=True scales it down.*invert=True makes dark light"):
        assert foveal.predict(model, str(seven)).answer != "7"


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_tiff_that_pillow_has_opened_is_upright_too(
    model: RecurrentAttention, compression: str | None, tmp_path: Path
) -> None:
    pixels, path = np.zeros((60, 50), np.uint8), tmp_path / "lying.tif"
    pixels[10:40, 20:24] = 230
    tag = (0x0112, "H", 1, 6, True)
    tifffile.imwrite(path, np.rot90(pixels), compression=compression, extratags=[tag])
    wanted = model.predict(pixels)
    with Image.open(path) as opened:
        assert model.predict(opened) == dataclasses.replace(wanted, file=str(path))
        opened.load()
        opened.paste(0, (0, 0, 60, 50))
        assert model.predict(opened).probabilities != wanted.probabilities, "what it is by now"


def test_images_at_hand_are_answered_as_their_files(
    model: RecurrentAttention, tmp_path: Path
) -> None:
    pixels = np.zeros((60, 50), np.uint8)
    pixels[10:40, 20:24] = 230
    Image.fromarray(pixels).save(tmp_path / "one.png")
    np.save(tmp_path / "one.npy", pixels)
    Image.fromarray(np.rot90(pixels)).save(tmp_path / "lying.png", exif=_turned(6))
    with (
        Image.open(tmp_path / "lying.png") as turned,
        open_source(tmp_path / "one.npy", 1) as file,
    ):
        given = [
            tmp_path / "one.png",
            str(tmp_path / "one.npy"),
            pixels,
            pixels[..., None] / np.float32(255),
            pixels.astype(np.uint16) * 257,
            torch.from_numpy(pixels)[None] / 255,
            (torch.from_numpy(pixels)[None] / 255).double().requires_grad_(),
            Image.fromarray(pixels.astype(np.int32) * 257),
            Image.fromarray(pixels),
            Image.fromarray(pixels).convert("RGBA"),
            Image.fromarray(pixels / np.float32(255)),
            turned,
            file,
        ]
        answers = model.predict(given)
        assert model.predict(file) == answers[-1], "it is still open"
    assert len(answers) == len(given)
    for answer in answers:
        assert answer.locations == answers[0].locations
        assert answer.probabilities == pytest.approx(answers[0].probabilities, abs=1e-5)
    assert [Path(answer.file).name for answer in answers[:3]] == ["one.png", "one.npy", ""]


def _turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def test_a_big_file_is_answered_where_it_lies(tmp_path: Path) -> None:
    model = RecurrentAttention(TINY).train()
    pixels = np.random.default_rng(0).integers(0, 256, (2100, 2200), np.uint8)
    tifffile.imwrite(tmp_path / "big.tif", pixels, tile=(256, 256))
    answer, other = model.predict([tmp_path / "big.tif", pixels], seed=3)
    assert answer.locations == other.locations
    assert (answer.height, answer.width) == pixels.shape
    assert model.training, "as it was"
    assert model.classes == ("0", "1")


def test_what_cannot_be_read_is_named(model: RecurrentAttention, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(ValueError, match="cut.png"):
        model.predict([np.zeros((9, 9), np.uint8), tmp_path / "cut.png"])
    with pytest.raises(FileNotFoundError, match="gone.png is missing"):
        model.predict("gone.png")
    with pytest.raises(ValueError, match=r"the array|the image must be \(H, W\)"):
        model.predict(np.zeros(9))
    with pytest.raises(ValueError, match="floats must be in"):
        model.predict(np.full((9, 9), 200.0))
    with pytest.raises(ValueError, match="a file, an array or a PIL image; got a NoneType"):
        model.predict(None)
    for wrong in (-1, 65_536):
        with pytest.raises(ValueError, match=f"from .*{wrong:,}.* are not supported"):
            model.predict(Image.fromarray(np.array([[0, wrong]], np.int32)))
    half = torch.full((1, 9, 9), 0.5)
    assert model.predict(half.bfloat16()).probabilities == model.predict(half).probabilities
    with pytest.raises(ValueError, match="fit=True needs the size"):
        RecurrentAttention(TINY).predict(np.zeros((9, 9)), fit=True)
    assert model.predict([]) == []


@pytest.mark.parametrize("size", [(1000, 700), (2000, 90), (31, 1211)])
def test_places_of_what_is_scaled_down_are_in_its_own_pixels(
    model: RecurrentAttention, size: tuple[int, int]
) -> None:
    """A look is round a corner of pixels that are boxes of those given, also at an odd end."""
    image = np.zeros(size, np.uint8)
    image[size[0] // 3 : size[0] // 2, size[1] // 3 : size[1] // 2] = 200
    answer = model.predict(image, fit=True)
    box = round(max(size) / 60)
    rows, columns = -(-size[0] // box), -(-size[1] // box)
    small = np.zeros((rows * box, columns * box))
    small[: size[0], : size[1]] = image / 255
    small = small.reshape(rows, box, columns, box).mean((1, 3))
    looked = model(
        torch.from_numpy(small).float()[None, None], generator=OneForAll().manual_seed(0)
    ).locations[0]
    wanted = ((looked + 1) / 2 * torch.tensor([columns, rows]) + 0.5).floor() * box
    wanted = wanted.minimum(torch.tensor([size[1], size[0]]))
    assert answer.locations == wanted.int().tolist()


def test_look_shows_what_predict_answers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [str(tmp_path / f"{number}.png") for number in range(2)]
    for number, name in enumerate(names):
        noise = np.random.default_rng(number).integers(0, 256, (60, 60), np.uint8)
        Image.fromarray(noise).save(name)
    said = []
    for command in (["predict"], ["look", "--out", str(tmp_path / "sheet.svg")]):
        assert cli.main([command[0], "cluttered-60", *names, *command[1:], "--json"]) == 0
        said.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    for ours, theirs in zip(*said, strict=True):
        assert ours["locations"] == theirs["locations"]
        assert ours["answer"] == theirs["answer"]
    assert said[0][0]["locations"][0] == said[0][1]["locations"][0], "one draw for all"
    wanted = foveal.predict(RecurrentAttention.from_pretrained("cluttered-60"), names)
    assert [answer.locations for answer in wanted] == [line["locations"] for line in said[0]]


@pytest.mark.parametrize("policy", ["center", "map"])
def test_a_model_chooses_its_first_look_itself(policy: str) -> None:
    parts = {"policy": policy, "context": "conv" if policy == "map" else "none"}
    model = RecurrentAttention(TINY.with_parts(**parts)).eval()
    images = [np.random.default_rng(n).integers(0, 256, (40, 30), np.uint8) for n in range(3)]
    answers = model.predict(images)
    rollout = model(torch.from_numpy(np.stack(images))[:, None] / 255)
    places = (rollout.locations[:, 0].detach() + 1) / 2 * torch.tensor([30, 40])
    for answer, place in zip(answers, places, strict=True):
        assert answer.locations[0] == pytest.approx(place.tolist(), abs=0.51)


@pytest.mark.parametrize(
    ("classes", "between"), [(("fox", "wolf"), " "), (("red fox", "wolf"), ", ")]
)
def test_where_a_name_in_a_list_of_answers_ends_can_be_told(
    classes: tuple[str, ...], between: str
) -> None:
    torch.manual_seed(4)
    model = RecurrentAttention(dataclasses.replace(TINY, max_answers=3)).eval()
    model.about["classes"] = list(classes)
    image = torch.rand(1, 30, 50)
    answer = model.predict(image)
    assert isinstance(answer, Prediction)
    path = follow(model, image, classes=classes, generator=torch.Generator().manual_seed(0))
    assert answer.answer == between.join(one.answer for one in answer.answers)
    assert answer.answer == path.names(path.answers)
    assert len(answer.answer.split(between)) == 3
