from __future__ import annotations

import dataclasses
import errno
import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from foveal.io.files import (
    changed,
    config_from_dict,
    fingerprint,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from foveal.io.models import WEIGHTS_FILE, loaded, read_config, save_model
from foveal.model.attention import RecurrentAttention
from foveal.model.context import ConvContextSettings
from foveal.runs.agent_recipes import agent_recipe
from foveal.runs.paper.rows import ROWS
from foveal.runs.saved import load
from foveal.training.older import earlier_identities
from tests.conftest import TINY


@dataclass(frozen=True)
class Inner:
    size: tuple[int, int] = (1, 2)

    def __post_init__(self) -> None:
        if self.size[0] < 1:
            raise ValueError("size must be at least 1")


@dataclass(frozen=True)
class Outer:
    inner: Inner
    rate: float = 0.1


def test_a_file_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "file.json"
    write_json(path, {"a": 1})
    assert read_json(path) == {"a": 1}

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"could not be written \(No space left on device"):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    assert [left.name for left in path.parent.iterdir()] == ["file.json"]


def test_tensors_come_back_with_what_was_said_of_them(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    tensors = {"a": torch.rand(2, 3), "b": torch.arange(4).reshape(2, 2).t()}
    write_tensors(path, tensors, {"step": 3})
    again, about = read_tensors(path)
    assert about == {"step": 3}
    for name, value in tensors.items():
        assert torch.equal(again[name], value)


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "hacked"),))

    path = tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="not a safetensors file"):
        read_tensors(path)
    assert not (tmp_path / "hacked").exists()


def test_configurations_come_back() -> None:
    values = {"inner": {"size": [3, 4]}, "rate": 0.5}
    assert config_from_dict(Outer, values, "x") == Outer(Inner((3, 4)), 0.5)


def test_a_retired_field_is_left_out_if_it_says_what_still_holds() -> None:
    values = {"inner": {"size": [3, 4], "schedule": "linear"}, "rate": 0.5, "schedule": "linear"}
    assert config_from_dict(Outer, values, "x") == Outer(Inner((3, 4)), 0.5)
    assert values["schedule"] == "linear", "what is read is not changed"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"inner": {}, "schedule": "cosine"}, "here: schedule is 'cosine', but only 'linear' is"),
        ({"inner": {}, "speed": 3}, "here: Outer has no speed; it was written by another version"),
        ({"inner": 3}, "here: Inner must be an object; got 3"),
        ({"inner": {"size": [0, 1]}}, "here: size must be at least 1"),
        ({}, "here: .*missing 1 required"),
    ],
)
def test_odd_configurations_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config_from_dict(Outer, values, "here")


def test_fingerprints_tell_configurations_apart() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_a_newer_version_and_other_json_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"format": "foveal", "version": 99})
    with pytest.raises(ValueError, match="has version 99; this foveal reads up to 2"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="must be a JSON object; got a list"):
        read_config(tmp_path)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path, torch.nn.Linear(3, 4), {})
    with pytest.raises(ValueError, match=r"bias must be \(3,\); got \(4,\)"):
        loaded(lambda: torch.nn.Linear(4, 3), tmp_path / WEIGHTS_FILE)


def test_sizes_that_the_weights_do_not_have_take_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RecurrentAttention(TINY).save_pretrained(tmp_path)
    content = read_json(tmp_path / "config.json")
    content["model"] |= {"core_size": 4096, "glimpse_features": 2048}
    write_json(tmp_path / "config.json", content)
    written: list[int] = []
    for name in ("kaiming_uniform_", "uniform_", "eye_", "zeros_"):
        fill = getattr(torch.nn.init, name)

        def recorded(tensor: torch.Tensor, *args: float, fill=fill, **named: float) -> object:
            written.append(tensor.numel())
            return fill(tensor, *args, **named)

        monkeypatch.setattr(torch.nn.init, name, recorded)
    for load_it in (RecurrentAttention.from_pretrained, lambda path: load(path).model):
        with pytest.raises(ValueError, match="belongs to another configuration: it holds"):
            load_it(tmp_path)
    assert max(written) < 4096


def test_a_checkpoint_is_known_by_what_differs_from_the_defaults() -> None:
    """So that a field that is added later, at a default that changes nothing, orphans no run."""

    @dataclass(frozen=True)
    class Old:
        lr: float = 0.1
        seed: int = 0

    @dataclass(frozen=True)
    class New:
        lr: float = 0.1
        momentum: float = 0.9
        seed: int = 0

    assert changed(Old(seed=3)) == changed(New(seed=3)) == {"seed": 3}
    assert changed(New(momentum=0.5)) == {"momentum": 0.5}
    assert changed(Old(seed=3)) != changed(Old())

    @dataclass(frozen=True)
    class OfOld:
        part_settings: Old = field(default_factory=Old)

    @dataclass(frozen=True)
    class OfNew:
        part_settings: New = field(default_factory=New)

    assert changed(OfOld(Old(seed=3))) == changed(OfNew(New(seed=3)))
    assert changed(OfOld(Old(seed=3))) != changed(OfOld(Old(seed=4)))


def test_checkpoints_that_knew_part_settings_whole_go_on() -> None:
    """The identities are of checkpoints from before settings had `map_pasted`, and since."""
    run = ROWS["cluttered-100-best"].config
    training = dataclasses.replace(run.training, seed=2)
    model = ["RecurrentAttention", changed(run.model)]
    now = {"training": changed(training), "objective": changed(run.objective), "model": model}
    earlier = earlier_identities(now, RecurrentAttention(run.model))
    assert {"0c3b182828637bb8", "0a2193a8436eb512"} < set(map(fingerprint, earlier))


def test_those_of_agents_too() -> None:
    context = ConvContextSettings(thumbnail_size=17)
    run = agent_recipe("catch", "fast").altered(
        model={"policy": "map", "context": "conv", "context_settings": context}
    )
    parts = {"training": run.training, "env": run.env, "objective": run.objective}
    now = {name: changed(part) for name, part in parts.items()} | {"model": changed(run.model)}
    earlier = earlier_identities(now, RecurrentAttention(run.model))
    assert "2e58c14138ad3bca" in map(fingerprint, earlier)
