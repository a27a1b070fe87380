from __future__ import annotations

import dataclasses
import itertools
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from foveal.evaluation.classifier import answers
from foveal.geometry import PaddedImages, pad_images
from foveal.model.attention import RecurrentAttention
from foveal.model.context import ConvContextSettings
from foveal.model.map_policy import MapSettings
from foveal.model.sensor import GlimpseSensor
from foveal.model.whole_image import make_reference_network
from foveal.runs import folder as runs_on_folders
from foveal.runs.folder import FolderRun
from foveal.runs.folder_recipe import suggest
from foveal.runs.recipes import recipe
from foveal.runs.run import train_run
from foveal.scene import as_scene
from foveal.scene import files as readers
from foveal.scene.photographs import PhotographScene
from foveal.scene.pictures import grouped
from foveal.tasks.augmentation import AugmentationConfig, TintedScene, augment
from foveal.tasks.folder.config import FolderConfig
from foveal.tasks.folder.decoding import Decoder, PictureStore, with_sources
from foveal.tasks.folder.survey import survey
from foveal.tasks.folder.task import FolderTask
from foveal.tasks.pyramids import write_pyramid
from foveal.tasks.task import SPLITS
from foveal.training.classifier import TrainConfig, Trainer
from foveal.training.critic import Learner
from foveal.training.journal import read_metrics
from foveal.training.objective import ObjectiveConfig, hybrid_loss
from foveal.training.progress import TrainingStopped
from tests.conftest import TINY, StopAt

CPU = torch.device("cpu")


