from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from foveal import geometry
from foveal.model.attention import RecurrentAttention
from foveal.model.config import RAMConfig
from foveal.model.context import ConvContext, ConvContextSettings
from foveal.training.critic import Learner
from foveal.training.objective import hybrid_loss
from foveal.training.pasting import PIECES, paste, pasted_loss

SIDE = 48
SETTINGS = ConvContextSettings(
    thumbnail_size=SIDE, map_stride=2, map_features=16, thumbnail_gain=1.0, map_pasted=1.0
)
MODEL = RAMConfig(num_channels=3, policy="map", context="conv", context_settings=SETTINGS)


def scenery(count: int, seed: int) -> Tensor:
    """``(count, 3, SIDE, SIDE)``: smooth colours with streaks, none of which is a thing."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((count, 3, 5, 5), generator=generator)
    streaks = torch.rand((count, 1, SIDE, 3), generator=generator)
    size = (SIDE, SIDE)
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=True)
    return smooth + 0.1 * torch.nn.functional.interpolate(streaks, size, mode="bilinear")


def thumbnails(pixels: Tensor, height: int = SIDE, width: int = SIDE) -> Tensor:
    places = geometry.thumbnail_places(height, width, SIDE).expand(len(pixels), -1, -1, -1)
    return torch.cat([pixels * (places < 1).all(1, keepdim=True), places], dim=1)


def test_pieces_change_little_of_an_image_and_nothing_beside_it() -> None:
    """The image has 30 x 40 of 48 x 48 pixels."""
    whole = thumbnails(scenery(20, 0), 30, 40)
    pasted, marked = paste(whole, torch.Generator().manual_seed(1))
    again, _ = paste(whole, torch.Generator().manual_seed(1))
    other, _ = paste(whole, torch.Generator().manual_seed(2))
    assert torch.equal(pasted, again)
    assert not torch.equal(pasted, other)
    changed = (pasted != whole).any(1)
    assert not changed[:, 30:].any()
    assert not changed[:, :, 40:].any()
    assert 0.02 < changed[:, :30, :40].float().mean() < PIECES * (SIDE / 10) ** 2 * 2 / (30 * 40)
    assert torch.equal(pasted[:, 3:], whole[:, 3:])
    assert float(pasted[:, :3].min()) >= float(whole[:, :3].min()) - 1e-6
    assert float(pasted[:, :3].max()) <= float(whole[:, :3].max()) + 1e-6
    assert ((marked == 0) | changed).float().mean() > 0.999
    assert 1 <= marked.sum((1, 2)).float().mean() < 0.5 * changed.sum((1, 2)).float().mean()


def test_the_cost_is_that_of_where_the_pieces_are() -> None:
    """Against NumPy, cell by cell."""
    whole, found = thumbnails(scenery(5, 3)), torch.randn(5, 24, 24)
    got = pasted_loss(lambda _: found, whole, torch.Generator().manual_seed(4))
    _, marked = paste(whole, torch.Generator().manual_seed(4))
    costs = []
    for image, marks in zip(found.double().numpy(), marked.numpy(), strict=True):
        there = marks.reshape(24, 2, 24, 2).max((1, 3)) > 0
        costs.append((np.log(np.exp(image).sum()) - image)[there].mean())
    assert float(got) == pytest.approx(np.mean(costs), abs=1e-5)


def test_a_context_that_learns_to_find_pieces_finds_other_things() -> None:
    """Discs, which it never saw, on scenery that it never saw; a cell in 144 is on the disc."""
    torch.manual_seed(0)
    context = ConvContext(5, (8,), SETTINGS)
    optimizer = torch.optim.Adam(context.parameters(), 3e-3)
    train, generator = thumbnails(scenery(200, 5)), torch.Generator().manual_seed(6)
    for step in range(150):
        chosen = train[torch.arange(16) + step * 16 % 184]
        cost = pasted_loss(context.find_pasted, chosen, generator)
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
    new, hits = scenery(100, 7), 0
    middles = torch.randint(4, SIDE - 4, (100, 2), generator=generator)
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    for image, (y, x) in zip(new, middles, strict=True):
        disc = (rows - y) ** 2 + (columns - x) ** 2 <= 3**2
        image[:, disc] = 1 - image[:, y, x, None]
    with torch.inference_mode():
        cells = context.find_pasted(thumbnails(new)).flatten(1).argmax(1)
    found = torch.stack([cells // 24, cells % 24], dim=1) * 2 + 1
    hits = ((found - middles).abs() <= 4).all(1).sum()
    assert hits > 60


def test_the_map_begins_where_pieces_would_be_found_and_is_not_asked_to_find_them() -> None:
    """What is found adds to the cells' weights; of the gaze no gradient reaches it."""
    model = RecurrentAttention(MODEL).train()
    context = model.context
    assert isinstance(context, ConvContext)
    assert context.finder is not None
    learner, images = Learner(model), torch.rand(3, 3, 60, 60)
    rollout = learner(images, generator=torch.Generator().manual_seed(0))
    rollout.log_probs.sum().backward(retain_graph=True)
    assert context.finder.weight.grad is None
    assert context.pasted is not None
    assert context.pasted.grad is not None
    with torch.no_grad():
        thumbnail = model.thumbnail(images)
        assert thumbnail is not None
        feature_map = context(thumbnail).feature_map
        assert feature_map is not None
        torch.testing.assert_close(feature_map[:, -1], context.find_pasted(thumbnail))
    labels = torch.tensor([0, 1, 2])
    without = hybrid_loss(rollout._replace(pasted_loss=None), labels).total
    assert rollout.pasted_loss is not None
    torch.testing.assert_close(hybrid_loss(rollout, labels).total, without + rollout.pasted_loss)
    rollout.pasted_loss.backward()
    assert context.finder.weight.grad is not None
    learner.eval()
    assert learner(images).pasted_loss is None
