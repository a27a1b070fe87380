"""Results of rows as files: ``<row>.json``, and the table of all of them, ``README.md``."""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from foveal.evaluation.classifier import share_of
from foveal.io.files import check_writable, read_json, write_file, write_json
from foveal.io.models import upgraded
from foveal.runs.agent_recipes import AGENT_TASKS
from foveal.runs.paper.rows import ROWS, Row
from foveal.tasks import DESCRIPTIONS

TABLE_FILE = "README.md"
TEST_IMAGES = 10_000
AGAIN = "Remove it, and give the same command again."
# What the result of a run has, beside its measure.
OF_A_RUN = {"seed": int, "command": str, "protocol": str, "hardware": str, "seconds": (int, float)}


def row_result(
    row: Row, command: str, results: Sequence[dict[str, Any]], *, quick: bool = False
) -> dict[str, Any]:
    """The content of ``<row>.json``, from the results of `train_run` for each seed.

    The mean over the seeds, its Wilson interval over the test images or games, the spread over the
    seeds (standard deviation; None for one seed), and every seed's result in full. A ``quick`` row
    is cut short, and makes no figure to compare.
    """
    values = [result[row.measure] for result in results]
    mean, first = statistics.fmean(values), results[0]
    count = first.get("episodes") or first.get("test_images", TEST_IMAGES)
    if row.single:
        count *= first["answers"]
    _, interval = share_of(round(mean / 100 * count), count)
    return {
        "row": row.name,
        "title": row.title,
        "command": command,
        row.measure: mean,
        "interval": list(interval),
        "spread": statistics.stdev(values) if len(results) > 1 else None,
        "paper": row.paper,
        "protocol": results[0]["protocol"],
        "config": asdict(row.config),
        "seeds": [result["seed"] for result in results],
        "commits": sorted({str(result.get("commit")) for result in results}),
        "runs": list(results),
    } | ({"quick": True, "paper": None} if quick else {})


def read_row(directory: Path, name: str) -> dict[str, Any] | None:
    """The result of a row, or None if there is none yet; `ValueError` if the file is damaged."""
    path, row = directory / f"{name}.json", ROWS[name]
    if not path.exists():
        return None
    content = _read(path)
    _check(path, content, row.measure, config=dict, interval=list, seeds=list, runs=list)
    if not content["runs"] or not all(isinstance(run, dict) for run in content["runs"]):
        raise ValueError(f"{path} has no runs. {AGAIN}")
    for run in content["runs"]:
        _check_run(path, run, row)
    return content


def read_result(path: Path, row: Row) -> dict[str, Any]:
    """The result of one run of a row; `ValueError` if the file is damaged, or not whole."""
    content = _read(path)
    _check_run(path, content, row)
    return content


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_json(path)
    except ValueError as problem:
        raise ValueError(f"{problem} {AGAIN}") from None


def _check_run(path: Path, run: dict[str, Any], row: Row) -> None:
    """What `row_result` and the table read of a run."""
    kinds = OF_A_RUN | {"decisions_seen" if row.measure == "success_rate" else "images_seen": int}
    _check(path, run, row.measure, **kinds, **({"answers": int} if row.single else {}))
    if "commit" not in run:
        raise ValueError(f"{path} has no commit. {AGAIN}")


def _check(path: Path, content: dict[str, Any], measure: str, **kinds: Any) -> None:
    for name, kind in kinds.items():
        if not isinstance(content.get(name), kind) or isinstance(content[name], bool):
            raise ValueError(f"{path} has no {name}, or another than it had. {AGAIN}")
    value = content.get(measure)
    if not isinstance(value, (int, float)) or not 0 <= value <= 100:
        raise ValueError(f"{path} has no {measure} from 0 to 100; got {value!r}. {AGAIN}")


def check_place(directory: Path, rows: Sequence[str], *, quick: bool) -> None:
    """Refuse to write rows where they would replace what is not theirs, or cannot be written.

    Raises:
        ValueError, OSError: saying why.
    """
    page = directory / TABLE_FILE
    check_writable(page)
    if rows and page.exists() and not page.read_bytes().startswith(TITLE.encode()):
        raise ValueError(f"{page} is no table of results. Choose another directory: --out results.")
    # All are read, as for the table: what is damaged is said before anything is trained.
    results = {name: read_row(directory, name) for name in ROWS} if rows else {}
    for name in rows:
        if quick and not (results[name] or {"quick": True}).get("quick"):
            raise ValueError(
                f"{directory} has the result of {name} at its full length, which --quick would "
                "replace. Choose another --out."
            )


