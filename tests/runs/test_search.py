from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from foveal import cli
from foveal.runs import search
from foveal.runs.agent_recipes import agent_recipe
from foveal.runs.recipes import recipe
from foveal.runs.search import (
    Dimension,
    configured,
    file_storage,
    open_study,
    read_space,
    without_password,
)
from foveal.training.journal import read_metrics
from tests.processes import Command
from tests.tasks.folder.test_folder import write_bars

SMALL = (
    "search mnist-28 --digits uci --num-glimpses 2 --glimpse-hidden 8 --location-hidden 8 "
    "--glimpse-features 16 --core-size 16 --batch-size 200 --epochs 4 --threads 1"
)


def soon_given_up(words: list[str]) -> int:
    """A process that is believed dead after three seconds without a sign of life."""
    search.SEEN_ALIVE, search.GIVEN_UP = 1, 3
    return cli.main(words)


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def start(line: str) -> Command:
    return Command(line, main=soon_given_up)


def answer_of(capsys: pytest.CaptureFixture[str], line: str) -> dict[str, object]:
    assert cli.main(shlex.split(line)) == 0
    return json.loads(capsys.readouterr().out)


def test_a_space_is_read_by_the_kinds_of_the_fields() -> None:
    config = recipe("mnist-28", "fast")
    words = ("lr=1e-4:1e-2:log", "batch-size=16:256", "core=rnn,lstm", "detach_policy=true,false")
    assert read_space(words, config) == (
        Dimension("lr", 1e-4, 1e-2, log=True),
        Dimension("batch_size", 16, 256),
        Dimension("core", choices=("rnn", "lstm")),
        Dimension("detach_policy", choices=(True, False)),
    )
    agent = agent_recipe("catch", "fast")
    assert read_space(("clip=0.1:0.3",), agent)[0].name == "clip"
    assert (config.compared, config.lower_is_better) == ("validation_error", True)
    assert (agent.compared, agent.lower_is_better) == ("validation_return", False)


def test_a_study_lies_where_its_directory_does(tmp_path: Path) -> None:
    config = recipe("mnist-28", "fast")
    for name in ("a?b", "a?c", "{x}", "%41", "a#b", "a b&c=d"):
        (tmp_path / name).mkdir()
        storage = file_storage(Path(name) / "study.db")
        open_study(storage, name, config, read_space(["lr=0.1:1"], config), "random", 0)
        assert [path.name for path in (tmp_path / name).iterdir()] == ["study.db"]
        assert optuna.get_all_study_names(storage) == [name]
    assert len(list(tmp_path.iterdir())) == 6


def test_values_find_their_place_in_the_configuration() -> None:
    config = recipe("cluttered-60", "fast")
    changed = configured(config, {"lr": 0.5, "core": "rnn", "num_clutter": 2, "reward": "correct"})
    assert changed.training.lr == 0.5
    assert changed.model.core == "rnn"
    assert changed.task.num_clutter == 2  # type: ignore[union-attr]
    assert changed.objective.reward == "correct"  # type: ignore[union-attr]
    assert configured(changed, {}) == changed
    best = recipe("cluttered-60", "best")
    inner = configured(best, {"thumbnail_size": 12, "map_features": 7, "moves": 0.5})
    assert inner.model.context_settings.thumbnail_size == 12
    assert inner.model.context_settings.map_features == 7
    assert inner.model.policy_settings.moves == 0.5
    assert read_space(["thumbnail_size=12:20"], best)[0].high == 20
    with pytest.raises(ValueError, match="no hyper-parameter 'thumbnail_size'"):
        read_space(["thumbnail_size=12:20"], config)
    with pytest.raises(ValueError, match="lr must be a number above 0"):
        configured(config, {"lr": -1.0})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("postgresql://me:secret@db:5432/x", "postgresql://me:***@db:5432/x"),
        ("mysql+pymysql://me:p%40ss@db/x", "mysql+pymysql://me:***@db/x"),
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
        ("no route to postgresql://me:secret@db now", "no route to postgresql://me:***@db now"),
    ],
)
def test_a_password_is_never_shown(text: str, wanted: str) -> None:
    assert without_password(text) == wanted


