from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from conftest import TINY, StopAt
from foveal.engine import TrainingStopped
from foveal.evaluation import answers
from foveal.folder_recipe import suggest
from foveal.geometry import PaddedImages, pad_images
from foveal.model import RecurrentAttention
from foveal.objective import ObjectiveConfig
from foveal.recipes import FolderRun
from foveal.runs import train_run
from foveal.tasks.augmentation import AugmentationConfig, augment
from foveal.tasks.batches import grouped
from foveal.tasks.decoding import Decoder, PictureStore
from foveal.tasks.folder import FolderConfig, FolderTask, survey
from foveal.training import TrainConfig, Trainer

CPU = torch.device("cpu")


def write_bars(root: Path, count: int = 12, *, colour: bool = True) -> Path:
    """Two classes of images of different sizes: a bright bar lies, or stands."""
    random = np.random.default_rng(4)
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
    got = model.glimpse_network(glimpses.clone(), places)
    torch.testing.assert_close(got, plain.glimpse_network(by_hand, places))
    with pytest.raises(ValueError, match="pixel_mean must have a number for each of the 1"):
        dataclasses.replace(TINY, pixel_mean=mean)
    with pytest.raises(ValueError, match="pixel_std must be above 0"):
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
    with pytest.raises(ValueError, match="is not a PNG"):
        task.batch("test", torch.tensor([0]))


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


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"shift": 2.0}, "shift must be 0 to 1; got 2.0"),
        ({"rotation": -1.0}, "rotation must be 0 to 180"),
        ({"flips": "some"}, "flips must be one of none, horizontal, vertical, both; got 'some'"),
    ],
)
def test_impossible_augmentation_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AugmentationConfig(**values)  # type: ignore[arg-type]


# --- Training -------------------------------------------------------------------------------


def small_run(data: Path, **task: object) -> tuple[FolderRun, FolderTask]:
    config = FolderConfig(data=str(data), workers=0, **task)  # type: ignore[arg-type]
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


def test_class_weights_reach_the_loss(tmp_path: Path) -> None:
    """An image of a class that counts nothing changes nothing."""
    config, task = small_run(write_bars(tmp_path / "data"))
    network = RecurrentAttention(dataclasses.replace(config.model, privileged_baseline=False))
    objective = dataclasses.replace(config.objective, baseline_weight=0.0)
    trainer = Trainer(
        network,
        task,
        config.training,
        objective,
        tmp_path / "run",
        class_weights=torch.zeros(2),
    )
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trainer.run()
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


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


@pytest.mark.parametrize(
    ("side", "size", "scales"), [(28, 8, 3), (60, 12, 3), (100, 12, 4), (512, 16, 6), (3000, 24, 8)]
)
def test_defaults_for_some_sizes(side: int, size: int, scales: int, tmp_path: Path) -> None:
    """28, 60 and 100 are the paper's: glimpses of 8, 12 and 12 pixels there too."""
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(3):
            Image.new("L", (side, side)).save(tmp_path / label / f"{number}.png")
    config, _ = suggest(FolderConfig(data=str(tmp_path)), survey(str(tmp_path)), "fast")
    assert (config.model.glimpse_size, config.model.num_scales) == (size, scales)
    needed = config.training.batch_size * side**2 * scales * 4
    assert config.training.batch_size == 1 or needed <= 2**31