def kept_runs(directory: Path, row: Row, *, quick: bool) -> list[dict[str, Any]]:
    """The runs of a row's file, if they are of the row's configuration as it is."""
    result = read_row(directory, row.name)
    if result is None or result.get("quick", False) != quick:
        return []
    try:
        same = row.config.read(upgraded(result["config"]), directory) == row.config
    except (AttributeError, KeyError, TypeError, ValueError):  # of another version
        same = False
    runs: list[dict[str, Any]] = result["runs"]
    return runs if same else []


def write_row(directory: Path, result: dict[str, Any]) -> None:
    """Write a row's file and the table anew, each in one step, within `writing`.

    Raises `ValueError` if another row's file is damaged.
    """
    write_json(directory / f"{result['row']}.json", result)
    results = {name: read_row(directory, name) for name in ROWS}
    known = {name: content for name, content in results.items() if content is not None}
    write_file(directory / TABLE_FILE, table(known).encode())


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Hold a directory of results, so that what one process adds no other writes over."""
    from filelock import FileLock  # noqa: PLC0415 (only here)

    directory.mkdir(parents=True, exist_ok=True)
    with FileLock(directory / ".lock"):
        yield


TITLE = "# Results\n"
INTRODUCTION = f"""\
{TITLE}
`foveal reproduce` writes this page and the file of each row, which has everything that made it: the
whole configuration, seeds, commit, hardware, wall time, and the validation curve.

