"""MinAtar's five games by an agent that looks, and by its controls: the table of docs/agents.md.

    python tools/minatar_games.py [--games Breakout Freeway] [--agents looks whole] [--seeds 0 1 2]
    foveal compare --pool runs/minatar/Breakout-* --out breakout.png

Trains one agent after another with `foveal train control`, on one thread, in runs/minatar; goes on
where it was stopped. Writes results/minatar.json, of all that has been trained so far, and prints
the mean return of 256 fresh games, of as many seeds as there are. It needs foveal[games].
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from foveal.io.files import read_json, write_json
from foveal.io.models import CONFIG_FILE, RESULT_FILE

RUNS, RESULTS = Path("runs/minatar"), Path("results/minatar.json")
GAMES = ("Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders")
# A name, what it is, and the flags that make it.
AGENTS = {
    "looks": ("a thumbnail of 5 x 5, and a look where a map says", "--recipe best"),
    "random": ("the same thumbnail, looks at random", "--recipe best --policy random"),
    "center": ("the same thumbnail, looks at the centre", "--recipe best --policy center"),
    "whole": (
        "the whole screen, no thumbnail",
        "--recipe fast --policy center --glimpse-size 10 --num-scales 1",
    ),
}
KEPT = (
    *("mean_return", "return_interval", "episodes", "decisions_seen", "seconds"),
    *("processor_seconds", "pixels_read", "parameters", "validation_curve"),
    *("seed", "commit", "hardware"),
)


def train(game: str, agent: str, seed: int, decisions: int) -> None:
    """Train one agent, or go on with it."""
    directory = RUNS / f"{game}-{agent}-{seed}"
    words = ["control", "--env", f"MinAtar/{game}-v1", *AGENTS[agent][1].split(), "--threads", "1"]
    words += ["--seed", str(seed), "--decisions", str(decisions), "--out", str(directory)]
    if (directory / CONFIG_FILE).exists():
        had = read_json(directory / CONFIG_FILE)["training"]["decisions"]
        if had != decisions:
            raise SystemExit(f"{directory} is of {had:,} decisions; pass --decisions {had}.")
        words = ["--resume", str(directory)]
    command = [sys.executable, "-m", "foveal", "train", *words, "--json"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def gather() -> list[dict[str, Any]]:
    """What there is of all runs, in the order of games, agents and seeds."""
    found = []
    for game, agent in itertools.product(GAMES, AGENTS):
        for path in sorted(RUNS.glob(f"{game}-{agent}-*/{RESULT_FILE}")):
            result, config = read_json(path), read_json(path.parent / CONFIG_FILE)
            run = {"game": game, "agent": agent, "command": config["command"]}
            found.append(run | {name: result[name] for name in KEPT if name in result})
    return found


def show(runs: list[dict[str, Any]]) -> None:
    """The table, and what looking is worth beside the whole screen."""
    means: dict[tuple[str, str], list[float]] = {}
    for run in runs:
        means.setdefault((run["game"], run["agent"]), []).append(run["mean_return"])
    print(f"| game | {' | '.join(AGENTS)} | looks / whole |\n|---|{'---|' * (len(AGENTS) + 1)}")
    shares = []
    for game in GAMES:
        cells = []
        for agent in AGENTS:
            some = means.get((game, agent), [])
            spread = f" ± {statistics.stdev(some):.1f}" if len(some) > 1 else ""
            cells.append(f"{statistics.fmean(some):.1f}{spread}" if some else "")
        looks, whole = (means.get((game, agent)) for agent in ("looks", "whole"))
        share = statistics.fmean(looks) / statistics.fmean(whole) if looks and whole else None
        shares += [] if share is None else [share]
        print(f"| {game} | {' | '.join(cells)} | {'' if share is None else f'{share:.2f}'} |")
    if shares:
        print(f"looks / whole, mean over {len(shares)} games: {statistics.fmean(shares):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--games", nargs="*", choices=GAMES, default=GAMES)
    parser.add_argument("--agents", nargs="*", choices=tuple(AGENTS), default=tuple(AGENTS))
    parser.add_argument("--seeds", nargs="*", type=int, default=(0, 1, 2))
    parser.add_argument("--decisions", type=int, default=1_000_000)
    options = parser.parse_args()
    for seed, game, agent in itertools.product(options.seeds, options.games, options.agents):
        train(game, agent, seed, options.decisions)
        write_json(RESULTS, {"runs": gather()})
    show(gather())


if __name__ == "__main__":
    main()
