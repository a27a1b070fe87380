"""``foveal compare``: the curves of runs in one picture."""

from pathlib import Path

import tyro

from foveal.commands.console import complain, print_json, say
from foveal.commands.flags import check_suffix
from foveal.runs.saved import load
from foveal.training.journal import read_metrics
from foveal.viz.charts import draw_training
from foveal.viz.drawing import save_picture


def compare(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    out: Path = Path("compare.png"),
    time: bool = False,
    pool: bool = False,
    json: bool = False,
) -> None:
    """Draw the validation curves of runs in one picture.

    Args:
        runs: run directories, of one kind: classifiers, or agents.
        out: the picture to write, a PNG.
        time: against minutes of training instead of steps, or of an agent's decisions.
        pool: one curve of all runs that differ in nothing but the seed: their mean, and a band from
            the lowest to the highest, as far as all have come.
        json: print the curves as one JSON object.
    """
    check_suffix("--out", out, (".png",))
    if not runs:
        raise ValueError(
            "which runs? Name them: foveal compare RUN RUN... (foveal runs lists them)"
        )
    curves, measures, axes, games = {}, set(), set(), set()
    alike: dict[str, list[str]] = {}  # the runs of one curve
    for directory in {run.resolve(): run for run in runs}.values():
        run = load(directory).run
        if run is None:
            raise ValueError(f"{directory} has no validation yet. Let it train on.")
        measure = run.compared
        same = repr(run.altered(training={"seed": 0})) if pool else str(directory)
        alike.setdefault(same, []).append(str(directory))
        curves[str(directory)] = [
            (line["seconds"] / 60 if time else run.along(line["step"]), line[measure])
            for line in read_metrics(directory)
            if measure in line and "seconds" in line
        ]
        if not curves[str(directory)]:
            raise ValueError(f"{directory} has no validation yet. Let it train on.")
        measures.add(measure)
        axes.add("minutes" if time else run.axis)
        games |= {run.env.env} if run.env else set()
    if len(measures) > 1:
        raise ValueError("classifiers and agents cannot share a picture; compare them apart.")
    (measure,), (axis,) = measures, axes
    if len(games) > 1:
        words = f"these runs play {', '.join(sorted(games))}, whose returns cannot be compared."
        complain("compare", words)
    drawn = {
        names[0] + f" and {len(names) - 1} more" * (len(names) > 1): [curves[n] for n in names]
        for names in alike.values()
    }
    for name, some in drawn.items():
        if len({len(points) for points in some}) > 1:
            words = f"{name}: drawn to validation {min(map(len, some))}, as far as all have come."
            complain("compare", words)
    save_picture(draw_training(drawn, measure, axis), out)
    if json:
        print_json(measure=measure, axis=axis, curves=curves, picture=str(out))
        return
    say(f"{len(drawn)} curve{'s' * (len(drawn) > 1)} of {measure.replace('_', ' ')}: {out}")