def write_bars(root: Path, count: int = 12, *, colour: bool = True, seed: int = 4) -> Path:
    """Two classes of images of different sizes: a bright bar lies, or stands."""
    random = np.random.default_rng(seed)
    for label in ("lying", "standing"):
        (root / label).mkdir(parents=True)
        for number in range(count):
            height, width = random.integers(10, 20, 2)
            image = random.integers(0, 60, (height, width, 3), dtype=np.uint8)
            if label == "lying":
                image[height // 2 - 1 : height // 2 + 1] = 250
            else:
                image[:, width // 2 - 1 : width // 2 + 1] = 250
            picture = Image.fromarray(image)
            (picture if colour else picture.convert("L")).save(root / label / f"{number:02}.png")
    return root


def examined(data: Path, **values: object) -> FolderTask:
    config = FolderConfig(data=str(data), workers=0, **values)  # type: ignore[arg-type]
    return FolderTask.examine(config, survey(config.data))


def test_a_batch_is_the_files_padded_with_their_sizes(tmp_path: Path) -> None:
    task = examined(write_bars(tmp_path))
    images, labels = task.batch("validation", torch.tensor([3, 0]))
    assert images.pixels.dtype == torch.float32
    entries = [e for e in task.listing.entries if e.split == "validation"]
    for image, label, entry in zip(range(2), labels, (entries[3], entries[0]), strict=True):
        wanted = np.asarray(Image.open(tmp_path / entry.path)).transpose(2, 0, 1) / 255
        assert np.allclose(images.image(image).numpy(), wanted)
        assert task.classes[label] == entry.label
        assert images.pixels[image].sum() == pytest.approx(wanted.sum(), rel=1e-4)


def test_mean_and_deviation_are_those_of_the_training_pixels(tmp_path: Path) -> None:
    task = examined(write_bars(tmp_path))
    paths = [tmp_path / e.path for e in task.listing.entries if e.split == "train"]
    pixels = np.concatenate([np.asarray(Image.open(p)).reshape(-1, 3) / 255 for p in paths])
    assert task.pixel_mean == pytest.approx(pixels.mean(0), abs=1e-5)
    assert task.pixel_std == pytest.approx(pixels.std(0), abs=1e-5)
    assert (task.size("train"), task.size("validation"), task.size("test")) == (16, 4, 4)


def test_grey_images_have_one_channel_unless_colour_is_asked_for(tmp_path: Path) -> None:
    data = write_bars(tmp_path, colour=False)
    assert examined(data).num_channels == 1
    assert examined(data, colour="rgb").num_channels == 3


def test_a_normalized_glimpse_is_what_the_first_layer_gets() -> None:
    """A model with a mean and a deviation, against one without that is shown prepared glimpses."""
    config = dataclasses.replace(TINY, num_channels=3, num_scales=2, scale_gain=2.0)
    mean, std = (0.2, 0.5, 0.7), (0.1, 0.3, 0.2)
    plain = RecurrentAttention(config)
    model = RecurrentAttention(dataclasses.replace(config, pixel_mean=mean, pixel_std=std))
    model.load_state_dict(plain.state_dict())
    glimpses, places = torch.rand(5, 2, 3, 4, 4), torch.rand(5, 2)
    shape = (1, 1, 3, 1, 1)
    by_hand = (glimpses - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
    got = model.perceive(glimpses.clone(), places)
    torch.testing.assert_close(got, plain.perceive(by_hand, places))
    with pytest.raises(ValueError, match="pixel_mean must have a number for each of the 1"):
        dataclasses.replace(TINY, pixel_mean=mean)
    with pytest.raises(ValueError, match="pixel_std must be a number above 0"):
        dataclasses.replace(TINY, pixel_std=(0.0,))


def test_bad_files_are_left_out_and_named_or_stop_everything(tmp_path: Path) -> None:
    write_bars(tmp_path)
    whole = (tmp_path / "lying" / "00.png").read_bytes()
    (tmp_path / "lying" / "00.png").write_bytes(whole[: len(whole) // 2])  # sound in its header
    (tmp_path / "lying" / "01.png").write_bytes(b"")
    task = examined(tmp_path)
    assert len(task.listing.entries) == 22
    assert "01.png is empty" in task.problems[0]
    assert "00.png is damaged or cut off" in task.problems[1]
    with pytest.raises(ValueError, match=r"01.png is empty.* \(--strict\)"):
        examined(tmp_path, strict=True)
    (tmp_path / "lying" / "01.png").unlink()
    with pytest.raises(ValueError, match=r"00.png is damaged.* \(--strict\)"):
        examined(tmp_path, strict=True)


def test_a_file_that_goes_bad_later_is_left_out_of_evaluation(tmp_path: Path) -> None:
    task = examined(write_bars(tmp_path), cache_gb=0.0)
    entry = next(e for e in task.listing.entries if e.split == "test")
    (tmp_path / entry.path).write_text("gone")
    labels, _ = answers(RecurrentAttention(dataclasses.replace(TINY, num_channels=3)), task, "test")
    assert len(labels) == 3
    assert entry.path in task.problems[-1]
    with pytest.raises(ValueError, match=r"no image of a batch can be read\. .*is not a PNG"):
        task.batch("test", torch.tensor([0]))


@pytest.mark.parametrize("strict", [False, True])
def test_a_file_that_goes_bad_later_is_left_out_of_training(tmp_path: Path, strict: bool) -> None:
    """A damaged one, and one that is gone; the others are as before, with their labels."""
    task = examined(write_bars(tmp_path), cache_gb=0.0, strict=strict)
    places = torch.arange(8)
    before, labels = task.batch("train", places)
    files = [e.path for e in task.listing.entries if e.split == "train"]
    (tmp_path / files[2]).write_bytes((tmp_path / files[2]).read_bytes()[:-30])
    (tmp_path / files[5]).unlink()
    if strict:
        with pytest.raises(ValueError, match=r"\(--strict\)"):
            task.batch("train", places)
        return
    for _ in range(2):
        after, known = task.batch("train", places)
        sound = [0, 1, 3, 4, 6, 7]
        assert torch.equal(known, labels[sound])
        assert torch.equal(after.sizes, before.sizes[sound])
        height, width = after.pixels.shape[2:]
        assert torch.equal(after.pixels, before.pixels[sound, :, :height, :width])
    assert all(files[n] in problem for n, problem in zip((2, 5), task.problems, strict=True))


def test_balanced_weights_make_classes_count_alike(tmp_path: Path) -> None:
    write_bars(tmp_path, 20)
    for number in range(15):
        (tmp_path / "lying" / f"{number:02}.png").unlink()
    assert examined(tmp_path).class_weights is None
    task = examined(tmp_path, class_weights="balanced")
    labels = task.labels[[e.split == "train" for e in task.listing.entries]]
    weights = task.class_weights
    assert weights is not None
    sums = [weights[labels[labels == label]].sum().item() for label in (0, 1)]
    assert sums == pytest.approx([len(labels) / 2] * 2)


def test_workers_decode_the_same_in_the_same_order(tmp_path: Path) -> None:
    write_bars(tmp_path, 40)
    (tmp_path / "lying" / "07.png").write_text("text")
    paths = sorted(tmp_path.rglob("*.png"))
    here, workers = Decoder(3, 0), Decoder(3, 2)
    try:
        for one, other in zip(here.stream(paths), workers.stream(iter(paths)), strict=True):
            if isinstance(one, Exception):
                assert (type(one), str(one)) == (type(other), str(other))
            else:
                assert np.array_equal(one, other)
    finally:
        workers.close()


def test_the_store_keeps_what_fits_and_decodes_the_rest_again(tmp_path: Path) -> None:
    paths = sorted(write_bars(tmp_path).rglob("*.png"))
    sizes = [np.asarray(Image.open(path)).size for path in paths]
    store = PictureStore(paths, Decoder(3, 0), budget=sum(sizes[:10]))
    first = list(store.stream(range(24)))
    assert sum(picture.nbytes for picture in store.kept.values()) <= sum(sizes[:10])
    assert set(range(10)) <= set(store.kept)
    order = [23, 5, 0, 11, 9, 5]
    for index, picture in zip(order, store.stream(order), strict=True):
        assert np.array_equal(picture, first[index])


def test_of_what_does_not_fit_training_images_are_kept_first(tmp_path: Path) -> None:
    paths = sorted(write_bars(tmp_path).rglob("*.png"))
    sizes = [np.asarray(Image.open(path)).size for path in paths]
    for budget, stays in ((sum(sizes[8:]), False), (sum(sizes), True)):
        store = PictureStore(paths, Decoder(3, 0), budget)
        first = list(store.stream(range(24)))
        store.keep_first(range(8, 24))
        assert bool(set(range(8)) & set(store.kept)) == stays
        for index, picture in zip(range(23, 7, -1), store.stream(range(23, 7, -1)), strict=True):
            assert np.array_equal(picture, first[index])
        assert set(range(8, 24)) <= set(store.kept)
        assert sum(picture.nbytes for picture in store.kept.values()) <= budget


def test_how_much_memory_would_keep_all_training_images(tmp_path: Path) -> None:
    """In colour; what is read by windows takes none."""
    np.save(write_bars(tmp_path) / "lying" / "large.npy", np.zeros((9, 9, 3), dtype=np.uint8))
    task = examined(tmp_path)
    trained = [e for e in task.listing.entries if e.split == "train" and e.path.endswith("png")]
    taken = sum(3 * e.size[0] * e.size[1] for e in trained)
    assert task.wanted_gb == pytest.approx(taken / 2**30)


def test_groups_fit_memory_and_keep_the_order() -> None:
    sizes = [(100, 100)] * 1500 + [(3000, 3000), (10, 10), (2000, 1000), (1000, 2000)]
    pictures = [np.broadcast_to(np.uint8(0), (1, *size)) for size in sizes]
    groups = list(grouped(pictures, lambda picture: picture))
    assert [picture.shape[1:] for group in groups for picture in group] == sizes
    for group in groups:
        height, width = (max(picture.shape[axis] for picture in group) for axis in (1, 2))
        assert len(group) == 1 or len(group) * height * width <= 2**22
    assert len(groups) == 4 + 3


# --- Augmentation ---------------------------------------------------------------------------


def moved(image: Tensor, **values: object) -> Tensor:
    config = AugmentationConfig(**values)  # type: ignore[arg-type]
    padded = pad_images([image, torch.ones(1, 31, 29)])
    generator = torch.Generator().manual_seed(2)
    return augment(padded, config, generator).image(0)


def test_without_augmentation_images_are_the_same(generator: torch.Generator) -> None:
    images = PaddedImages(torch.rand(2, 1, 8, 8), torch.tensor([[8, 8], [5, 6]]))
    assert augment(images, AugmentationConfig(), generator) is images


def test_flips_mirror_each_image_within_its_own_size() -> None:
    image = torch.rand(1, 12, 17)
    mirrored = set()
    for seed in range(20):
        padded = pad_images([image, torch.ones(1, 31, 29)])
        generator = torch.Generator().manual_seed(seed)
        got = augment(padded, AugmentationConfig(flips="both"), generator)
        assert not got.pixels[0, :, 12:].any()
        assert not got.pixels[0, :, :, 17:].any()
        for dims in ((), (1,), (2,), (1, 2)):
            if torch.allclose(got.image(0), image.flip(dims), atol=1e-5):
                mirrored.add(dims)
    assert mirrored == {(), (1,), (2,), (1, 2)}


def test_shift_moves_the_centre_of_light() -> None:
    image = torch.zeros(1, 40, 60)
    image[0, 20, 30] = 1
    got = moved(image, shift=0.3)
    assert got.sum() == pytest.approx(1, abs=1e-4)
    rows, columns = got[0].sum(1), got[0].sum(0)
    row, column = (rows * torch.arange(40)).sum(), (columns * torch.arange(60)).sum()
    assert 0 < abs(row - 20) <= 12
    assert 0 < abs(column - 30) <= 18


def test_rescaling_changes_areas_and_rotation_keeps_them() -> None:
    rows, columns = torch.meshgrid(torch.arange(60) - 29.5, torch.arange(80) - 39.5, indexing="ij")
    box = ((rows.abs() < 6) & (columns.abs() < 12)).float()[None]
    area = box.sum()
    turned = moved(box, rotation=90.0)
    assert turned.sum() == pytest.approx(area.item(), rel=0.02)
    assert not torch.allclose(turned, box, atol=0.5)
    # A turned box is still a box: its second moments are the same in sum.
    spread = lambda image: (image * (rows**2 + columns**2)).sum()  # noqa: E731
    assert spread(turned) == pytest.approx(spread(box).item(), rel=0.05)
    scaled = moved(box, rescale=0.5)
    assert area / 2.3 < scaled.sum() < area * 2.3
    assert scaled.sum() != pytest.approx(area.item(), rel=0.02)


@pytest.mark.parametrize("kind", ["floats", "bytes", "files"])
def test_a_channel_of_an_image_is_tinted_alike_however_it_is_looked_at(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """By one number an image and channel, in training alone, and no brighter than white."""
    if kind == "files":
        request.getfixturevalue("large_above_64")
    side, random = {"floats": 20, "bytes": 200, "files": 100}[kind], np.random.default_rng(3)
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(4):
            image = random.integers(1, 160, (side, side, 3), dtype=np.uint8)
            if kind == "files":
                path = tmp_path / label / f"{number}.tif"
                write_pyramid(path, iter([image[..., 0]]), side, side)
            else:
                Image.fromarray(image).save(tmp_path / label / f"{number}.png")
    task = examined(tmp_path, augmentation=AugmentationConfig(tint=0.5))
    everything = torch.arange(task.size("train"))
    plain = as_scene(examined(tmp_path).batch("train", everything)[0])
    scene = as_scene(task.batch("train", everything, torch.Generator().manual_seed(1))[0])
    middle = torch.stack([scene.sizes[:, 1], scene.sizes[:, 0]], dim=1) // 2
    tints = []
    for row in range(len(scene)):
        before, image = plain.image(row), scene.image(row)
        tint = image.sum((1, 2)) / before.sum((1, 2))
        tints.append(tint)
        wanted = before * tint[:, None, None]
        torch.testing.assert_close(image, wanted, atol=1e-6, rtol=1e-5)
    every = torch.stack(tints)
    assert 1 / 1.5 <= every.min() < 1
    assert 1.2 < every.max() <= 1.5
    assert len(every.unique()) == every.numel()
    for seen, was in (
        (scene.patches(middle, 6, [1, 2]), plain.patches(middle, 6, [1, 2])),
        (scene.thumbnail(15)[:, None], plain.thumbnail(15)[:, None]),
    ):
        wanted = was * every[:, None, :, None, None]
        torch.testing.assert_close(seen, wanted, atol=1e-6, rtol=1e-5)
    white = TintedScene(as_scene(torch.ones(1, 3, 9, 9)), torch.full((1, 3), 1.5))
    assert torch.equal(white.whole(), torch.ones(1, 3, 9, 9))
    validation = zip(
        task.fixed_batches("validation"),
        examined(tmp_path).fixed_batches("validation"),
        strict=True,
    )
    for (ours, _), (theirs, _) in validation:
        assert torch.equal(as_scene(ours).image(0), as_scene(theirs).image(0))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"shift": 2.0}, "shift must be a number from 0 to 1; got 2.0"),
        ({"rotation": -1.0}, "rotation must be a number from 0 to 180"),
        ({"flips": "some"}, "flips must be one of none, horizontal, vertical, both; got 'some'"),
    ],
)
def test_impossible_augmentation_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AugmentationConfig(**values)  # type: ignore[arg-type]


# --- Training -------------------------------------------------------------------------------


def small_run(data: Path, **task: object) -> tuple[FolderRun, FolderTask]:
    config = FolderConfig(data=str(data), **{"workers": 0, **task})  # type: ignore[arg-type]
    folder = FolderTask.examine(config, survey(config.data))
    model = dataclasses.replace(
        TINY, num_channels=3, pixel_mean=folder.pixel_mean, pixel_std=folder.pixel_std
    )
    training = TrainConfig(epochs=6, batch_size=8, log_every=1, checkpoint_minutes=0.0)
    objective = ObjectiveConfig(reward="log_likelihood")
    return FolderRun(task=config, model=model, objective=objective, training=training), folder


def train(
    config: FolderRun, directory: Path, task: FolderTask | None, stop: StopAt | None = None
) -> dict[str, Any]:
    about = {"name": "folder", "recipe": "fast", "command": "foveal train folder"}
    return train_run(config, about | dataclasses.asdict(config), directory, CPU, stop, task=task)


def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    """With augmentation, and with a cache that holds some of the images."""
    data = write_bars(tmp_path / "data")
    moving = AugmentationConfig(shift=0.1, rescale=0.2, rotation=20.0, flips="both")
    config, task = small_run(data, augmentation=moving, cache_gb=4e-6, class_weights="balanced")
    whole = train(config, tmp_path / "whole", task)
    _, task = small_run(data, augmentation=moving, cache_gb=4e-6, class_weights="balanced")
    with pytest.raises(TrainingStopped):
        train(config, tmp_path / "parts", task, StopAt(5, signal.SIGINT))
    parts = train(config, tmp_path / "parts", None)
    assert parts["error"] == whole["error"]
    first, second = (
        RecurrentAttention.from_pretrained(tmp_path / name).state_dict()
        for name in ("whole", "parts")
    )
    for name, value in first.items():
        assert torch.equal(second[name], value), name


def test_workers_decode_ahead_of_training_which_sees_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, begun = write_bars(tmp_path / "data"), []
    curves: list[list[float]] = []
    submit = Decoder._submit

    def noted(self: Decoder, paths: list[Path]) -> Any:
        begun.append(len(paths))
        return submit(self, paths)

    monkeypatch.setattr(Decoder, "_submit", noted)
    for workers in (0, 2):
        config, task = small_run(data, cache_gb=0.0, workers=workers)
        assert not begun
        train(config, tmp_path / str(workers), task)
        task._store.decoder.close()
        lines = read_metrics(tmp_path / str(workers))
        curves.append([line["loss"] for line in lines if "loss" in line])
    assert curves[0] == curves[1]
    # Of each batch of 8 but the first, half to each of two workers.
    assert begun == [4, 4] * (len(curves[0]) - 1)


def test_class_weights_reach_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of a class that counts nothing changes nothing."""
    config, task = small_run(write_bars(tmp_path / "data"))
    network = RecurrentAttention(config.model)
    objective = dataclasses.replace(config.objective, baseline_weight=0.0)
    monkeypatch.setattr(FolderTask, "class_weights", torch.zeros(2))
    trainer = Trainer(network, task, config.training, objective, tmp_path / "run")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trainer.run()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_batch_of_floats_that_takes_much_memory_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where flags of one's own make floats of what would have stayed bytes."""
    found = survey(str(write_bars(tmp_path)))
    height, width = found.listing.sizes.max(0).tolist()
    monkeypatch.setattr(runs_on_folders, "MEMORY", 5 * 4 * 3 * height * width * 3)
    config = FolderConfig(data=str(tmp_path), workers=0)
    plain = FolderRun(task=config, model=TINY, training=TrainConfig(batch_size=8))
    plain.completed(found, lambda *_: None, CPU)  # says nothing, or this test fails
    turned = plain.altered(task={"augmentation": AugmentationConfig(rotation=5.0)})
    for run, fits in ((turned, 5), (dataclasses.replace(turned, network="conv"), 15)):
        run = run.altered(training={"batch_size": 3 * fits})
        with pytest.warns(UserWarning, match=rf"{3 * fits} images .*Pass --batch-size {fits} for"):
            run.completed(found, lambda *_: None, CPU)


def test_defaults_come_from_the_sizes_of_the_images(tmp_path: Path) -> None:
    found = survey(str(write_bars(tmp_path)))
    config, reasons = suggest(FolderConfig(data=str(tmp_path)), found, "fast")
    sizes = found.listing.sizes
    model = config.model
    assert model.glimpse_size <= np.median(sizes.min(1))
    widest = model.glimpse_size * 2 ** (model.num_scales - 1)
    assert widest >= 0.75 * np.median(sizes.max(1)) > widest / 2
    assert (model.num_channels, model.num_classes) == (3, 2)
    assert any(f"--glimpse-size {model.glimpse_size}" in reason.words for reason in reasons)


def suggested(place: Path, side: int, name: str) -> FolderRun:
    for label in "ab":
        (place / label).mkdir()
        for number in range(3):
            Image.new("L", (side, side)).save(place / label / f"{number}.png")
    return suggest(FolderConfig(data=str(place)), survey(str(place)), name)[0]


@pytest.mark.parametrize(("mode", "side"), [("RGB", 90), ("L", 90), ("RGB", 40)])
def test_on_photographs_the_map_begins_where_something_does_not_belong(
    mode: str, side: int, tmp_path: Path
) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(3):
            Image.new(mode, (side, side), number).save(tmp_path / label / f"{number}.png")
    Image.effect_noise((side, side), 50).convert(mode).save(tmp_path / "a" / "noise.png")
    if mode == "RGB":
        Image.new(mode, (side, side), (200, 0, 90)).save(tmp_path / "a" / "red.png")
    run, _ = suggest(FolderConfig(data=str(tmp_path)), survey(str(tmp_path)), "best")
    photographs = (mode, side) == ("RGB", 90)
    context, policy = run.model.context_settings, run.model.policy_settings
    assert isinstance(context, ConvContextSettings)
    assert isinstance(policy, MapSettings)
    assert (context.map_pasted > 0, context.map_strength > 0) == (photographs, mode == "L")
    looks = 8 if photographs else 4  # one sees 36 % of 40 x 40
    assert (policy.apart > 0, run.model.num_glimpses) == (photographs, looks)
    assert (run.task.augmentation.flips != "none") == photographs


def of_lists(place: Path, size: tuple[int, int], answers: int) -> FolderRun:
    """What is suggested for coloured images of such lists of labels."""
    lines = ["path,label"]
    for number in range(6):
        Image.effect_noise(size, 50).convert("RGB").save(place / f"{number}.png")
        lines.append(f"{number}.png,{' '.join('ab'[n % 2] for n in range(answers - number % 2))}")
    Image.new("RGB", size, (200, 0, 90)).save(place / "0.png")
    (place / "list.csv").write_text("\n".join(lines))
    data = FolderConfig(data=str(place / "list.csv"), separator=" ")
    return suggest(data, survey(data.data, separator=" "), "best")[0]


@pytest.mark.parametrize(("side", "thumbnail"), [(100, 25), (40, 10), (600, 120)])
def test_lists_begin_as_the_tasks_of_several_digits_and_keep_their_order(
    side: int, thumbnail: int, tmp_path: Path
) -> None:
    """A quarter of the pixels across, one look an answer, and nothing is mirrored or pasted."""
    run = of_lists(tmp_path, (side, side), 3)
    context, policy = run.model.context_settings, run.model.policy_settings
    usual = recipe("digits-5", "best")
    assert isinstance(context, ConvContextSettings)
    assert isinstance(policy, MapSettings)
    assert (context.thumbnail_size, context.map_only, context.map_pasted) == (thumbnail, 0.5, 0)
    assert run.model.glimpse_size == min(24, int(math.sqrt(side * side / 3)))
    apart = policy.apart if side == 40 else 2.0
    assert policy == dataclasses.replace(usual.model.policy_settings, apart=apart)
    assert run.objective == dataclasses.replace(
        usual.objective, look_reward="alone", cut_after_error=False
    )
    assert (run.model.num_glimpses, run.model.max_answers, run.model.with_end) == (1, 3, True)
    assert run.task.augmentation.flips == "none"


@pytest.mark.parametrize(
    ("size", "answers"), [((16, 1), 20), ((28, 28), 5), ((32, 32), 8), ((64, 64), 4)]
)
def test_looks_at_a_list_leave_cells_for_those_that_follow(
    size: tuple[int, int], answers: int, tmp_path: Path
) -> None:
    """Of the cells of a row, each look closes those nearer than `apart` on both of its sides."""
    run = of_lists(tmp_path, size, answers)
    model = run.model
    policy, context = model.policy_settings, model.context_settings
    logits = RecurrentAttention(model)(torch.rand(2, 3, size[1], size[0])).answer_logits
    assert logits.shape[:2] == (2, answers)
    if model.policy == "map":
        cells = context.thumbnail_size // context.map_stride
        assert 0 < 2 * policy.apart * answers < cells or policy.apart == 2.0


@pytest.mark.parametrize("side", [1, 4, 5, 6, 7, 8, 9, 12, 28])
def test_defaults_fit_into_images_of_a_few_pixels(side: int, tmp_path: Path) -> None:
    """The thumbnail too, where an image has room for a cell of its map."""
    model = suggested(tmp_path, side, "best").model
    assert model.glimpse_size <= side
    assert model.context == ("conv" if side >= 5 else "none")
    logits = RecurrentAttention(model)(torch.rand(2, 1, side, side)).logits
    assert logits.shape == (2, 2)
    if side >= 5:
        assert model.context_settings.thumbnail_size <= side


@pytest.mark.parametrize(
    ("side", "size", "looks"),
    [(8, 8, 2), (20, 20, 2), (28, 24, 2), (37, 24, 2), (38, 24, 4), (60, 24, 4)],
)
def test_a_look_at_a_small_image_sees_all_or_nearly(
    side: int, size: int, looks: int, tmp_path: Path
) -> None:
    """Two looks are enough where one sees two fifths of the image."""
    model = suggested(tmp_path, side, "best").model
    assert (model.glimpse_size, model.num_glimpses) == (size, looks)


@pytest.mark.parametrize(
    ("side", "size", "scales"), [(28, 8, 3), (60, 12, 3), (100, 12, 4), (512, 16, 6), (3000, 24, 8)]
)
def test_defaults_for_some_sizes(side: int, size: int, scales: int, tmp_path: Path) -> None:
    """28, 60 and 100 are the paper's: glimpses of 8, 12 and 12 pixels there too."""
    config = suggested(tmp_path, side, "fast")
    assert (config.model.glimpse_size, config.model.num_scales) == (size, scales)
    needed = config.training.batch_size * side**2 * scales * 4
    assert config.training.batch_size == 1 or needed <= 2**31


@pytest.mark.parametrize("count", [3, 4, 7, 10, 14, 30, 60])
def test_defaults_never_ask_for_more_images_than_there_are(count: int, tmp_path: Path) -> None:
    """Not even where some turn out to be damaged once they are decoded."""
    data = write_bars(tmp_path / "data", count)
    (data / "lying" / "notes.txt").write_text("text")
    config, reasons = suggest(FolderConfig(data=str(data)), survey(str(data)), "fast")
    assert reasons[0].words.endswith("; 1 file passed over (1 .txt)")
    assert 1 <= config.training.batch_size <= examined(data).size("train")
    if count < 7:
        return
    for name in range(count // 4):
        path = data / "lying" / f"{name:02}.png"
        path.write_bytes(path.read_bytes()[:-60])
    assert config.training.batch_size <= examined(data).size("train")


def test_other_images_judge_a_model_without_those_for_training(tmp_path: Path) -> None:
    """By their own splits, or by all where there are none."""

    def judged(place: str, split: str = "test") -> int:
        task = FolderTask.judge(str(tmp_path / place), ("lying", "standing"), 3)
        labels = [label for _, batch in task.fixed_batches(split) for label in batch]
        assert len(labels) == task.size(split)
        return len(labels)

    for place, count in (
        *(("all/training_set", 9), ("all/val", 3), ("all/test_set", 2)),
        *(("half/train", 9), ("half/dev", 3), ("only/train", 4), ("plain", 5)),
    ):
        write_bars(tmp_path / place, count)
    assert (judged("all"), judged("all", "validation"), judged("all", "train")) == (4, 6, 18)
    assert (judged("half"), judged("half", "validation")) == (0, 6), "called what it is"
    assert (judged("plain"), judged("plain", "validation")) == (10, 10)
    with pytest.raises(ValueError, match="only holds training images alone.* test or val"):
        judged("only")


def test_classes_are_those_of_the_model_in_any_unicode_form(tmp_path: Path) -> None:
    for name in ("caf\u00e9", "tea"):
        (tmp_path / name).mkdir()
        Image.new("L", (9, 9)).save(tmp_path / name / "1.png")
    task = FolderTask.judge(str(tmp_path), ("tea", "cafe\u0301"), 1)
    assert task.labels.tolist() == [1, 0]


# --- Files that are read where they are looked at -------------------------------------------


def write_large(root: Path, count: int = 8, side: int = 128) -> Path:
    """Two classes of tiled pyramids: a bright square on the left, or on the right."""
    random = np.random.default_rng(6)
    for place, label in ((16, "left"), (80, "right")):
        (root / label).mkdir(parents=True)
        for number in range(count):
            image = random.integers(0, 60, (side, side), dtype=np.uint8)
            image[side // 4 : side // 2, place : place + 32] = 250
            write_pyramid(root / label / f"{number}.tif", iter([image]), side, side)
    return root


@pytest.fixture
def large_above_64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every TIFF of more than 64 x 64 pixels counts as large."""
    monkeypatch.setattr(readers.is_large, "__kwdefaults__", {"large": 64 * 64})


def damage(path: Path) -> None:
    """Overwrite the tiles of the image itself; the directory and the smaller copies stay."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        spans = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    content = bytearray(path.read_bytes())
    for start, length in spans:
        content[start : start + length] = bytes(length)
    path.write_bytes(content)


WIDE = dataclasses.replace(TINY, num_scales=3, location_gradient=1.0)


def test_training_on_sources_has_the_losses_and_gradients_of_training_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_large(tmp_path)
    found = {}
    for large in (64 * 64, 10**9):
        monkeypatch.setattr(readers.is_large, "__kwdefaults__", {"large": large})
        task = examined(tmp_path)
        images, labels = task.batch("train", torch.tensor([0, 3, 5, 7]))
        assert isinstance(images, PhotographScene) == (large == 10**9)
        torch.manual_seed(0)
        model = Learner(RecurrentAttention(WIDE)).train()
        generator = torch.Generator().manual_seed(3)
        terms = hybrid_loss(model(images, labels, generator=generator), labels)
        terms.total.backward()
        gradients = {name: weight.grad for name, weight in model.named_parameters()}
        found[large] = torch.stack([terms.total, terms.supervised, terms.reward]), gradients
    (losses, gradients), (wanted, in_memory) = found.values()
    torch.testing.assert_close(losses, wanted, rtol=0, atol=1e-4)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, in_memory[name], rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("large_above_64")
def test_mean_and_deviation_of_large_files_are_estimated(tmp_path: Path) -> None:
    task = examined(write_large(tmp_path, side=512))
    paths = [tmp_path / e.path for e in task.listing.entries if e.split == "train"]
    pixels = np.stack([tifffile.imread(path) for path in paths]) / 255
    assert task.pixel_mean[0] == pytest.approx(pixels.mean(), rel=0.01)
    assert task.pixel_std[0] == pytest.approx(pixels.std(), rel=0.1)


@pytest.mark.usefixtures("large_above_64")
def test_a_large_files_thumbnail_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, read = examined(write_large(tmp_path)), []
    plain = readers.Source.read

    def counted(source: readers.Source, *place: int) -> np.ndarray:
        read.append((source.name, place))
        return plain(source, *place)

    monkeypatch.setattr(readers.Source, "read", counted)
    places = torch.arange(task.size("train"))
    first, again = (as_scene(task.batch("train", places)[0]).thumbnail(16) for _ in range(2))
    assert len(read) == len(places)
    assert torch.equal(first, again)


@pytest.mark.usefixtures("large_above_64")
def test_large_and_small_files_share_a_batch(tmp_path: Path) -> None:
    write_large(tmp_path, 4)
    small = np.arange(400, dtype=np.uint8).reshape(20, 20)
    Image.fromarray(small).save(tmp_path / "left" / "small.png")
    task = examined(tmp_path)
    split = next(e.split for e in task.listing.entries if e.path == "left/small.png")
    paths = [e.path for e in task.listing.entries if e.split == split]
    place = paths.index("left/small.png")
    images, _ = task.batch(split, torch.tensor([place, 1 if place == 0 else 0]))
    assert [(image.height, image.width) for image in images] == [(20, 20), (128, 128)]
    got = GlimpseSensor(8, 2)(images, torch.zeros(2, 2))
    wanted = GlimpseSensor(8, 2)(torch.from_numpy(small)[None, None] / 255, torch.zeros(1, 2))
    torch.testing.assert_close(got[:1], wanted, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("large_above_64")
def test_a_run_over_large_files_learns_and_goes_on_exactly(tmp_path: Path) -> None:
    task_config = FolderConfig(str(write_large(tmp_path / "data", 20)), workers=0)
    config = FolderRun(
        task=task_config,
        model=dataclasses.replace(WIDE, num_scales=4, pixel_mean=(0.2,), pixel_std=(0.2,)),
        training=TrainConfig(epochs=24, batch_size=14, lr=0.01, log_every=4, validate_every=24),
    )
    about = {"name": "folder", "recipe": "", "command": "", **dataclasses.asdict(config)}
    results = []
    for stops in (False, True):
        directory = tmp_path / f"run-{stops}"
        task = FolderTask.examine(task_config, survey(task_config.data))
        if stops:
            listener = StopAt(24, signal.SIGINT)
            with pytest.raises(TrainingStopped):
                train_run(config, about, directory, CPU, listener, task=task)
            train_run(config, about, directory, CPU)
        else:
            results.append(train_run(config, about, directory, CPU, task=task))
    assert results[0]["error"] < 20
    weights = [(tmp_path / f"run-{n}" / "model.safetensors").read_bytes() for n in (False, True)]
    assert weights[0] == weights[1]


@pytest.mark.usefixtures("large_above_64")
def test_a_damaged_large_file_does_not_count_and_stops_neither_training_nor_evaluation(
    tmp_path: Path,
) -> None:
    task = examined(write_large(tmp_path))
    heard: list[str] = []
    task.on_problem = heard.append
    entries = {split: [e for e in task.listing.entries if e.split == split] for split in SPLITS}
    for split in ("train", "test"):
        damage(tmp_path / entries[split][0].path)
    model = RecurrentAttention(WIDE).train()

    def gradient(chosen: list[int]) -> Tensor:
        model.zero_grad()
        images, labels = task.batch("train", torch.tensor(chosen))
        scene = as_scene(images)
        rollout = model(scene, generator=torch.Generator().manual_seed(0))
        first = ObjectiveConfig(reinforce_weight=0, baseline_weight=0)
        sound = torch.tensor(scene.intact).float()
        hybrid_loss(rollout, labels, first, sound).total.backward()
        weight = model.action_head.weight.grad
        assert weight is not None
        return weight.clone()

    assert not gradient([0]).any(), "nothing but the damaged file: nothing to learn"
    assert gradient([0, 1]).any()
    assert len(answers(model, task, "test")[0]) == len(entries["test"]) - 1
    wanted = [entries[split][0].path for split in ("train", "test")]
    assert len(heard) == 2, "each file is reported once"
    assert all(path in line for path, line in zip(wanted, heard, strict=True))
    task.config = dataclasses.replace(task.config, strict=True)
    with pytest.raises(ValueError, match=r"cannot be decoded.* \(--strict\)"):
        gradient([0, 1])


@pytest.mark.usefixtures("large_above_64")
def test_what_cannot_be_done_to_large_files_is_refused(tmp_path: Path) -> None:
    data = write_large(tmp_path)
    with pytest.raises(ValueError, match="never whole, and can be mirrored, but not turned"):
        examined(data, augmentation=AugmentationConfig(rotation=5))
    task = examined(data)
    network = make_reference_network("fc-64", task.image_size, 2, 1)
    with pytest.raises(ValueError, match="sees the whole image takes none of 128 x 128"):
        answers(network, task, "test")
    bag = FolderRun(network="bag", task=FolderConfig(data=str(data)))
    with pytest.raises(ValueError, match=r"bag network reads all of an image, and .*\.tif is read"):
        bag.completed(survey(str(data)), lambda *_: None, CPU)
    _, reasons = suggest(FolderConfig(data=str(data)), survey(str(data)), "fast")
    assert reasons[0].words.endswith("all read where the model looks, never whole, and not shifted")


@pytest.mark.usefixtures("large_above_64")
@pytest.mark.parametrize(
    ("flips", "wanted"),
    [("none", [()]), ("horizontal", [(), (2,)]), ("both", [(), (1,), (1, 2), (2,)])],
)
def test_large_files_are_mirrored_in_training(
    tmp_path: Path, flips: Any, wanted: list[tuple[int, ...]]
) -> None:
    """And nowhere else, and not shifted; a place in the file is read where it is mirrored to."""
    data, side = write_large(tmp_path, side=100), 40
    task = examined(data, augmentation=AugmentationConfig(flips=flips, shift=0.3))
    everything = torch.arange(task.size("train"))
    plain = as_scene(examined(data).batch("train", everything)[0])
    seen = set()
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        scene = as_scene(task.batch("train", everything, generator)[0])
        for row, thumbnail in enumerate(scene.thumbnail(side)):
            image = plain.image(row)
            axes = next(a for a in wanted if torch.equal(scene.image(row), image.flip(a)))
            seen.add(axes)
            # 34 boxes of 3 pixels, the last of one pixel.
            boxes = functional.avg_pool2d(functional.pad(image.flip(axes), (0, 2, 0, 2)), 3)
            torch.testing.assert_close(thumbnail[:, :34, :34], boxes, atol=1e-6, rtol=0)
    assert sorted(seen) == wanted
    validation = [as_scene(images).image(0) for images, _ in task.fixed_batches("validation")]
    whole = [as_scene(images).image(0) for images, _ in examined(data).fixed_batches("validation")]
    assert all(torch.equal(*pair) for pair in zip(validation, whole, strict=True))


def test_answers_begin_before_all_files_are_looked_at(tmp_path: Path) -> None:
    """Of files without end, here and with workers; large and damaged ones among them."""
    paths = sorted(write_bars(tmp_path).rglob("*.png"))[:3]
    (tmp_path / "text.png").write_text("text")
    np.save(tmp_path / "large.npy", np.zeros((9, 9), dtype=np.uint8))
    files = [*paths, tmp_path / "text.png", tmp_path / "large.npy"]
    for workers in (0, 2):
        decoder, endless = Decoder(3, workers), itertools.cycle(files)
        stream = with_sources(decoder.stream(endless), 3)
        kinds = [type(item) for item in itertools.islice(stream, 10)]
        assert kinds == [np.ndarray] * 3 + [ValueError, readers.ArraySource] + kinds[:5]
        decoder.close()
