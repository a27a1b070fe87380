"""Every example runs, at a tiny size, and says what its docstring promises."""

from __future__ import annotations

import ast
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from nbclient import NotebookClient
from PIL import Image
from safetensors.torch import load_file

from foveal.envs import EnvConfig, Games
from tests.processes import output

EXAMPLES = Path(__file__).parent.parent / "examples"
TINY = {
    "train": ("--quick --out run", r"step \d+: .* % wrong\n(.*\n)*test error .*\n.* 2,304 pixels"),
    "look": ("--out look.png --index 3", r"(look \d at \(\d+, \d+\): \d with .*%\n){8}look.png: "),
    "big_image": ("--side 2048", r"256 x 256: answer \d, .*\n2,048 x 2,048: answer \d, .* read"),
    "control": ("--quick --out run", r"update \d.*\n(.*\n)*this agent .* 50 balls\nthe pretrained"),
    "encoder": ("--digits uci --steps 5", r"encoder.pt knows \d+.\d % of single digits"),
    "ppo": ("--decisions 800 --num-envs 16", r"736 decisions: .* caught\nit catches .* % of 16 b"),
    "stable_baselines": ("--decisions 1000 --num-envs 16", r"catches .* % of 1,008 fresh balls"),
}
NEEDS = {"stable_baselines": "stable_baselines3"}  # extras
# Lines; trainers are whole.
LONGER = {"train": 64, "dram": 100, "encoder": 80, "ppo": 125, "stable_baselines": 125}


@pytest.mark.parametrize("name", TINY)
def test_an_example_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags, words = TINY[name]
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason="an extra: pip install 'foveal[sb3]'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *flags.split()])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert re.search(words, capsys.readouterr().out)
    if name == "look":
        with Image.open("look.png") as picture:
            assert min(picture.size) > 200


def test_an_example_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As its docstring says: run once more, what has ended is not trained again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["train.py", *TINY["train"][0].split()])
    said = []
    for _ in range(2):
        runpy.run_path(str(EXAMPLES / "train.py"), run_name="__main__")
        said.append(capsys.readouterr().out)
    assert "% wrong" in said[0]
    assert said[1] == said[0][said[0].index("test error") :]


def test_every_command_looks_through_an_encoder_of_ones_own(tmp_path: Path) -> None:
    """As its docstring says, but for the sizes; that it is frozen is seen in what is saved."""
    shutil.copy(EXAMPLES / "encoder.py", tmp_path)

    def foveal(line: str, code: int = 0) -> str:
        return output(f"--import encoder {line}", tmp_path, code)

    words = [sys.executable, "encoder.py", "--digits", "uci", "--steps", "5"]
    assert subprocess.run(words, cwd=tmp_path, check=False).returncode == 0
    parts = "--policy center --glimpse-network encoder --glimpse-size 28 --num-scales 1 --frozen"
    sizes = "--scale-gain 1 --core-size 16 --num-glimpses 2 --epochs 1 --out r"
    assert "test error" in foveal(f"train cluttered-60 --digits uci {parts} {sizes}")
    kept = load_file(tmp_path / "r" / "model.safetensors")
    for name, value in torch.load(tmp_path / "encoder.pt", weights_only=True).items():
        assert torch.equal(kept[f"glimpse_network.encoder.{name}"], value)
    (tmp_path / "encoder.pt").unlink()
    said = foveal("evaluate r", code=2)
    assert said.count("\n") == 1, said
    assert "encoder.pt is missing" in said


def test_an_environment_of_ones_own_is_found_beside_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As docs/catch.md says, but for the sizes; each time in a process of its own."""
    shutil.copy(EXAMPLES / "find.py", tmp_path)

    small = "--core-size 16 --glimpse-hidden 8 --location-hidden 8 --num-envs 8 --threads 1"
    short = "--decisions 512 --rollout-length 16 --test-episodes 8 --validation-episodes 8"
    output(
        f"train control --env find:Find-v0 --env-options noise=5 {small} {short} --out run",
        tmp_path,
    )
    assert "3 games of find:Find-v0" in output("play run --gif find.gif", tmp_path)
    with Image.open(tmp_path / "find.gif") as film:
        assert 3 <= film.n_frames <= 36
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("1 / 0")
    with pytest.raises(ValueError, match=r"broken could not be imported. ZeroDivisionError"):
        Games(EnvConfig("broken:Any-v0"), 1)


def test_find_rewards_the_name_of_the_mark() -> None:
    find = runpy.run_path(str(EXAMPLES / "find.py"))
    game = find["Find"](noise=1)
    for seed in range(8):
        screen, _ = game.reset(seed=seed)
        ring = int((screen > 0).sum() == 16)  # a cross has 9
        assert game.step(0)[1:4] == (0, False, False)
        assert game.step(1 + ring)[1:3] == (1, True)
        game.reset(seed=seed)
        assert game.step(2 - ring)[1:3] == (-1, True)
        game.reset()
        assert [game.step(0)[3] for _ in range(12)] == [False] * 11 + [True]


def test_every_example_is_short_and_says_what_it_is() -> None:
    scripts = {script.stem: script.read_text() for script in EXAMPLES.glob("*.py")}
    assert scripts.keys() >= set(TINY)
    for name, text in scripts.items():
        assert len(text.splitlines()) <= LONGER.get(name, 60), name
        said = ast.get_docstring(ast.parse(text)) or ""
        assert "One sees" in said if name in TINY else said, name


def test_the_notebook_tells_its_story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOVEAL_STORY_IMAGES", "20")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook = nbformat.read(EXAMPLES / "story.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept in git"
    place = {"metadata": {"path": tmp_path}}
    NotebookClient(notebook, timeout=300, startup_timeout=300, resources=place).execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 4
