"""``foveal evaluate``: the error of a model."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.table import Table

from foveal.commands.console import (
    FAILED,
    Stop,
    complain,
    left_out,
    print_json,
    say,
    show_table,
    working,
)
from foveal.commands.flags import check_suffix, choose_device, set_threads
from foveal.commands.shown import check_same_answers, images_shown, load_model, task_shown
from foveal.evaluation.classifier import answers, by_length, judged
from foveal.evaluation.confusion import by_class, confusion_matrix
from foveal.evaluation.stopping import (
    ALL_LOOKS,
    HALF,
    Kind,
    StopRule,
    beliefs,
    check_stop,
    stopped,
)
from foveal.model.attention import RecurrentAttention
from foveal.model.whole_image import ReferenceNetwork
from foveal.scene.preparation import Door
from foveal.tasks.task import Task
from foveal.viz.charts import draw_confusion, draw_stops
from foveal.viz.drawing import PICTURES, save_picture

MOST_ROWS = 30  # of the table by class


def evaluate(
    model: tyro.conf.Positional[str],
    task: str | None = None,
    digits: str | None = None,
    canvas_size: int | None = None,
    num_clutter: int | None = None,
    data: str | None = None,
    separator: str | None = None,
    fit: bool = False,
    invert: bool = False,
    split: Literal["test", "validation"] = "test",
    num_glimpses: int | None = None,
    rollouts: int = 1,
    stop: StopRule = "none",
    threshold: float | None = None,
    looks_curve: Path | None = None,
    confusion: Path | None = None,
    strict: bool = False,
    device: str = "auto",
    threads: int = 0,
    json: bool = False,
) -> None:
    """Measure the error of a model: one rollout, mean policy, random first location.

    The canvases and the first locations are one fixed draw, so that the figure can be repeated. A
    model of your own images is measured on those that its run held out, or on others with --data;
    files that cannot be read are named and left out, and the exit code is then 1.

    Args:
        model: a run directory, a saved model, or the name of a pretrained one (foveal models).
        task: what to evaluate on; the task it was trained on if not given.
        digits: mnist, uci, or the path of IDX files or an image folder; the model's own if not
            given.
        canvas_size: pixels a side of the task's canvases; as in training if not given.
        num_clutter: pieces of other digits on each; as in training if not given.
        data: your own images to evaluate on: a directory with a subfolder a class, or a manifest;
            its test split, or all of it if it has none. Classes go by their names.
        separator: what stands between the classes of a label of a manifest, where labels are
            sequences; as in training if not given.
        fit: scale larger images of --data down to the size of those of training.
        invert: make dark light in the images of --data, for ink on paper.
        split: test, or validation for choosing between recipes.
        num_glimpses: looks at each image; as in training if not given.
        rollouts: average the probabilities of so many rollouts, each from another first location;
            more than 1 is another protocol than the paper's.
        stop: confident stops looking at an image when the belief in one class passes the threshold,
            learned when the model's own probability of stopping does; --num-glimpses is the most.
            Another protocol than the paper's.
        threshold: of that, above 0 and below 1; if not given, 0.5 of a learned stop, and of a
            confident one the lowest that costs no error on the validation split.
        looks_curve: a picture (.png, .svg, .pdf) of the error against the mean number of looks, for
            all thresholds of each stop; --json prints its points.
        confusion: a PNG to draw the confusion matrix into.
        strict: stop at the first image file that cannot be read.
        device: cpu, cuda or auto.
        threads: cores for arithmetic; 0 for all.
        json: print one JSON object, the table by class and the confusion matrix included.
    """
    check_suffix("--confusion", confusion, (".png",))
    check_suffix("--looks-curve", looks_curve, PICTURES)
    if threshold is not None and stop == "none":
        stop = "confident"  # as `foveal predict` takes it
    if data is None and (fit or invert):
        raise ValueError("--fit and --invert are for images of your own. Pass --data with them.")
    if data is None and separator is not None:
        raise ValueError("--separator is for a manifest of --data. Pass it, or leave it out.")
    changes = {"digits": digits, "canvas_size": canvas_size, "num_clutter": num_clutter}
    canvases = [flag for flag, value in (changes | {"task": task}).items() if value is not None]
    if data is not None and canvases:
        flags = " and ".join(f"--{flag.replace('_', '-')}" for flag in canvases)
        raise ValueError(f"--data is for your own images; {flags} for canvases.")
    set_threads(threads)
    torch_device = choose_device(device)
    saved = load_model(model, torch_device, "evaluate", plays=False)
    network = saved.model
    if data is None:
        shown = task_shown(saved, torch_device, task=task, strict=strict, changes=changes)
    else:
        door = Door(saved.content, fit, invert, partial(complain, "evaluate"), model=model)
        shown = images_shown(
            saved, torch_device, data, separator=separator, door=door, strict=strict
        )
    height, width = shown.image_size
    looks, pixels = 0, shown.num_channels * height * width
    if isinstance(network, RecurrentAttention):
        looks = network.config.num_glimpses if num_glimpses is None else num_glimpses
        pixels = network.count_pixels_read(looks)
    else:
        _check_whole_image(network, shown, num_glimpses, rollouts)
    check_same_answers(saved, shown)
    if data is not None and not shown.size(split):
        split = "validation"  # where others have no test split
    shown.on_problem = partial(left_out, "evaluate")
    for problem in shown.problems:
        shown.on_problem(problem)
    with working("evaluating", quiet=json):
        told: dict[str, Any] = {}
        if stop != "none" or looks_curve is not None:
            kind: Kind = "confident" if stop == "none" else stop
            looking = _looking(network, kind, threshold, rollouts, data)
            own: Any = {"num_glimpses": num_glimpses}
            if threshold is None and kind == "learned":
                threshold = HALF
            elif threshold is None:
                threshold = beliefs(looking, shown, "validation", **own).calibrated()
            told["threshold"] = threshold
            if looks_curve is not None:
                told |= _draw_curves(
                    looking, shown, split, kind, threshold, num_glimpses, looks_curve
                )
        if stop != "none":
            how = {"stop": stop, **own}
            labels, given, taken = stopped(looking, shown, split, threshold, **how)
            told["looks"] = float(taken.float().mean())
            pixels = looking.count_pixels_read(told["looks"])
        else:
            labels, given = answers(
                network, shown, split, num_glimpses=num_glimpses, rollouts=rollouts
            )
    result, several = judged(labels, given), shown.max_answers > 1
    figures = dataclasses.asdict(result)
    if several:
        figures["answer_error"] = result.answer_error
        figures["by_length"] = by_length(labels, given, network.config.end)
    else:
        del figures["answer_error"]
    wanted_ones = labels >= 0
    closed = given.where(given >= 0, len(shown.classes) - 1)  # behind its end there is an end
    matrix = confusion_matrix(labels[wanted_ones], closed[wanted_ones], len(shown.classes))
    rows = by_class(matrix, shown.classes)
    if confusion is not None:
        save_picture(draw_confusion(matrix, shown.classes), confusion)
    if json:
        print_json(
            model=model,
            task=data or task or saved.content.get("name"),
            split=split,
            **figures,
            **told,
            num_glimpses=looks,
            rollouts=rollouts,
            image_size=[height, width],
            pixels_read=rollouts * pixels,
            parameters=network.count_parameters(),
            classes=rows,
            confusion=matrix.tolist(),
        )
    else:
        read = f"{rollouts * pixels:,} numbers read of {height} x {width} pixels"
        read += "" if shown.one_size else " at most"
        if rollouts > 1:
            read = f"the mean of {rollouts} rollouts, {read}"
        if looks:
            each = " an answer" if several else ""
            read = f"{looks} glimpse{'s' * (looks > 1)}{each}, {read}"
        low, high = result.interval
        say(
            f"{split} error {result.error:.2f} % of {result.count:,} images (95 % interval "
            f"{low:.2f} to {high:.2f}); {read}"
        )
        if stop != "none":
            passed = "a belief" if stop == "confident" else "the probability of stopping"
            where = f"where {passed} passed {told['threshold']:.6g}"
            if told["threshold"] == ALL_LOOKS:
                where = "all of them: each threshold costs errors on the validation split"
            say(f"It stopped after {told['looks']:.2f} looks on average, {where}.")
        if looks_curve is not None:
            say(f"{looks_curve}: the error against the mean number of looks")
        if several:
            lengths = ", ".join(
                f"{row['answers']}: {row['error']:.2f} %" for row in figures["by_length"]
            )
            say(
                "An image is right if all its answers are. Of single answers "
                f"{result.answer_error:.2f} % are wrong; images by their number: {lengths}"
            )
        show_table(_table(rows, "answers" if several else "images"))
    if shown.problems:
        raise Stop(f"{len(shown.problems)} file(s) could not be read and were left out.", FAILED)


def _table(rows: list[dict[str, Any]], counted: str) -> Table:
    """By class, the worst first where there are many."""
    title = None
    if len(rows) > MOST_ROWS:
        title = f"the {MOST_ROWS} worst of {len(rows)} classes (--json has all)"
        rows = sorted(rows, key=lambda row: -row["error"])[:MOST_ROWS]
    table = Table("class", title=title)
    for name in (counted, "error", "95 % interval", "precision"):
        table.add_column(name, justify="right")
    table.add_column("taken for")
    for row in rows:
        low, high = row["interval"]
        precision = row["precision"]
        table.add_row(
            row["class"],
            f"{row['count']:,}",
            f"{row['error']:.1f} %",
            f"{low:.1f} to {high:.1f}",
            "" if precision is None else f"{precision:.1f} %",
            row["taken_for"] or "",
        )
    return table


def _looking(
    network: RecurrentAttention | ReferenceNetwork,
    stop: Kind,
    threshold: float | None,
    rollouts: int,
    data: str | None,
) -> RecurrentAttention:
    """The network, if it can stop; `ValueError` if not, or the flags do not fit together."""
    if not isinstance(network, RecurrentAttention):
        raise ValueError("--stop is for networks that look; this one sees the whole image.")
    check_stop(network, stop, threshold)
    if rollouts > 1:
        raise ValueError(
            "a stop is of one rollout. Leave out --rollouts, or --stop, --threshold and "
            "--looks-curve."
        )
    if threshold is None and data is not None and stop == "confident":
        raise ValueError(
            "a threshold is calibrated on a run's own validation images, and not on those of "
            "--data. Pass --threshold 0.99, say."
        )
    return network


def _draw_curves(
    looking: RecurrentAttention,
    shown: Task,
    split: str,
    kind: Kind,
    threshold: float,
    num_glimpses: int | None,
    out: Path,
) -> dict[str, Any]:
    """Draw the error against the mean number of looks, of each stop; the points of the curves."""
    kinds: tuple[Kind, ...] = ("confident", "learned")
    seen = {
        each: beliefs(looking, shown, split, stop=each, num_glimpses=num_glimpses)
        for each in kinds[: 1 if looking.stop_head is None else 2]
    }
    curves = {each: found.curve for each, found in seen.items()}
    save_picture(draw_stops(curves, seen[kind].at(threshold), seen[kind].at(ALL_LOOKS)), out)
    return {
        "curve" if each == "confident" else f"curve_{each}": [
            dataclasses.asdict(point) for point in curve
        ]
        for each, curve in curves.items()
    }


def _check_whole_image(
    network: ReferenceNetwork, shown: Task, num_glimpses: int | None, rollouts: int
) -> None:
    if num_glimpses is not None or rollouts > 1:
        flag = "--rollouts" if num_glimpses is None else "--num-glimpses"
        raise ValueError(f"{flag} is for networks that look; this one sees the whole image.")
    if network.any_size:
        return
    if shown.image_size != network.config.image_size or not shown.one_size:
        raise ValueError(
            f"the network was made for images of {network.config.image_size} pixels (height, "
            f"width); the task's have {shown.image_size}. Choose another --task."
        )
