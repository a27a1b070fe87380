"""Agents that look beside their controls, on several games: the tables of docs/agents.md.

    python tools/games.py minatar [--games Breakout Freeway] [--agents looks whole] [--seeds 0 1 2]
    foveal compare --pool runs/minatar/Breakout-* --out breakout.png

Of minatar, minigrid, atari, catch-48 and fovea it trains one agent after another with `foveal
train`, on one thread, in runs/SET; goes on where it was stopped. Writes results/SET.json, of all
that has been trained so far, and prints the mean return of 256 fresh games (of Catch the share that
is caught), of as many seeds as there are. minatar needs foveal[games]; atari and minigrid need the
packages ale-py and minigrid. Actions are drawn in these three, and in the others the likeliest.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium

from foveal.envs import FoveaVector
from foveal.io.files import read_json, write_json
from foveal.io.models import CONFIG_FILE, RESULT_FILE

HERE = Path(__file__).resolve().parent
KEPT = (
    *("mean_return", "return_interval", "episodes", "decisions_seen", "seconds"),
    *("processor_seconds", "pixels_read", "parameters", "validation_curve"),
    *("seed", "commit", "hardware"),
)
SAMPLED = "sampled.json"  # of a run's directory
WHOLE = "--recipe fast --policy center --num-scales 1 --glimpse-size"


class Games(NamedTuple):
    """What is compared: agents on games."""

    games: dict[str, str]  # a name, and the task with its environment
    agents: dict[str, tuple[str, str]]  # a name, what it is, and the flags that make it
    decisions: int
    sampled: bool = False  # whether actions are drawn when it is judged, and not the likeliest
    # sizes of the screens that each agent plays before, and decisions at each; of Catch
    before: tuple[tuple[int, int], ...] = ()


# The trainer of the recipe for Catch, on a smaller screen, of which nothing is known.
SIZE, LARGEST = 12, 48
CATCH = (
    f"--policy center --discount 1 --entropy-weight 0 --num-envs 1024 --rollout-length {SIZE - 1}"
)

SETS = {
    "minatar": Games(
        {
            # Seaquest's screens have the shape (10, 10, 10).
            name: f"control --env MinAtar/{name}-v1 --env-channels last --core-size 128"
            for name in ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
        },
        {
            "looks": ("a thumbnail of 5 x 5, and a look where a map says", "--recipe best"),
            "random": ("the same thumbnail, looks at random", "--recipe best --policy random"),
            "center": ("the same thumbnail, looks at the centre", "--recipe best --policy center"),
            "whole": ("the whole screen, no thumbnail", f"{WHOLE} 10"),
        },
        500_000,
        sampled=True,  # as they learn: what an agent does not see it may have to guess
    ),
    "minigrid": Games(
        {
            "DoorKey-5x5": "control --env minigrid:MiniGrid-DoorKey-5x5-v0 --glimpse-gain 20",
            # From anywhere; what is seen of the walls is alike whichever way one faces.
            "Empty-12x12": "control --env minigrid:MiniGrid-Empty-16x16-v0 --env-options size=12 "
            "agent_start_pos=None --glimpse-gain 20",
            "GoToDoor-5x5": "control --env games:GoToDoorWords-v0 --glimpse-gain 20",
        },
        {
            "direction": ("knows which way it faces", "--env-senses direction"),
            "mission": ("and what it is told", "--env-senses direction mission"),
            "without": ("sees alone", "--env-senses"),
        },
        500_000,
        sampled=True,  # the likeliest action goes round in circles
    ),
    "atari": Games(
        {
            # The likeliest action may never serve the next ball, so that games are long.
            name: f"control --env ale_py:ALE/{name}-v5 --glimpse-network conv --glimpse-gain 2 "
            "--lr 1e-3 --num-envs 32 --rollout-length 128 --num-minibatches 8 "
            "--validate-every 100 --validation-episodes 16 --test-episodes 16"
            for name in ("Breakout", "Pong")
        },
        {
            "looks": (
                "20 x 20 pixels in three scales",
                "--glimpse-size 20 --num-scales 3 --scale-gain 2.5",
            ),
            "whole": ("the whole screen", f"{WHOLE} 84 --glimpse-filters 8"),
        },
        1_000_000,
        sampled=True,
    ),
    "catch-48": Games(
        {"Catch": "catch --lr 1e-3"},
        {
            "looks": ("looks where it decides to; begins as the agent that ships", "--start catch"),
            "center": ("the centre", "--policy center"),
        },
        4_000_000,
        before=((24, 7_000_000), (30, 1_000_000), (36, 1_250_000), (42, 1_500_000)),
    ),
    "fovea": Games(
        {"Catch": f"control --glimpse-size 6 --glimpse-gain 3 {CATCH}"},
        {
            "direct": (
                "its own retina",
                f"--env foveal/Catch-v0 --env-options size={SIZE} --num-scales 2 --scale-gain 1",
            ),
            "fovea": ("a Fovea's", "--env games:CatchEye-v0 --num-scales 1"),
        },
        1_000_000,
    ),
}


def catch_eye(num_envs: int) -> FoveaVector:
    """Catch through a Fovea that does not move."""
    games = gymnasium.make_vec("foveal/Catch-v0", num_envs=num_envs, size=SIZE)
    return FoveaVector(games, glimpse_size=6, num_scales=2, grid=1, flat=True)


gymnasium.register("CatchEye-v0", vector_entry_point=catch_eye)


def go_to_door_words() -> gymnasium.Env[Any, Any]:
    """MiniGrid's GoToDoor, whose mission is the numbers of its words."""
    import minigrid.wrappers  # noqa: PLC0415 (it need not be there)

    return minigrid.wrappers.DictObservationSpaceWrapper(gymnasium.make("MiniGrid-GoToDoor-5x5-v0"))


