from __future__ import annotations

import dataclasses
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import HfApi, ModelCard, errors

from foveal import RecurrentAttention, cli
from foveal.io import hub
from foveal.io.card import model_card
from foveal.io.files import read_json, write_json
from foveal.io.models import read_config
from tests.conftest import TINY


class FakeHub:
    """A hub of directories: what is uploaded can be downloaded, and the rest is not there."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.asked: list[dict[str, Any]] = []
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self.download)
        monkeypatch.setattr(HfApi, "create_repo", self.create)
        monkeypatch.setattr(HfApi, "upload_folder", self.upload)

    def create(self, repo_id: str, **_options: Any) -> Any:
        return huggingface_hub.RepoUrl(f"https://huggingface.co/{repo_id}")

    def upload(self, repo_id: str, folder_path: Path, revision: str | None, **_rest: Any) -> str:
        shutil.copytree(folder_path, self.directory / (revision or "main") / repo_id)
        return f"https://huggingface.co/{repo_id}/commit/1"

    def download(self, repo_id: str, **options: Any) -> str:
        self.asked.append(options)
        return str(self.directory / (options["revision"] or "main") / repo_id)


@pytest.fixture
def fake_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    return FakeHub(tmp_path / "hub", monkeypatch)


def test_a_pushed_model_comes_back(fake_hub: FakeHub) -> None:
    model = RecurrentAttention(TINY).eval()
    assert "someone/tiny" in model.push_to_hub("someone/tiny", branch="first")
    again = RecurrentAttention.from_pretrained("someone/tiny", revision="first")
    images, first = torch.rand(2, 1, 20, 30), torch.zeros(2, 2)
    assert torch.equal(
        model(images, first_location=first).logits, again(images, first_location=first).logits
    )
    assert again.config == TINY
    card = ModelCard.load(fake_hub.directory / "first" / "someone" / "tiny" / "README.md")
    assert card.data.library_name == "foveal"
    assert card.data.pipeline_tag == "image-classification"
    assert "| retina | 4 x 4, 1 scale(s), 1 channel(s) |" in card.text


def test_nothing_of_this_machine_is_uploaded(fake_hub: FakeHub, tmp_path: Path) -> None:
    """But the last name of each place; what was saved beside it keeps all."""
    secret = "/home/mara/Kunden|Meier"
    run = tmp_path / "run"
    RecurrentAttention(dataclasses.replace(TINY, num_classes=4)).save_pretrained(run)
    command = f"foveal train folder --data '{secret}/photos a' --out=../x/runs --start someone/name"
    write_json(
        run / "config.json",
        read_config(run)
        | {"name": "own", "command": command, "task": {"data": f"{secret}/photos a/", "n": 1}}
        | {"env": {"env": "ALE/Breakout-v5", "env_options": [f"rom={secret}/rom"]}}
        | {"start": r"C:\Kunden\Meier\model", "more": [f"{secret}/c", "~mara/d", "//Meier/e"]}
        | {"classes": ["/", "a/b/c", "~", "../x"]},
    )
    write_json(run / "result.json", {"command": f"{command} --storage sqlite:///{secret}/study.db"})
    (run / "README.md").unlink()
    model = RecurrentAttention.from_pretrained(run)
    model.push_to_hub("someone/own")
    there = fake_hub.directory / "main" / "someone" / "own"
    for file in there.iterdir():
        assert not re.search(rb"mara|Kunden|Meier|\.\./x/", file.read_bytes()), file
    content = read_config(there)
    said = "foveal train folder --data 'photos a' --out=runs --start someone/name"
    assert content["command"] == said
    assert content["task"] == {"data": "photos a", "n": 1}
    assert content["env"] == {"env": "ALE/Breakout-v5", "env_options": ["rom=rom"]}
    assert (content["start"], content["more"]) == ("model", ["c", "d", "e"])
    assert content["classes"] == ["/", "a/b/c", "~", "../x"]
    assert read_json(there / "result.json")["command"] == f"{said} --storage study.db"
    assert f"| made by | {said} --storage study.db |" in (there / "README.md").read_text()
    model.save_pretrained(tmp_path / "copy")
    assert read_config(tmp_path / "copy")["task"]["data"] == f"{secret}/photos a/"


def test_only_files_that_run_nothing_are_asked_for(fake_hub: FakeHub, tmp_path: Path) -> None:
    """Weights in a pickle, beside a config that is right, are not read."""
    there = fake_hub.directory / "main" / "someone" / "evil"
    RecurrentAttention(TINY).save_pretrained(there)
    (there / "model.safetensors").rename(there / "pytorch_model.bin")

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.mkdir, (tmp_path / "hacked",))  # type: ignore[return-value]

    (there / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(FileNotFoundError, match="model.safetensors is missing"):
        RecurrentAttention.from_pretrained("someone/evil")
    assert not (tmp_path / "hacked").exists()
    endings = {Path(name).suffix for name in fake_hub.asked[0]["allow_patterns"]}
    assert endings == {".json", ".safetensors", ".md"}


def test_what_is_known_of_weights_goes_along_with_them(tmp_path: Path) -> None:
    model = RecurrentAttention.from_pretrained("cluttered-60")
    model.save_pretrained(tmp_path / "same")
    card = ModelCard.load(tmp_path / "same" / "README.md")
    assert "| test error | 2.54 %" in card.text
    result = read_json(tmp_path / "same" / "result.json")
    assert result["error"] == 2.54
    content = read_config(tmp_path / "same")
    assert content["task"]["num_clutter"] == 4
    assert content["training"]["epochs"] == 400


def test_what_was_measured_of_other_weights_stays_behind(tmp_path: Path) -> None:
    model = RecurrentAttention.from_pretrained("cluttered-60")
    model.save_pretrained(tmp_path / "model")
    with torch.no_grad():
        model.action_head.bias += 0.1
    model.save_pretrained(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "error" not in card
    assert not (tmp_path / "model" / "result.json").exists()
    content = read_config(tmp_path / "model")
    assert content["classes"] == list("0123456789")
    assert content.keys() == {"format", "version", "classes", "image_size", "ground", "model"}


def test_an_agent_says_that_it_is_one(tmp_path: Path) -> None:
    RecurrentAttention.from_pretrained("catch").save_pretrained(tmp_path)
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.pipeline_tag == "reinforcement-learning"
    assert "99.72 %" in card.text


def test_a_card_takes_more_rows_and_names_that_would_end_a_cell() -> None:
    content = {"model": dataclasses.asdict(TINY), "classes": ["a|b", "c"]}
    result = {"error": 2.5, "interval": [2.0, 3.0]}
    more = {"test error": "2.50 %; the paper 3 %", "seed": "1"}
    card = model_card(content, result, 7, more=more, name="tiny", note="\nThe end.\n")
    assert "| classes | a&#124;b, c |\n| test error | 2.50 %; the paper 3 % |\n" in card
    assert "| parameters | 7 |\n| seed | 1 |\n" in card
    assert 'from_pretrained("tiny")' in card
    assert card.endswith("```\n\nThe end.\n")


def test_a_readme_of_ones_own_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# My thesis")
    RecurrentAttention(TINY).save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "# My thesis"


@pytest.fixture
def no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("no_network")
def test_without_a_network_one_line_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    words = "no directory 'someone/name', .* cannot be reached .*Check the network, or pass a dir"
    with pytest.raises(OSError, match=words):
        RecurrentAttention.from_pretrained("someone/name")
    assert cli.main(["evaluate", "someone/name"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("foveal evaluate: there is no directory 'someone/name'")
    assert err.count("\n") == 1
    with pytest.raises(OSError, match="'someone/name' was not uploaded: .* cannot be reached"):
        RecurrentAttention(TINY).push_to_hub("someone/name")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.RepositoryNotFoundError, "is not there, or private. Check the name"),
        (errors.GatedRepoError, "asks for consent first"),
        (errors.RevisionNotFoundError, "at revision 'v9' .* Check the branch, tag or commit"),
    ],
)
def test_what_the_hub_refuses_is_explained(
    error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise error.__new__(error)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(OSError, match=words):
        hub.fetch("someone/name", "v9")


def test_a_path_is_not_taken_for_a_name_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_hub: FakeHub
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    for path in ("runs/mnist", "./someone/name", "/someone/name", "a/b/c", "../name"):
        with pytest.raises(FileNotFoundError, match="there is no directory"):
            RecurrentAttention.from_pretrained(path)
    with pytest.raises(ValueError, match="revision is for models on the Hub"):
        RecurrentAttention.from_pretrained("mnist-28", revision="v1")
    assert not fake_hub.asked


def test_importing_foveal_imports_no_hub_and_no_exporter() -> None:
    heavy = {"huggingface_hub", "onnx", "onnxruntime", "onnxscript"}
    code = "import sys, foveal; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "foveal" in done.stdout.split()
    assert not heavy & set(done.stdout.split())
