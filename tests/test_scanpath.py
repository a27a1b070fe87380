from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from foveal.geometry import to_pixels
from foveal.layers import RAMConfig
from foveal.model import RecurrentAttention
from foveal.scanpath import SCALE_COLORS, draw, follow, save_picture

CLASSES = tuple("abcdefghij")


def make_model(channels: int = 1, scales: int = 2) -> RecurrentAttention:
    torch.manual_seed(3)
    config = RAMConfig(glimpse_size=6, num_scales=scales, num_glimpses=4, num_channels=channels)
    return RecurrentAttention(config)


def test_a_scanpath_is_what_the_mean_policy_does() -> None:
    model, image = make_model(), torch.rand(1, 30, 50)
    path = follow(model, image, classes=CLASSES, generator=torch.Generator().manual_seed(9))
    rollout = model.eval()(image[None], generator=torch.Generator().manual_seed(9))
    wanted = to_pixels(rollout.locations[0], 30, 50)
    assert path.centers.tolist() == wanted.tolist()
    beliefs = rollout.step_logits[0].softmax(-1).detach().numpy()
    np.testing.assert_allclose(path.probabilities, beliefs, rtol=1e-6)
    assert path.answer == rollout.logits[0].argmax()
    assert path.patch_sizes == (6, 12)


def test_the_glimpses_are_those_of_the_fixations() -> None:
    model, image = make_model(), torch.rand(1, 30, 50)
    path = follow(model, image, classes=CLASSES)
    for (x, y), glimpse in zip(path.centers, path.glimpses, strict=True):
        if 3 <= x <= 47 and 3 <= y <= 27:  # wholly inside
            wanted = image[0, y - 3 : y + 3, x - 3 : x + 3].numpy()
            np.testing.assert_allclose(glimpse[0], wanted, rtol=1e-6)


def test_following_leaves_the_mode_alone() -> None:
    model = make_model().train()
    follow(model, torch.rand(1, 20, 20), classes=CLASSES)
    assert model.training


@pytest.mark.parametrize(("channels", "scales", "looks"), [(1, 1, 1), (1, 4, 7), (3, 2, 3)])
def test_the_sheet_shows_every_look(channels: int, scales: int, looks: int, tmp_path: Path) -> None:
    model = make_model(channels, scales)
    path = follow(model, torch.rand(channels, 40, 60), classes=CLASSES, label=3, num_glimpses=looks)
    figure = draw(path)
    left, right = figure.subfigs
    numbers = [text.get_text() for text in left.axes[0].texts]
    assert numbers == [str(look + 1) for look in range(looks)]
    assert len(right.axes) == looks * (scales + 1)
    squares = left.axes[0].patches
    assert len(squares) == looks + scales - 1
    widths = {round(square.get_width()) for square in squares}
    assert widths == set(path.patch_sizes)
    assert "it is d" in figure.get_suptitle()
    save_picture(figure, tmp_path / "new" / "look.png")
    with Image.open(tmp_path / "new" / "look.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    color = [int(SCALE_COLORS[0][i : i + 2], 16) for i in (1, 3, 5)]
    assert (pixels == color).all(-1).sum() > 50, "the squares can be seen"


def test_a_picture_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    figure = draw(follow(make_model(), torch.rand(1, 20, 20), classes=CLASSES))
    with pytest.raises(OSError, match="could not be written"):
        save_picture(figure, tmp_path / "file" / "look.png")


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image must be \(C, H, W\); got \(20, 20\)"):
        follow(make_model(), torch.rand(20, 20), classes=CLASSES)