gymnasium.register("GoToDoorWords-v0", entry_point=go_to_door_words)


def train(name: str, game: str, agent: str, seed: int, decisions: int) -> None:
    """Train one agent, or go on with it."""
    directory, games = Path("runs", name, f"{game}-{agent}-{seed}"), SETS[name]
    words = [*games.games[game].split(), *games.agents[agent][1].split(), "--threads", "1"]
    words += ["--seed", str(seed)]
    if games.before:
        words += begun_smaller(words, directory, games.before)
    words += ["--decisions", str(decisions), "--out", str(directory)]
    if (directory / CONFIG_FILE).exists():
        had = read_json(directory / CONFIG_FILE)["training"]["decisions"]
        if had != decisions:
            raise SystemExit(f"{directory} is of {had:,} decisions; pass --decisions {had}.")
        words = ["--resume", str(directory)]
    foveal("train", *words)
    if games.sampled:
        drawn = ["--sample", "--episodes", "256", "--num-envs", "256", "--threads", "1"]
        write_json(directory / SAMPLED, json.loads(foveal("play", str(directory), *drawn)))


def begun_smaller(words: list[str], out: Path, before: tuple[tuple[int, int], ...]) -> list[str]:
    """Train an agent on smaller screens, one after another; the flags that go on at the largest.

    One that begins as another does not need the first, on which that was trained.
    """
    more: list[str] = []
    for size, decisions in before[1:] if "--start" in words else before:
        stage = out.parent / "smaller" / f"{out.name}-{size}"
        if not (stage / RESULT_FILE).exists():
            flags = [*whole_games(size), *more, "--decisions", str(decisions), "--out", str(stage)]
            foveal("train", *(("--resume", str(stage)) if stage.exists() else (*words, *flags)))
        more = ["--start", str(stage)]
    return [*whole_games(LARGEST), *more]


def whole_games(size: int) -> list[str]:
    """Flags of Catch on a screen of this size, updated after whole games."""
    return ["--env-options", f"size={size}", "--rollout-length", str(size - 1)]


def foveal(*words: str) -> str:
    """What a command prints, as JSON."""
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    environment = os.environ | {"PYTHONPATH": path}
    command = [sys.executable, "-m", "foveal", *words, "--json"]
    return subprocess.run(
        command, stdout=subprocess.PIPE, check=True, env=environment, text=True
    ).stdout


