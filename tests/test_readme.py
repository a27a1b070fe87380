"""What the README shows is run: its Python as it stands, its commands by name and flags."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from foveal import cli
from foveal.commands import train, train_folder
from test_folder import write_bars

README = (Path(__file__).parent.parent / "README.md").read_text()
COMMANDS = re.findall(r"^    foveal ([\w-]+)([^\n]*?)(?:  |$)", README, re.MULTILINE)


def test_its_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) >= 2
    exec("\n".join(blocks), {})
    assert "torch.Size([2, 10])" in capsys.readouterr().out


def test_its_commands_exist() -> None:
    assert {name for name, _ in COMMANDS} >= {"train", "evaluate", "look", "bench"}
    for name, _ in COMMANDS:
        assert name in cli.COMMANDS


def test_its_training_commands_are_understood(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    write_bars(tmp_path / "photos")
    started = []
    monkeypatch.setattr(train, "_start", started.append)
    monkeypatch.setattr(train_folder, "start", lambda options, _: started.append(options))
    for name, flags in COMMANDS:
        if name == "train" and "--resume" not in flags:
            train.run(flags.split())
    assert started
    assert started[0].config.model.num_glimpses == 7


def test_the_files_it_links_to_are_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (Path(__file__).parent.parent / target).exists(), target
