"""The direction of the imports: each module may import those before it, and no others."""

from __future__ import annotations

import ast
from pathlib import Path

import foveal

SOURCE = Path(foveal.__file__).parent
MAY_IMPORT = {
    "hub": set(),
    "checkpoint": {"hub"},
    "card": {"checkpoint"},
    "geometry": set(),
    "memory": set(),
    "patches": set(),
    "sparse": set(),
    "sensor": {"geometry", "memory", "patches", "sparse"},
    "parallel": {"machine"},
    "layers": {"parallel", "sensor"},
    "model": {"card", "checkpoint", "hub", "layers", "patches", "sensor", "sparse"},
    "objective": {"model", "parallel"},
    "evaluation": {"geometry", "model", "patches", "sparse"},
    "confusion": {"evaluation"},
    "journal": {"checkpoint"},
    "theme": set(),
    "drawing": {"checkpoint", "scanpath", "theme"},
    "maps": {"evaluation", "theme"},
    "page": {"checkpoint", "scanpath", "theme"},
    "machine": set(),
    "optimizers": set(),
    "capture": set(),
    "engine": {"checkpoint", "journal", "machine", "optimizers", "parallel"},
    "start": {"checkpoint", "layers", "model"},
    "training": {
        "capture",
        "checkpoint",
        "engine",
        "evaluation",
        "journal",
        "model",
        "objective",
        "optimizers",
        "parallel",
        "patches",
    },
    "readers": {"readers"},
    "reference_models": set(),
    "pyramids": set(),
    "tasks": {
        "checkpoint",
        "geometry",
        "parallel",
        "patches",
        "pyramids",
        "readers",
        "sparse",
        "tasks",
    },
    "envs": {"envs"},
    "playing": {"envs", "evaluation", "geometry", "layers", "model"},
    "film": {"checkpoint", "drawing", "geometry", "model", "playing", "scanpath", "theme"},
    "control_objective": set(),
    "control": {
        "checkpoint",
        "control_objective",
        "engine",
        "envs",
        "journal",
        "layers",
        "model",
        "optimizers",
        "parallel",
        "playing",
    },
    "recipes": {"control", "control_objective", "envs", "layers", "objective", "tasks", "training"},
    "folder_recipe": {"recipes", "tasks"},
    "rows": {"recipes", "tasks"},
    "illustrations": {
        "control",
        "drawing",
        "envs",
        "evaluation",
        "film",
        "model",
        "playing",
        "scanpath",
        "tasks",
    },
    "runs": {
        "checkpoint",
        "control",
        "engine",
        "envs",
        "evaluation",
        "illustrations",
        "journal",
        "machine",
        "model",
        "playing",
        "recipes",
        "reference_models",
        "tasks",
        "training",
        "start",
    },
    "report": {"checkpoint", "evaluation", "recipes", "rows", "tasks"},
    "export": {"checkpoint", "layers", "model"},
    "scanpath": {"geometry", "model", "patches"},
    "benchmark": {"capture", "envs", "layers", "model", "objective", "recipes", "sensor", "tasks"},
    "app": {
        "app",
        "checkpoint",
        "envs",
        "geometry",
        "model",
        "page",
        "playing",
        "readers",
        "recipes",
        "runs",
        "scanpath",
        "patches",
        "tasks",
    },
    "commands": {
        "app",
        "benchmark",
        "checkpoint",
        "commands",
        "confusion",
        "drawing",
        "engine",
        "envs",
        "evaluation",
        "export",
        "film",
        "folder_recipe",
        "geometry",
        "journal",
        "layers",
        "machine",
        "maps",
        "model",
        "objective",
        "page",
        "parallel",
        "playing",
        "readers",
        "recipes",
        "reference_models",
        "report",
        "rows",
        "runs",
        "scanpath",
        "search",
        "patches",
        "tasks",
        "theme",
        "training",
    },
    "search": {"checkpoint", "engine", "recipes", "runs", "tasks"},
    "cli": {"commands"},
    "__init__": {"envs", "layers", "model", "sensor"},
    "__main__": {"cli"},
}


def imported_by(path: Path) -> set[str]:
    """The parts of foveal that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("foveal"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
    return found - {"__version__"}


def test_imports_go_one_way() -> None:
    for path in SOURCE.rglob("*.py"):
        part = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        extra = imported_by(path) - MAY_IMPORT[part]
        assert not extra, f"{path.relative_to(SOURCE)} may not import {sorted(extra)}"


def test_the_order_has_no_cycle() -> None:
    left = {part: needs - {part} for part, needs in MAY_IMPORT.items()}
    while left:
        ready = {part for part, needs in left.items() if not needs & left.keys()}
        assert ready, f"a cycle among {sorted(left)}"
        left = {part: needs for part, needs in left.items() if part not in ready}