def test_a_study_grows_to_its_trials_and_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    first = answer_of(capsys, f"{SMALL} --trials 3 --json")
    trials = first["trials"]
    assert isinstance(trials, list)
    assert len(trials) + int(str(first["ended_early"])) == 3
    errors = [trial["validation_error"] for trial in trials]
    assert errors == sorted(errors)
    best = trials[0]
    assert 1e-4 <= best["values"]["lr"] <= 1e-2
    assert 0.03 <= best["values"]["location_std"] <= 0.5
    result = json.loads(Path(best["run"], "result.json").read_text())
    assert result["validation_error"] == best["validation_error"]
    assert "error" not in result, "the test split is not looked at"
    config = json.loads(Path(best["run"], "config.json").read_text())
    assert config["training"]["lr"] == best["values"]["lr"]
    assert config["model"]["location_std"] == best["values"]["location_std"]
    page = Path(str(first["plot"])).read_text()
    assert "Plotly" in page
    assert "<script src=" not in page, "it opens without a network"

    again = answer_of(capsys, f"{SMALL} --trials 3 --json")
    assert again["trials"] == trials, "a finished study is only shown"
    more = answer_of(capsys, f"{SMALL} --trials 5 --sampler tpe --json")
    assert len(more["trials"]) + more["ended_early"] == 5  # type: ignore[arg-type,operator]
    assert cli.main(shlex.split(f"{SMALL} --trials 5")) == 0
    assert "The study in pictures: runs/search/mnist-28-fast/study.html" in capsys.readouterr().out


