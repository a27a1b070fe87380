"""``foveal models``: the pretrained models."""

from typing import Any

from rich.table import Table

from foveal.commands.console import print_json, say, show_table
from foveal.io.models import pretrained_models
from foveal.runs.saved import load


def models(json: bool = False) -> None:
    """List the pretrained models that ship with foveal.

    Every command that takes a MODEL takes these names, and so does
    RecurrentAttention.from_pretrained.

    Args:
        json: print one JSON object instead of a table.
    """
    rows = [_describe(name) for name in pretrained_models()]
    if json:
        print_json(models=rows)
        return
    table = Table("model", "measured", "95 % interval", "parameters", "made by")
    for row in rows:
        low, high = row["interval"]
        measured = (
            f"test error {row['error']:.2f} %, {row['num_glimpses']} glimpses"
            if "error" in row
            else f"success {row['success_rate']:.2f} %"
        )
        interval, parameters = f"{low:.2f} to {high:.2f}", f"{row['parameters']:,}"
        table.add_row(row["model"], measured, interval, parameters, row["command"])
    show_table(table)
    say("See one look: foveal look cluttered-60 --out look.png")
    say("See one play: foveal play catch --gif play.gif")


def _describe(name: str) -> dict[str, Any]:
    saved = load(name)
    result = saved.result
    measures = ("num_glimpses", "error") if "error" in result else ("success_rate",)
    keys = (*measures, "interval", "parameters", "command")
    return {
        "model": name,
        **{key: result[key] for key in keys},
        "card": str(saved.directory / "README.md"),
    }