def gather(name: str) -> list[dict[str, Any]]:
    """What there is of all runs, in the order of games, agents and seeds.

    Of runs that are not here, as those of another machine, stays what was gathered before.
    """
    order = [*itertools.product(SETS[name].games, SETS[name].agents)]
    judged = SAMPLED if SETS[name].sampled else RESULT_FILE
    kept = Path("results", f"{name}.json")
    before = read_json(kept)["runs"] if kept.exists() else []
    known = [run for run in before if (run["game"], run["agent"]) in order]
    found = {(run["game"], run["agent"], run["seed"]): run for run in known}
    for game, agent in itertools.product(SETS[name].games, SETS[name].agents):
        for path in sorted(Path("runs", name).glob(f"{game}-{agent}-*/{judged}")):
            result, config = (read_json(path.parent / file) for file in (RESULT_FILE, CONFIG_FILE))
            run = {"game": game, "agent": agent, "what": SETS[name].agents[agent][0]}
            run["command"] = config["command"]
            run |= {key: result[key] for key in KEPT if key in result}
            if SETS[name].sampled:
                drawn = read_json(path)
                run |= {"likeliest_return": run["mean_return"], "sampled": True}
                run |= {"mean_return": drawn["mean_return"]}
                run |= {"return_interval": drawn["return_interval"]}
            found[game, agent, run["seed"]] = run
    for game in SETS[name].games:
        lengths = {run["decisions_seen"] for run in found.values() if run["game"] == game}
        if len(lengths) > 1:
            said = " and ".join(f"{length:,}" for length in sorted(lengths))
            print(f"{game} has runs of {said} decisions, whose means say nothing.", file=sys.stderr)
    return sorted(
        found.values(), key=lambda run: (order.index((run["game"], run["agent"])), run["seed"])
    )


def show(name: str, runs: list[dict[str, Any]]) -> None:
    """The table, and what the first agent earns beside the last."""
    means: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        if SETS[name].sampled and not run.get("sampled"):
            continue  # of before actions were drawn
        means.setdefault((run["game"], run["agent"]), []).append(run["mean_return"])
    games, agents = SETS[name].games, SETS[name].agents
    first, *_, last = agents
    print(f"| game | {' | '.join(agents)} | {first} / {last} |\n|---|{'---|' * (len(agents) + 1)}")
    shares = []
    for game in games:
        cells = []
        for agent in agents:
            some = means.get((game, agent), [])
            spread = f" ± {statistics.stdev(some):.2g}" if len(some) > 1 else ""
            cells.append(f"{statistics.fmean(some):.3g}{spread}" if some else "")
        ours, theirs = (means.get((game, agent)) for agent in (first, last))
        share = None
        if ours and theirs and min(*ours, *theirs) > 0:  # a share of what is lost says nothing
            share = statistics.fmean(ours) / statistics.fmean(theirs)
            shares.append(share)
        print(f"| {game} | {' | '.join(cells)} | {'' if share is None else f'{share:.2f}'} |")
    if shares:
        print(f"{first} / {last}, mean over {len(shares)}: {statistics.fmean(shares):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--games", nargs="*", help="all if not given")
    parser.add_argument("--agents", nargs="*", help="all if not given")
    parser.add_argument("--seeds", nargs="*", type=int, default=(0, 1, 2))
    parser.add_argument("--decisions", type=int)
    options = parser.parse_args()
    games = SETS[options.set]
    chosen = (options.games or [*games.games], options.agents or [*games.agents])
    for asked, known in zip(chosen, (games.games, games.agents), strict=True):
        if unknown := set(asked) - set(known):
            parser.error(f"{options.set} has {', '.join(known)}; got {', '.join(unknown)}.")
    for seed, game, agent in itertools.product(options.seeds, *chosen):
        train(options.set, game, agent, seed, options.decisions or games.decisions)
        write_json(Path("results", f"{options.set}.json"), {"runs": gather(options.set)})
    show(options.set, gather(options.set))


if __name__ == "__main__":
    main()