def test_what_does_worse_than_most_ends_early(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of rates that learn nothing at all, after some that learn: their runs are cut short."""
    monkeypatch.setattr(search, "FIRST_TRIALS", 2)
    line = f"{SMALL} --epochs 8 --study cut --trials"
    values = iter([3e-2, 1e-2, 1e-9, 1e-9])
    monkeypatch.setattr(
        Dimension, "suggest", lambda _d, trial: trial.suggest_float("lr", *[next(values)] * 2)
    )
    answer = answer_of(capsys, f"{line} 4 --space lr=1e-9:1e-1:log --json")
    assert answer["ended_early"] == 2
    assert len(answer["trials"]) == 2  # type: ignore[arg-type]
    cut = Path("runs/search/cut/trial-3/metrics.jsonl").read_text().splitlines()
    assert json.loads(cut[-1])["epoch"] < 7


def test_the_trial_of_a_killed_worker_is_taken_up_from_its_checkpoint() -> None:
    line = f"{SMALL} --epochs 100 --validate-every 1 --checkpoint-minutes 0 --trials 1 --json"
    killed = start(line)
    saved = Path("runs/search/mnist-28-fast/trial-0/checkpoint/last.safetensors")
    killed.wait_for(saved.exists)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    other = start(line)
    out, err = other.communicate(timeout=120)
    assert other.returncode == 0, err
    (trial,) = json.loads(out)["trials"]
    assert trial["run"] == "runs/search/mnist-28-fast/trial-0", "it went on with the run"
    lines = read_metrics(Path(trial["run"]))
    assert [line["epoch"] for line in lines if "validation_error" in line] == list(range(100))


def test_workers_share_a_study(capsys: pytest.CaptureFixture[str]) -> None:
    answer = answer_of(capsys, f"{SMALL} --trials 4 --workers 2 --json")
    done = len(answer["trials"]) + answer["ended_early"]  # type: ignore[arg-type,operator]
    assert 4 <= done <= 5, "two may begin the last one at once"
    assert {path.name for path in Path("runs/search/mnist-28-fast").glob("*.log")} == {
        "worker-0.log",
        "worker-1.log",
    }


WRONG = {
    "--space lr": "space must be NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,C; got 'lr'",
    "--space lr=2:1": "LOW must be below HIGH",
    "--space lr=0:1:log": "above 0 with log",
    "--space lr=a:b": "'a' in 'lr=a:b' must be a float",
    "--space core=1:2": "core is not a number",
    "--space core=rnn,bar": "unknown core 'bar'",
    "--space lr=-1:1": "lr must be a number above 0.*got -1",
    "--space larning=1:2": "there is no hyper-parameter 'larning'",
    "--space lr=1e-3:1e-2 lr=1:2": "must name different hyper-parameters",
    "--trials 0": "trials must be a whole number from 1 to 1,000,000; got 0",
    "--workers 0": "workers must be a whole number from 1 to 1,024; got 0",
    "--sampler grid": "sampler must be one of random, tpe; got 'grid'",
    "--storage nonsense": "the storage nonsense could not be used",
    "--storage postgresql+psycopg://me:secret@127.0.0.1:1/x": r"me:\*\*\*@127.0.0.1:1/x could",
}


@pytest.mark.parametrize("flags", WRONG)
def test_wrong_input_gives_one_line(flags: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(shlex.split(f"{SMALL} {flags}")) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "secret" not in err
    assert re.search(WRONG[flags], err), err


def test_a_study_of_other_things_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(shlex.split(f"{SMALL} --trials 1 --json")) == 0
    for flags, what in (("--epochs 5", "configuration"), ("--space lr=0.1:0.2", "space")):
        assert cli.main(shlex.split(f"{SMALL} {flags}")) == 2
        assert f"is of another {what}" in capsys.readouterr().err


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The URL of a database on a server of our own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("needs PostgreSQL, Debian's package; there is no /usr/lib/postgresql")
    programs, home = found[-1].parent, Path("/tmp", f"foveal-postgresql-{os.getpid()}")
    # The server refuses to run as root.
    become = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    home.mkdir()
    if become:
        shutil.chown(home, "postgres")

    def call(*words: str) -> None:
        done = subprocess.run(
            [*become, *words], capture_output=True, text=True, check=False, cwd="/"
        )
        assert done.returncode == 0, done.stderr

    data, port = home / "data", 20_000 + os.getpid() % 10_000
    (home / "password").write_text("a-secret")
    call(
        str(programs / "initdb"), "-D", str(data), "-U", "me", "-A", "scram-sha-256",
        "--pwfile", str(home / "password"),
    )  # fmt: skip
    options = f"-p {port} -k {home} -c listen_addresses=127.0.0.1"
    control = [str(programs / "pg_ctl"), "-D", str(data), "-w"]
    call(*control, "-l", str(home / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://me:a-secret@127.0.0.1:{port}/postgres"
    finally:
        call(*control, "-m", "immediate", "stop")
        shutil.rmtree(home)


def test_workers_share_a_postgresql_database(postgresql: str) -> None:
    line = f"{SMALL} --storage {postgresql} --trials 3 --json"
    workers = [start(f"{line} --out out-{number}") for number in range(2)]
    for worker in workers:
        _, err = worker.communicate(timeout=120)
        assert worker.returncode == 0, err
    out, err = start(line).communicate(timeout=60)
    answer = json.loads(out)
    assert len(answer["trials"]) + answer["ended_early"] in (3, 4)
    written = [path.read_text() for path in Path().rglob("config.json")]
    assert len(written) >= 3
    assert not any("a-secret" in text for text in written)
    wrong = postgresql.replace("a-secret", "another")
    refused = start(f"{SMALL} --storage {wrong}")
    _, err = refused.communicate(timeout=60)
    assert refused.returncode == 2
    assert "could not be used" in err
    assert "another@" not in err
    assert err.count("\n") == 1


def test_a_search_over_ones_own_images_reads_them_once_for_all_trials(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_bars(Path("bars"), 10)
    small = SMALL.replace("mnist-28 --digits uci", "folder --data bars")
    line = f"{small.replace('--batch-size 200', '--batch-size 7')} --trials 2 --json"
    answer = answer_of(capsys, f"{line} --space lr=1e-3:1e-2:log glimpse-size=4,8 --out study")
    assert len(answer["trials"]) == 2  # type: ignore[arg-type]
    for number in range(2):
        config = json.loads(Path(f"study/trial-{number}/config.json").read_text())
        assert config["classes"] == ["lying", "standing"]
        assert config["model"]["num_channels"] == 3
        assert config["model"]["pixel_mean"]
    assert cli.main(shlex.split(f"{line} --space colour=grey,rgb --out other")) == 2
    assert "there is no hyper-parameter 'colour'" in capsys.readouterr().err
    assert cli.main(shlex.split("search folder --trials 2")) == 2
    assert "which images? Pass --data" in capsys.readouterr().err
