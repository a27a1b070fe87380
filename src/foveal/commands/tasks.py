"""``foveal tasks``: what can be trained."""

from typing import Any

from rich.table import Table

from foveal.commands.console import print_json, say, show_table
from foveal.runs.agent_recipes import AGENT_RECIPES, AGENT_TASKS, agent_recipe
from foveal.runs.recipes import HAYSTACK_RECIPE, RECIPES, recipe, usual_recipe
from foveal.tasks import DESCRIPTIONS, FOLDER_TASKS, HAYSTACKS

SIZES = ("glimpse_size", "num_scales", "num_glimpses")


def tasks(json: bool = False) -> None:
    """List the tasks that can be trained, the retina that looks at each, and the recipes.

    Args:
        json: print one JSON object instead of a table.
    """
    rows: list[dict[str, Any]] = []
    zooming = set()
    for name, description in (DESCRIPTIONS | AGENT_TASKS).items():
        acts = name in AGENT_TASKS
        recipes = list(AGENT_RECIPES if acts else RECIPES)
        recipes = [HAYSTACK_RECIPE] if name in HAYSTACKS else recipes
        model = (agent_recipe if acts else recipe)(name, usual_recipe(name)).model
        if model.zoom:
            zooming.add(name)
        sizes = {size: getattr(model, size) for size in SIZES}
        rows.append({"task": name, "description": description, **sizes, "recipes": recipes})
    rows += [
        {"task": name, "description": description, "recipes": list(RECIPES)}
        for name, description in FOLDER_TASKS.items()
    ]
    if json:
        print_json(tasks=rows)
        return
    table = Table("task", "what it is", "retina", "glimpses", "recipes")
    for row in rows:
        retina = looks = "by the images"
        if "num_scales" in row:
            size, scales, looks = (str(row[name]) for name in SIZES)
            one = "one of " if row["task"] in zooming else ""
            retina = f"{size} x {size}, {one}{scales} scale{'' if scales == '1' else 's'}"
            looks = "1 a decision" if row["task"] in AGENT_TASKS else looks
        table.add_row(row["task"], row["description"], retina, looks, ", ".join(row["recipes"]))
    show_table(table)
    say("Train one: foveal train mnist-28 --recipe fast")