Test error in %: 10,000 images in one fixed draw, one rollout from a random first location, mean
policy, no averaging, the weights of the last step. Recipes and budgets were chosen on the
validation split (the last 10,000 images of MNIST's training file), and every run evaluated the test
split once, at its end; docs/reproducing.md names the rows that were trained more than once. RAM
rows of fewer glimpses start from the weights of the task's pretrained model, which is the row of
most glimpses; their images are what they saw themselves. The rows with glimpses on mnist-28 and
translated-60 learn from digits turned, rescaled and warped a little, anew each time; all others
learn from plain ones. The interval is 95 % (Wilson, over the test images; it does not cover the
spread between seeds). With several seeds the error is their mean, and ± their standard deviation.

"Paper" is Mnih et al. 2014 in the proceedings (NIPS), "preprint" its first version (arXiv
1406.6247v1), as far as other sources confirm it; "best known" is the best reproduction that we know
of, from a single rollout. "Difference" is ours less the paper's.
"""

BEYOND_THE_PAPER = """
## Beyond the paper

These rows first read a thumbnail of the whole, at most 1/16 of the pixels (of needle 1/4), and
choose all their looks from it; the thumbnail is counted in the pixels read. "Best known" is the
best published model that looks. One rollout, mean policy, last weights; only the control that looks
at random draws anything in an evaluation. Of megapixel and needle the images are fixed, in training
too, and the test has 1,000 (docs/haystacks.md).

"""
SOONEST = """
## How soon

The paper's figures of most glimpses by the shortest recipes that reached them on the validation
split, fixed before these runs: `foveal reproduce --to paper --seeds 0 1 2`. Minutes are processor
time, validation included, of one core. Rows with a thumbnail read more than the paper's.

"""
FIRST_LOOKS = """
## Two looks of which the first is not at random

Another protocol than the paper's, which says that the first look is at random. Two looks reach its
3.79 % where the first is in the centre or at a learned place, and not where it is at random.

"""
COSTS = ("pixels read", "multiply-adds", "parameters")

CLOSING = """
What the choices in the recipes are worth is in [docs/reproducing.md](../docs/reproducing.md); speed
is in [docs/performance.md](../docs/performance.md).
"""


def table(results: dict[str, dict[str, Any]]) -> str:
    """The page of all rows, in Markdown; ``results`` by row, as `row_result` makes them."""
    parts = [INTRODUCTION]
    for task, description in (DESCRIPTIONS | AGENT_TASKS).items():
        rows = [row for row in ROWS.values() if row.task == task and not row.apart]
        if not rows:
            continue
        agent = task in AGENT_TASKS
        lines = [
            f"\n## {task}: {description}\n",
            f"| row | what | {'caught, %' if agent else 'ours'} | interval | paper | difference | "
            f"preprint | best known | seeds | {'decisions' if agent else 'images'} a seed "
            "| minutes a seed |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        lines += [_line(_cells(row, results.get(row.name))) for row in rows]
        parts.append("\n".join(lines) + "\n")
    costs = ("ours", "interval", "best known", *COSTS, "seeds", "images a seed", "minutes a seed")
    soon = ("ours", "of each seed", "paper", "images a seed", "minutes of each seed")
    for apart, words, cells, heads in (
        ("soonest", SOONEST, _soonest, soon),
        ("first", FIRST_LOOKS, _apart, costs),
        ("beyond", BEYOND_THE_PAPER, _apart, costs),
    ):
        lines = [words, _line(["row", "what", *heads]), _line(["---"] * (2 + len(heads)))]
        rows = [row for row in ROWS.values() if row.apart == apart]
        lines += [_line(cells(row, results.get(row.name))) for row in rows]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts) + _how(results) + CLOSING


def _soonest(row: Row, result: dict[str, Any] | None) -> list[str]:
    name, what, ours, _, paper, *_, images, _ = _cells(row, result)
    runs = [] if result is None else result["runs"]
    errors = ", ".join(f"{run[row.measure]:.2f}" for run in runs)
    minutes = ", ".join(f"{run.get('processor_seconds', run['seconds']) / 60:.0f}" for run in runs)
    return [name, what, ours, errors, paper, images, minutes]


def _apart(row: Row, result: dict[str, Any] | None) -> list[str]:
    name, what, ours, interval, _, _, _, best, *trained = _cells(row, result)
    run = {} if result is None else result["runs"][0]
    costs = (run.get(cost.replace(" ", "_").replace("-", "_")) for cost in COSTS)
    counted = ("" if cost is None else f"{cost:,}" for cost in costs)
    return [name, what, ours, interval, best, *counted, *trained]


def _cells(row: Row, result: dict[str, Any] | None) -> list[str]:
    cells = [f"`{row.name}`", row.title]
    if result is not None and result.get("quick"):
        row = replace(row, paper=None, preprint=None, best_known=None)
    best = "" if row.best_known is None else f"{row.best_known[0]:.2f} ({row.best_known[1]})"
    others = [_figure(row.preprint), best]
    if result is None:
        return [*cells, "not yet", "", _figure(row.paper), "", *others, "", "", ""]
    spread = "" if result["spread"] is None else f" ± {result['spread']:.2f}"
    low, high = result["interval"]
    difference = "" if row.paper is None else f"{result[row.measure] - row.paper:+.2f}"
    cells += [f"**{result[row.measure]:.2f}**{spread}", f"{low:.2f} to {high:.2f}"]
    runs = result["runs"]
    minutes = statistics.fmean(run["seconds"] for run in runs) / 60
    seeds = ", ".join(str(seed) for seed in result["seeds"])
    seen = runs[0]["decisions_seen" if row.measure == "success_rate" else "images_seen"]
    return [*cells, _figure(row.paper), difference, *others, seeds, f"{seen:,}", f"{minutes:.0f}"]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _how(results: dict[str, dict[str, Any]]) -> str:
    if not results:
        return ""
    runs = [run for result in results.values() for run in result["runs"]]
    machines = sorted({run["hardware"] for run in runs})
    quick = any(result.get("quick") for result in results.values())
    commits = sorted({str(run["commit"]) for run in runs})
    return (
        ("\nThe rows above are cut short: there is nothing to compare.\n" if quick else "") + "\n"
        "A row is made by `foveal reproduce` and its name, or by the command in its file, which "
        "does the same. Hardware: "
        f"{'; '.join(machines)}. Commits: {', '.join(commits)}. Several runs shared the machine, "
        "so the minutes are upper bounds.\n"
    )
