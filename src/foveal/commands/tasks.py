"""``foveal tasks``: what can be trained."""

from rich.table import Table

from foveal.commands.console import print_json, say, show_table
from foveal.runs.recipes import AGENT_RECIPES, AGENT_TASKS, RECIPES, agent_recipe, recipe
from foveal.tasks import DESCRIPTIONS, FOLDER_TASKS, TASKS


def tasks(json: bool = False) -> None:
    """List the tasks that can be trained, the retina that looks at each, and the recipes.

    Args:
        json: print one JSON object instead of a table.
    """
    models = {name: recipe(name, "fast").model for name in TASKS}
    models |= {name: agent_recipe(name, "fast").model for name in AGENT_TASKS}
    described = DESCRIPTIONS | AGENT_TASKS
    if json:
        rows = [
            {
                "task": name,
                "description": described[name],
                "glimpse_size": model.glimpse_size,
                "num_scales": model.num_scales,
                "num_glimpses": model.num_glimpses,
                "recipes": list(AGENT_RECIPES if name in AGENT_TASKS else RECIPES),
            }
            for name, model in models.items()
        ]
        rows += [
            {"task": name, "description": description, "recipes": list(RECIPES)}
            for name, description in FOLDER_TASKS.items()
        ]
        print_json(tasks=rows)
        return
    table = Table("task", "what it is", "retina", "glimpses", "recipes")
    for name, model in models.items():
        size, scales = model.glimpse_size, model.num_scales
        retina = f"{size} x {size}, {scales} scale{'s' if scales > 1 else ''}"
        looks = "1 a decision" if name in AGENT_TASKS else str(model.num_glimpses)
        recipes = AGENT_RECIPES if name in AGENT_TASKS else RECIPES
        table.add_row(name, described[name], retina, looks, ", ".join(recipes))
    for name, description in FOLDER_TASKS.items():
        table.add_row(name, description, "by the images", "by the images", ", ".join(RECIPES))
    show_table(table)
    say("Train one: foveal train mnist-28 --recipe fast")
