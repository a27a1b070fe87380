"""``foveal compare``: the curves of runs in one picture."""

from pathlib import Path

import tyro

from foveal.commands.console import print_json, say
from foveal.commands.flags import check_suffix
from foveal.names import printable
from foveal.runs.saved import load
from foveal.training.journal import read_metrics
from foveal.viz.drawing import save_picture


def compare(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    out: Path = Path("compare.png"),
    time: bool = False,
    json: bool = False,
) -> None:
    """Draw the validation curves of runs in one picture.

    Args:
        runs: run directories, of one kind: classifiers, or agents.
        out: the picture to write, a PNG.
        time: against minutes of training instead of steps.
        json: print the curves as one JSON object.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 (slow to import)

    check_suffix("--out", out, (".png",))
    if not runs:
        raise ValueError(
            "which runs? Name them: foveal compare RUN RUN... (foveal runs lists them)"
        )
    curves, measures = {}, set()
    for directory in dict.fromkeys(runs):
        run = load(directory).run
        measure = "" if run is None else run.compared
        curves[str(directory)] = [
            (line["seconds"] / 60 if time else line["step"], line[measure])
            for line in read_metrics(directory)
            if measure in line
        ]
        if not curves[str(directory)]:
            raise ValueError(f"{directory} has no validation yet. Let it train on.")
        measures.add(measure)
    if len(measures) > 1:
        raise ValueError("classifiers and agents cannot share a picture; compare them apart.")
    (measure,) = measures
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for points in curves.values():
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 2 else None, label="run")
    unit = ", %" if measure == "validation_error" else ""
    axes.set(xlabel="minutes" if time else "steps", ylabel=measure.replace("_", " ") + unit)
    values = [value for points in curves.values() for _, value in points]
    if measure == "validation_error" and min(values) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.3)
    legend = axes.legend(frameon=False, fontsize=8)
    for text, name in zip(legend.get_texts(), curves, strict=True):
        # As it is: no mathematics, nor hidden where it begins with "_".
        text.set(text=printable(name), parse_math=False)
    save_picture(figure, out)
    if json:
        print_json(measure=measure, curves=curves, picture=str(out))
        return
    say(f"{len(curves)} curve{'s' * (len(curves) > 1)} of {measure.replace('_', ' ')}: {out}")
