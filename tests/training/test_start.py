from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from foveal.io.models import save_model
from foveal.model.attention import RecurrentAttention
from foveal.model.context import ConvContextSettings
from foveal.model.whole_image import make_reference_network
from foveal.training.start import begin_with
from tests.conftest import TINY


def test_a_model_of_more_scales_begins_with_what_the_saved_one_answers(tmp_path: Path) -> None:
    saved = RecurrentAttention(dataclasses.replace(TINY, num_scales=2, num_channels=3)).eval()
    saved.save_pretrained(tmp_path)
    model = RecurrentAttention(dataclasses.replace(saved.config, num_scales=5)).eval()
    begin_with(tmp_path, model)
    images, first = torch.rand(4, 3, 40, 50), torch.rand(4, 2) * 2 - 1
    got, wanted = (network(images, first_location=first) for network in (model, saved))
    torch.testing.assert_close(got.logits, wanted.logits)
    torch.testing.assert_close(got.locations, wanted.locations)


@pytest.mark.parametrize("change", [{"num_scales": 1}, {"glimpse_size": 8}, {"core_size": 17}])
def test_other_differences_are_refused(tmp_path: Path, change: dict[str, int]) -> None:
    config = dataclasses.replace(TINY, num_scales=2)
    RecurrentAttention(config).save_pretrained(tmp_path)
    [(name, ours)] = change.items()
    said = f"another configuration .*{name} {getattr(config, name)} there, {ours} here.*Pass the"
    with pytest.raises(ValueError, match=said):
        begin_with(tmp_path, RecurrentAttention(dataclasses.replace(config, **change)))


def test_another_kind_of_glimpse_network_of_the_same_size_is_refused(tmp_path: Path) -> None:
    RecurrentAttention(TINY).save_pretrained(tmp_path)
    other = RecurrentAttention(dataclasses.replace(TINY, glimpse_network="conv"))
    with pytest.raises(ValueError, match=r"glimpse_network mlp there, conv here"):
        begin_with(tmp_path, other)


def test_of_a_part_the_settings_that_differ_are_named(tmp_path: Path) -> None:
    settings = ConvContextSettings(thumbnail_size=9, map_features=6)
    config = dataclasses.replace(TINY, context="conv", policy="map", context_settings=settings)
    RecurrentAttention(config).save_pretrained(tmp_path)
    other = dataclasses.replace(settings, context_pool="none")
    model = RecurrentAttention(dataclasses.replace(config, context_settings=other))
    with pytest.raises(ValueError, match=r"\(context_pool max there, none here\)"):
        begin_with(tmp_path, model)


@pytest.mark.parametrize("had", [True, False])
def test_a_stop_is_begun_or_left_out(had: bool, tmp_path: Path) -> None:
    saved, model = (
        RecurrentAttention(dataclasses.replace(TINY, stop=stop)) for stop in (had, not had)
    )
    saved.save_pretrained(tmp_path)
    assert begin_with(tmp_path, model)
    assert torch.equal(model.action_head.weight, saved.action_head.weight)
    if saved.stop_head is not None:
        torch.nn.init.ones_(saved.stop_head.unit.weight)
        saved.save_pretrained(tmp_path)
        again = RecurrentAttention(saved.config)
        begin_with(tmp_path, again)
        assert again.stop_head is not None
        assert bool((again.stop_head.unit.weight == 1).all())


NAMES = ["bird", "cat"]


@pytest.mark.parametrize(
    ("count", "classes", "whole"),
    [(2, NAMES, True), (2, [], True), (2, ["cat", "dog"], False), (3, [*NAMES, "dog"], False)],
)
def test_the_answer_begins_anew_where_the_classes_are_others(
    tmp_path: Path, count: int, classes: list[str], whole: bool
) -> None:
    saved = RecurrentAttention(TINY)
    save_model(tmp_path, saved, {"model": dataclasses.asdict(TINY), "classes": NAMES})
    model = RecurrentAttention(dataclasses.replace(TINY, num_classes=count))
    before = model.action_head.weight.clone()
    assert begin_with(tmp_path, model, classes) is whole
    for name, value in saved.state_dict().items():
        if name != "action_head.bias":
            wanted = before if name == "action_head.weight" and not whole else value
            torch.testing.assert_close(model.state_dict()[name], wanted, msg=name)


@pytest.mark.parametrize("network", ["conv-86", "bag"])
@pytest.mark.parametrize("count", [2, 3])
def test_a_network_that_sees_the_whole_image_begins_its_answer_anew(
    tmp_path: Path, network: str, count: int
) -> None:
    three, two = (make_reference_network(network, (20, 20), number) for number in (3, count))
    save_model(tmp_path, three, {"network": network, "classes": ["a", "b", "c"]})
    before = {name: value.clone() for name, value in two.state_dict().items()}
    assert not begin_with(tmp_path, two, [*NAMES, "dog"][:count])
    new = [name for name, value in two.state_dict().items() if torch.equal(value, before[name])]
    assert {len(value) for value in map(before.get, new) if value is not None} == {count}
    assert len(new) == 2
