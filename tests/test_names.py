"""Text of the user's is shown as it is, wherever it is shown."""

from __future__ import annotations

import io
import shlex
import unicodedata
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from rich.table import Table

from foveal.commands import console
from foveal.io.files import write_json
from foveal.names import Range, check_value, in_markdown, printable, shell_line
from foveal.runs.saved import load

MARKUP = ("# x #", "[x](http://y)", "\\", "~~a~~", "![](b)", "&amp;", "a\nb")
NAMES = ("run [old]", "[/", "[bold]x[/bold]", ":smile:", "a|b`c*d*_e_", "$20%$30", "<b>", "日本 🦊")


def test_commands_that_messages_name_are_what_a_shell_takes(tmp_path: Path) -> None:
    for name in ("my runs/first run", "it's", "$HOME", *NAMES):
        words = shlex.split(shell_line("train", "--resume", name))
        assert words == ["foveal", "train", "--resume", name]
    place = tmp_path / "first run"
    place.mkdir()
    write_json(place / "config.json", {"format": "foveal", "version": 2, "kind": "canvases"})
    with pytest.raises(FileNotFoundError, match="first run'$") as told:
        assert load(place).model
    assert shlex.split(str(told.value).partition(": ")[2])[-1] == str(place)


@pytest.mark.parametrize("name", NAMES)
def test_text_on_the_terminal_is_no_markup(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = console.Plain(file=io.StringIO(), width=300, force_terminal=True, color_system=None)
    monkeypatch.setattr(console, "console", screen)
    table = Table(name, title=name)
    table.add_row(name)
    console.say(name)
    screen.print(table)
    with console.bars(screen) as bars:
        bars.add_task(name, total=1, measures=name)
    with console.working(name, quiet=False) as update:
        update(f"{name} too")
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert shown.startswith(f"{name}\n")
    assert shown.count(name) >= 1 + 3 + 2 + 1


def test_what_a_terminal_acts_on_is_spelled_out() -> None:
    assert printable("a\nb\tc\x1b[31m\x9b\x7f\u202e\u2028") == (
        r"a\nb\tc\x1b[31m\x9b\x7f\u202e\u2028"
    )
    assert printable("caf\udce9 \ud800") == r"caf\xe9 \ud800"
    plain = "naïve Ж 日本 🦊 👩\u200d🔬 \N{NO-BREAK SPACE}|"
    assert printable(plain) == plain
    everything = printable("".join(map(chr, range(0x3000))))
    assert all(
        unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp") for letter in everything
    )
    printable("".join(map(chr, range(0xD800, 0xE000)))).encode()


@pytest.mark.parametrize("name", NAMES + MARKUP)
def test_text_in_markdown_is_text(name: str) -> None:
    """By another reader of Markdown than the Hub's, in a table's cell and in a line."""
    page = MarkdownIt("gfm-like", {"linkify": False}).parse(
        f"# {in_markdown(name)}\n\n| | |\n|---|---|\n| a | {in_markdown(name)} |\n"
    )
    inline = [token for token in page if token.type == "inline" and token.children]
    said = [[(part.type, part.content) for part in token.children or ()] for token in inline]
    assert [
        part for parts in said for part, _ in parts if part not in ("text", "text_special")
    ] == []
    texts = ["".join(content for _, content in parts) for parts in said]
    assert texts == [printable(name), "a", printable(name)]


def test_what_is_no_whole_number_is_told_no_range_that_nobody_chose() -> None:
    with pytest.raises(ValueError, match=r"^looks must be a whole number; got 2\.5\.$"):
        check_value("looks", 2.5, int)
    with pytest.raises(ValueError, match=r"^looks must be a whole number from 1 to 3; got 2\.5\.$"):
        check_value("looks", 2.5, int, Range(1, 3))
    with pytest.raises(ValueError, match="from -1,000,000,000,000 to"):
        check_value("looks", 10**13, int)
