"""What the documentation shows is run: every command and every Python block, page by page.

A page is a session: its blocks run in order, in one directory, with one Python namespace. What
takes long is shortened by flags that are added to it (`SHORTENED`); what cannot run here is only
read, by the command's own parser (`ONLY_READ`). A block that is not run at all has a comment before
it that says why.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import io
import re
import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import tifffile
from markdown_it import MarkdownIt
from markdown_it.token import Token
from PIL import Image
from torch.distributed.run import get_args_parser

import foveal.commands.flags
from foveal import cli
from foveal.runs.paper.rows import ROWS
from tests.tasks.folder.test_folder import write_bars

ROOT = Path(__file__).parent.parent
PAGES = sorted(["README.md", *(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/**/*.md"))])
MARK = re.compile(r"<!-- not run: (.+) -->")
UCI = "--digits uci"
SMALL = (
    "--glimpse-hidden 8 --location-hidden 8 --glimpse-features 16 --core-size 16 --epochs 1 "
    "--batch-size 100 --threads 1"
)
# What takes long, and the flags that make it short. The first that matches holds.
SHORTENED = {
    r"train (mnist|translated|cluttered)": f"{UCI} {SMALL}",
    r"train folder": f"{SMALL} --batch-size 4 --workers 1",
    r"search": f"{UCI} {SMALL} --trials 2 --workers 1",
    r"look [\w-]+60(?!.*\.png( |$))": UCI,
    r"look [\w-]+60 .*--(maps|out)": UCI,
    r"make-dataset .*--train 1000": f"{UCI} --canvas-size 100 --train 60 --validation 20 --test 20",
    r"make-dataset": f"{UCI} --canvas-size 100 --num-clutter 4 --train 2 --validation 2 --test 2",
    r"play": "--episodes 10 --num-envs 10 --gif-episodes 1",
    r"export": "--num-glimpses 2",
}
# What cannot run here, and why. Its flags are read by the real parser all the same.
ONLY_READ = {
    r"reproduce [a-z]": "trains for an hour or more",
    r"train (catch|control)": "needs thousands of games to say anything; test_control trains",
    r"play runs/find": "that run is only read too; test_examples trains and plays it",
    r"compare runs/breakout": "those runs are only read too; test_cli compares others",
    r"app": "serves until it is stopped; test_app_server starts it",
    r"export .*(pt2|catch)": "takes as long as the first; test_export writes both",
    r".*someone/name": "needs the network",
    r".*(--storage|/shared/)": "needs a database, or a disk that machines share",
    r"train .*--start": "begins with weights of their own size; test_start loads some",
    r"search mnist-28 .*--sampler tpe": "takes ten trials to differ; test_search runs it",
}


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    not_run: str | None

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


@functools.cache
def tokens(page: str) -> list[Token]:
    return MarkdownIt().parse((ROOT / page).read_text(encoding="utf-8"))


def blocks(page: str) -> list[Block]:
    """The blocks of code of a page; indented ones are commands."""
    found = []
    parsed = tokens(page)
    for before, token in zip([None, *parsed], parsed, strict=False):
        if token.type not in ("fence", "code_block"):
            continue
        assert token.map is not None
        mark = MARK.fullmatch(before.content.strip()) if before is not None else None
        language = token.info.strip() if token.type == "fence" else "sh"
        reason = mark[1] if mark else None
        found.append(Block(page, token.map[0] + 1, language, token.content, reason))
    return found


def commands(block: Block) -> list[list[str]]:
    """The words of each command of a block, without comments."""
    whole = block.text.replace("\\\n", " ")
    return [words for line in whole.splitlines() if (words := shlex.split(line, comments=True))]


class Read(Exception):
    """Raised in place of doing what a command line asks for, once it has been read."""


class Session:
    """What a reader does who follows a page."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.programs = {
            "cd": lambda words: self.only(words, ["foveal"]),
            "foveal": self.foveal,
            "git": lambda words: self.only(words, ["clone", "ADDRESS", "foveal"]),
            "make": self.make,
            "pip": self.pip,
            "python3": lambda words: self.only(words, ["-m", "venv", ".venv"]),
            "source": lambda words: self.only(words, [".venv/bin/activate"]),
            "tensorboard": self.tensorboard,
            "torchrun": self.torchrun,
        }

    def only(self, words: list[str], wanted: list[str]) -> None:
        """What sets up a clone, which is not done here."""
        assert words == wanted

    def make(self, targets: list[str]) -> None:
        known = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(targets) <= set(known)

    def pip(self, words: list[str]) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        assert words[0] == "install"
        for extras in re.findall(r"\[(.*?)\]", " ".join(words)):
            assert set(extras.split(",")) <= set(project["optional-dependencies"])

    def tensorboard(self, words: list[str]) -> None:
        assert words[0] == "--logdir"
        assert importlib.util.find_spec("tensorboard")

    def torchrun(self, words: list[str]) -> None:
        options = get_args_parser().parse_args(words)
        assert options.module
        assert options.training_script == "foveal"
        self.read(options.training_script_args)

    def foveal(self, words: list[str]) -> None:
        line = shlex.join(words)
        if any(re.match(rule, line) for rule in ONLY_READ):
            self.read(words)
            return
        more = next((flags for rule, flags in SHORTENED.items() if re.match(rule, line)), "")
        assert cli.main([*words, *more.split()]) == 0, f"foveal {line} {more}"

    def read(self, words: list[str]) -> None:
        """Have the command's parser read its flags, and go no further."""
        real = foveal.commands.flags.tyro.cli

        def read_only(*arguments: Any, **options: Any) -> Any:
            read, unknown = real(*arguments, **options)
            assert not unknown
            raise Read(read)

        with self.monkeypatch.context() as patch:
            patch.setattr("foveal.commands.flags.tyro.cli", read_only)
            with pytest.raises(Read):
                cli.main(words)
        if words[0] == "reproduce":
            assert {word for word in words[1:] if re.match("[a-z].*-", word)} <= set(ROWS)

    def run(self, block: Block) -> None:
        if block.language == "python":
            # So that a traceback shows the line of the page.
            exec(compile("\n" * block.line + block.text, block.page, "exec"), self.names)
            return
        for words in commands(block):
            program = words[0].removeprefix(".venv/bin/")
            assert program in self.programs, f"{block.place}: {program} is not known here"
            self.programs[program](words[1:])


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A session in a directory with the files that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    mpl.use("agg")
    write_bars(tmp_path / "photos")
    for directory in ("docs", "new"):
        (tmp_path / directory).mkdir()
    pixels = np.random.default_rng(0).integers(128, 256, (60, 60), dtype=np.uint8)  # ink on paper
    for name in ("mine.png", "other.png", "new/1.jpg"):
        Image.fromarray(pixels).save(tmp_path / name)
    tifffile.imwrite(tmp_path / "big.tif", np.tile(pixels, (2, 2)))
    np.save(tmp_path / "scan.npy", pixels)
    return Session(monkeypatch)


