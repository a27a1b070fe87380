"""What an earlier version wrote: a finished run, and one in mid-training (tests/io/version_1)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from foveal import RecurrentAttention, cli

OLD = Path(__file__).with_name("version_1")


def test_a_model_has_the_error_that_was_recorded(capsys: pytest.CaptureFixture[str]) -> None:
    recorded = json.loads((OLD / "model" / "result.json").read_text())
    assert cli.main(["evaluate", str(OLD / "model"), "--threads", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["error"] == recorded["error"]


def test_it_is_saved_in_the_new_format_without_what_only_training_used(tmp_path: Path) -> None:
    model = RecurrentAttention.from_pretrained(OLD / "model")
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["version"] == 2
    assert config["objective"]["privileged_baseline"] is True
    assert "privileged_baseline" not in config["model"]
    assert not [name for name in model.state_dict() if "baseline" in name]
    assert RecurrentAttention.from_pretrained(tmp_path).config == model.config


def test_a_run_in_mid_training_goes_on_to_its_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(OLD / "run", tmp_path / "run")
    before = [json.loads(line) for line in (OLD / "run" / "metrics.jsonl").read_text().splitlines()]
    assert cli.main(["train", "--resume", str(tmp_path / "run"), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["steps"] > before[-1]["step"] > 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == before[0], "what was done is kept"
    found = RecurrentAttention.from_pretrained(tmp_path / "run")
    assert result["parameters"] == found.count_parameters()
