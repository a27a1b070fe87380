"""What the documentation site takes from the repository when MkDocs builds it (see mkdocs.yml).

- Code stands beside the equations as it is: a Python block that holds nothing but a comment with a
  name, such as ``# foveal.model.core.RNNCore.forward``, becomes that function's source.
- Equations become MathML here, which browsers draw by themselves, without a script or a font.
- Figures drawn as SVG go into the page, so that they follow its light or dark theme.
- Files outside docs/ that pages link to (results, examples) go into the site.
- What the command line says of itself becomes a page.
"""

from __future__ import annotations

import ast
import html
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import griffe
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PAGES_OUTSIDE = ("results/README.md", "CHANGELOG.md")
NAMED_SOURCE = re.compile(r"^```python\n# (foveal\.[\w.]+|examples/\w+\.py)\n```$", re.MULTILINE)
LINK_OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)")
EQUATION = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
FIGURE = re.compile(r'<img alt="([^"]*)" src="([\w-]+\.svg)" />')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what lies outside docs/: pages of the navigation, and files that pages link to."""
    linked = {
        target
        for page in [*Path(config.docs_dir).rglob("*.md"), *map(ROOT.joinpath, PAGES_OUTSIDE)]
        for target in LINK_OUTSIDE.findall(page.read_text(encoding="utf-8"))
        if not target.startswith("docs/")
    }
    for target in sorted({*linked, *PAGES_OUTSIDE}):
        if (ROOT / target).is_file():
            files.append(File.generated(config, target, abs_src_path=str(ROOT / target)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Put named sources in, and turn links that leave docs/ to where the files are in the site."""
    if page.file.src_uri.startswith("results/"):
        markdown = markdown.replace("](../docs/", "](../")
    elif "/" not in page.file.src_uri:
        markdown = LINK_OUTSIDE.sub(r"](\1", markdown)
    return NAMED_SOURCE.sub(lambda found: source_block(found[1]), markdown)


def on_page_content(content: str, *, config: MkDocsConfig, **_: Any) -> str:
    """Draw equations as MathML, and figures in place."""
    content = EQUATION.sub(_as_mathml, content)
    return FIGURE.sub(lambda found: _inline(Path(config.docs_dir) / found[2], found[1]), content)


def source_block(name: str) -> str:
    """A function or method of foveal as a block of code under its file and line; or a script.

    Args:
        name: in full, such as ``foveal.model.core.RNNCore.forward`` or ``examples/train.py``.

    Raises:
        LookupError: if there is no such function.
        OSError: if there is no such script.
    """
    if name.startswith("examples/"):
        script = (ROOT / name).read_text(encoding="utf-8").rstrip()
        return f'```python title="{name}"\n{script}\n```'
    path, place = _module_of(name)
    text = path.read_text(encoding="utf-8")
    node: Any = ast.parse(text)
    for part in place:
        inner = [each for each in node.body if getattr(each, "name", None) == part]
        if not inner:
            raise LookupError(f"there is no {name}: {path} has no {part!r}.")
        node = inner[0]
    lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
    if ast.get_docstring(node) is not None:
        said = node.body[0]
        del lines[said.lineno - node.lineno : said.end_lineno - node.lineno + 1]
    code = textwrap.dedent("\n".join(line.partition("  # type: ignore")[0] for line in lines))
    return f'```python title="{path.relative_to(ROOT)}, line {node.lineno}"\n{code}\n```'


def _module_of(name: str) -> tuple[Path, list[str]]:
    """The file that a name begins with, and what follows."""
    parts = name.split(".")
    for split in range(len(parts), 0, -1):
        path = ROOT.joinpath("src", *parts[:split]).with_suffix(".py")
        if path.is_file():
            return path, parts[split:]
    raise LookupError(f"there is no module in {name}.")


def _as_mathml(found: re.Match[str]) -> str:
    display = "block" if found[1] == "div" else "inline"
    return convert(html.unescape(found[2]).strip(), display=display)


def _inline(path: Path, alternative: str) -> str:
    drawing = path.read_text(encoding="utf-8")
    label = f'<svg role="img" aria-label="{alternative}"'
    return drawing[drawing.index("<svg") :].replace("<svg", label, 1)


class FieldComments(griffe.Extension):
    """Takes the comment behind a field for its description, as the command line does."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Describe an attribute that has no docstring by the comment on its last line."""
        if attr.docstring is None and attr.endlineno and isinstance(attr.filepath, Path):
            line = inspect.cleandoc(
                attr.filepath.read_text("utf-8").splitlines()[attr.endlineno - 1]
            )
            _, mark, comment = line.partition("  # ")
            if mark and not comment.startswith(("type:", "noqa")):
                attr.docstring = griffe.Docstring(comment, parent=attr)