WITH_CODE = [
    page for page in PAGES if any(block.language in ("python", "sh") for block in blocks(page))
]


@pytest.mark.parametrize("page", WITH_CODE)
def test_a_page_can_be_followed(page: str, session: Session) -> None:
    for block in blocks(page):
        if block.language in ("python", "sh") and block.not_run is None:
            session.run(block)


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_left_out_in_silence(page: str) -> None:
    for block in blocks(page):
        known = ("python", "sh", "text", "bibtex")
        assert block.language in known, f"{block.place}: in which language?"
        if block.language == "text":
            assert not re.search(r"^(\$|>>>|foveal|import|from) ", block.text, re.M), block.place
        if block.language == "python":
            compile(block.text, block.place, "exec")
    text = (ROOT / page).read_text(encoding="utf-8")
    marked = sum(block.not_run is not None for block in blocks(page))
    assert text.count("<!-- not run") == marked, "a reason stands right before its block"


@pytest.mark.parametrize(
    "block",
    [block for page in PAGES for block in blocks(page) if block.not_run],
    ids=lambda block: block.place,
)
def test_what_is_not_run(block: Block) -> None:
    pytest.skip(f"{block.place}: {block.not_run}")


def test_every_rule_is_needed() -> None:
    lines = [
        shlex.join(words[1:])
        for page in PAGES
        for block in blocks(page)
        if block.language == "sh"
        for words in commands(block)
        if words[0].endswith("foveal")
    ]
    for rule in (*SHORTENED, *ONLY_READ):
        assert any(re.match(rule, line) for line in lines), rule


def inline(page: str) -> list[str]:
    return [
        child.content
        for token in tokens(page)
        for child in token.children or ()
        if child.type == "code_inline"
    ]


@functools.cache
def flags_of(command: str) -> frozenset[str]:
    """The flags that a command's help names."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit):
        cli.main([*command.split(), "--help-all"])
    return frozenset(re.findall(r"--[a-z][\w-]*", said.getvalue()))


OF_ALL = {"--help", "--help-all", "--import"}  # of every command, and before it


def test_the_flags_in_sentences_exist() -> None:
    parts = "train mnist-28 --recipe best"  # whose settings are flags too
    training = ("train mnist-28", parts, "train megapixel", "train catch", "train folder")
    known = frozenset().union(*map(flags_of, (*training, *(cli.COMMANDS.keys() - {"train"}))))
    for page in PAGES:
        for code in inline(page):
            flags = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", code))
            named = re.match(r"foveal ([a-z][a-z-]*)", code)
            if named:
                assert named[1] in cli.COMMANDS, f"{page}: {code}"
                if named[1] != "train":
                    assert flags <= flags_of(named[1]) | OF_ALL, f"{page}: {code}"
            if not re.match(r"(torchrun|vips|tensorboard|python|mkdocs|git)", code):
                assert flags <= known | OF_ALL, f"{page}: {code}"


@pytest.mark.parametrize("page", ["README.md", "results/README.md"])
def test_the_files_it_links_to_are_there(page: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", (ROOT / page).read_text(encoding="utf-8")):
        assert (ROOT / page).parent.joinpath(target).exists(), target
