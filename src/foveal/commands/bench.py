"""``foveal bench``: how fast every part is here, beside the least that it could cost."""

from itertools import product
from typing import Any, Literal, get_args

from rich.table import Table

from foveal.commands.console import print_json, say, show_table, working
from foveal.commands.flags import choose_device, set_threads
from foveal.names import Range, check_value
from foveal.runs import bench as benchmark
from foveal.training.machine import commit, hardware

Part = Literal["step", "evaluation", "latency", "synthesis", "sensor", "environment"]
PARTS: tuple[Part, ...] = get_args(Part)
ROWS = (
    ("steps", "step", "step"),
    ("evaluation", "evaluation", "evaluation"),
    ("synthesis", "synthesis", "canvases"),
)  # of what is beside its floor: where it is found, the name of its time, and its title
COMPARED_BATCH = 512  # the batch at which the obvious implementation is measured


def bench(
    parts: tuple[Part, ...] = PARTS,
    batch_sizes: tuple[int, ...] = (128, 512, 2048),
    rounds: int = 9,
    device: str = "auto",
    threads: int = 0,
    json: bool = False,
) -> None:
    """Measure the parts on this machine, each beside its floor; all of it takes minutes.

    What is compared is measured in the same run, in turns; times are medians, with quartiles.
    The floor of a step is its matrix products alone: forward, and both backward products, of
    every layer at every glimpse. In a checkout of the repository, the obvious way to write the
    sensor (benchmarks/obvious.py) is measured too, with the same network.

    Args:
        parts: which: step, evaluation, latency, synthesis, sensor, environment.
        batch_sizes: images in a training step.
        rounds: turns of measurement.
        device: cpu, cuda or auto.
        threads: cores for arithmetic; 0 for all.
        json: print one JSON object.
    """
    check_value("rounds", rounds, int, Range(1, 10_000))
    if not parts or not batch_sizes:
        raise ValueError("there is nothing to measure: name some --parts and --batch-sizes.")
    check_value("batch_sizes", batch_sizes, tuple[int, ...], Range(1, 2**20))
    set_threads(threads)
    torch_device = choose_device(device)
    obvious = benchmark.obvious_sensor()
    found: dict[str, Any] = {}
    with working("measuring", quiet=json) as tell:
        if "step" in parts:
            found["steps"] = []
            for size, task, core in product(batch_sizes, benchmark.STEPS, benchmark.BENCHED):
                tell(f"training step of {task}, {core}, batch {size}")
                other = obvious if size == COMPARED_BATCH else None
                row = benchmark.training_step(task, core, size, rounds, torch_device, other)
                found["steps"].append(row)
        if "evaluation" in parts:
            tell("evaluation")
            found["evaluation"] = [
                benchmark.evaluation(task, 1000, rounds, torch_device) for task in benchmark.STEPS
            ]
        if "latency" in parts:
            tell("latency")
            found["latency"] = benchmark.latency(rounds, torch_device)
        if "synthesis" in parts:
            tell("canvases")
            found["synthesis"] = [
                benchmark.synthesis(task, COMPARED_BATCH, rounds, torch_device)
                for task in benchmark.STEPS
            ]
        if "sensor" in parts:
            tell("the sensor")
            found["sensors"] = [
                {"part": name, **benchmark.glimpse(*size, rounds, torch_device)}
                for name, size in benchmark.SENSORS.items()
            ]
        if "environment" in parts:
            tell("Catch")
            found["environment"] = benchmark.environment(rounds, torch_device)
    if json:
        print_json(hardware=hardware(torch_device), commit=commit(), **found)
        return
    say(f"{hardware(torch_device)}; milliseconds: median (quartiles)")
    _show(found)


def _show(found: dict[str, Any]) -> None:
    table = Table("part", "time", "floor", "ratio", "images/s", title="each part and its floor")
    for key, name, title in ROWS:
        for row in found.get(key, []):
            times = (_spread(row[name]), _spread(row["floor"]), f"{row['ratio']:.2f}")
            table.add_row(f"{title}: {row['part']}", *times, f"{row['images_per_second']:,.0f}")
    if "latency" in found:
        one = found["latency"]
        table.add_row(f"latency: {one['part']}", _spread(one["latency"]), "", "", "")
    if table.row_count:
        show_table(table)
    for row in found.get("steps", []):
        if "speedup" in row:
            say(f"{row['part']}: {row['speedup']:.1f} x as fast as with the obvious sensor")
    for row in found.get("synthesis", []):
        say(f"canvases, {row['part']}: {row['share']:.1f} % of a step")
    if "sensors" in found:
        small, large = f"{benchmark.SMALL} px", f"{benchmark.LARGE} px"
        title = f"one glimpse of {benchmark.SENSOR_BATCH} prepared images"
        table = Table("retina", small, large, "ratio", "preparation", "its copy", title=title)
        for row in found["sensors"]:
            table.add_row(
                row["part"],
                _spread(row["small"]),
                _spread(row["large"]),
                f"{row['ratio']:.2f}",
                *(" and ".join(f"{time:,.1f}" for time in row[key]) for key in ("prepare", "copy")),
            )
        show_table(table)
    if "environment" in found:
        games = found["environment"]
        say(
            f"Catch, {games['games']:,} games at once, screens included, without a network: "
            f"{games['steps_per_second']:,.0f} steps/s"
        )


def _spread(quartiles: list[float]) -> str:
    low, middle, high = quartiles
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"
