"""The documentation site is built strictly: no broken link, no argument that is not there."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import foveal

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "foveal"
NOT_A_LIBRARY = {"app", "cli", "commands", "__main__"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(directory)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr[-3000:]
    return directory


Definition = ast.ClassDef | ast.FunctionDef


def public(body: list[ast.stmt], within: str) -> dict[str, Definition]:
    """Classes and functions that a user may name, by name."""
    return {
        f"{within}.{node.name}": node
        for node in body
        if isinstance(node, Definition) and not node.name.startswith("_")
    }


def public_names() -> dict[str, Definition]:
    """Classes and functions of the library, by where they are defined."""
    names = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        if not NOT_A_LIBRARY & set(parts):
            module = ".".join(("foveal", *(part for part in parts if part != "__init__")))
            names |= public(ast.parse(path.read_text(encoding="utf-8")).body, module)
    return names


def raised_in(function: ast.FunctionDef) -> set[str]:
    """The exceptions that a function raises itself, by name."""
    left: list[ast.AST] = list(function.body)
    found = set()
    while left:
        node = left.pop()
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found.add(ast.unparse(node.exc.func))
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            left += ast.iter_child_nodes(node)
    return found


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in site.glob("reference/*.html"))
    known = set(re.findall(r'id="(foveal[\w.]+)"', pages))
    names = public_names()
    assert len(names) > 200
    assert names.keys() <= known, sorted(names.keys() - known)
    exported = [
        getattr(foveal, name) for name in foveal.__all__ if name[0] != "_" and not name.isupper()
    ]
    assert {f"{each.__module__}.{each.__name__}" for each in exported} <= known


def test_what_raises_says_so() -> None:
    functions = dict(public_names())
    for name, node in list(functions.items()):
        if isinstance(node, ast.ClassDef):
            functions |= public(node.body, name)
    checked = 0
    for name, node in functions.items():
        if isinstance(node, ast.FunctionDef) and (errors := raised_in(node)):
            said = ast.get_docstring(node) or ""
            checked += 1
            assert "Raise" in said or all(error in said for error in errors), name
    assert checked > 40


def test_fields_are_described_by_their_comments(site: Path) -> None:
    page = (site / "reference" / "model.html").read_text(encoding="utf-8")
    assert "pixels a side of the finest patch; 12 for the 60 x 60 tasks" in page


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    loads = re.compile(
        r"""<(?:script|img|iframe|source)[^>]+src=["']?(?:https?:)?//[^"'\s>]+"""
        r"""|<link(?![^>]+rel="?canonical)[^>]+href=["']?(?:https?:)?//[^"'\s>]+"""
    )
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        assert not loads.findall(page.read_text(encoding="utf-8")), page.name
    for style in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import )['\"]?(?:https?:)?//", style.read_text()), style


def test_equations_and_code_are_filled_in(site: Path) -> None:
    page = (site / "how.html").read_text(encoding="utf-8")
    assert page.count("<math") > 10
    assert "arithmatex" not in page
    assert page.count("src/foveal/") >= 9, "each equation's source is named"
    assert "# foveal." not in page
    assert "<svg" in page


def test_the_site_is_small(site: Path) -> None:
    assert sum(file.stat().st_size for file in site.rglob("*") if file.is_file()) < 12e6
