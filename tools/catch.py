"""Draw what was learned of Catch: docs/catch.png and docs/catch.gif.

    python tools/catch.py

Left: the balls caught in validation against the games played, for every row of Catch in results/.
Right: how far the looks of the pretrained agent are from the ball, row by row of its fall, beside
looks at random and at the centre. The animation is the pretrained agent's first games.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import torch

from foveal import RecurrentAttention, geometry
from foveal.envs import EnvConfig
from foveal.evaluation.agent import Moment, play
from foveal.model.policy import uniform_locations
from foveal.runs.paper.report import read_row
from foveal.runs.paper.rows import ROWS
from foveal.viz.film import Film

GAMES, SEED = 1000, 7


def main() -> None:
    matplotlib.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415 (after the choice of backend)

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for row in ROWS.values():
        result = read_row(Path("results"), row.name) if row.task == "catch" else None
        if result is None:
            continue
        curve = result["runs"][0]["validation_curve"]
        points = [(line[0] / 23e6, line[-1]) for line in curve]
        left.plot(*zip(*points, strict=True), label=row.title)
    left.axhline(85, color="gray", linestyle=":", linewidth=1)
    left.set(xlabel="games played, millions", ylabel="caught, %", xlim=0, ylim=(0, 101))
    left.legend(frameon=False, fontsize=8)

    agent = RecurrentAttention.from_pretrained("catch")
    moments: list[Moment] = []
    film = Film(agent, 3)

    def watch(moment: Moment) -> None:
        film(moment)
        moments.append(moment)

    play(agent, EnvConfig(), GAMES, SEED, watch=watch)
    generator = torch.Generator().manual_seed(SEED)
    policies = {
        "learned": lambda moment: moment.locations,
        "at random": lambda moment: uniform_locations(moment.locations, generator),
        "at the centre": lambda moment: torch.zeros_like(moment.locations),
    }
    for name, place in policies.items():
        away = [_distance(place(moment), moment, time) for time, moment in enumerate(moments)]
        right.plot(range(1, len(away) + 1), away, label=name)
        print(f"{name}: {sum(away[-8:]) / 8:.2f} pixels over the last 8 looks")
    right.set(xlabel="look", ylabel="distance of the look from the ball, pixels", ylim=0)
    right.legend(frameon=False, fontsize=8)
    figure.savefig("docs/catch.png", dpi=150)
    film.save(Path("docs/catch.gif"))


def _distance(locations: torch.Tensor, moment: Moment, time: int) -> float:
    """Mean, in pixels, between looks and balls, which are in row ``time``."""
    height, width = moment.images.shape[-2:]
    balls = moment.images[:, 0, time].argmax(-1) + 0.5
    centers = geometry.to_pixels(locations, height, width)
    return torch.hypot(centers[:, 0] - balls, centers[:, 1] - (time + 0.5)).mean().item()


if __name__ == "__main__":
    main()
