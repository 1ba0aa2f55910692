"""The command tree, what it imports, and that pages, slugs and commands name the same things."""

from __future__ import annotations

import importlib
import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from fluxctx import errors
from fluxctx.commands import tree
from fluxctx.commands.tree import TREE
from tests.running import Home

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "diffusers", "transformers", "sqlite_utils", "numpy", "PIL")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("name", list(TREE))
def test_the_line_of_the_tree_is_the_commands_own(name: str) -> None:
    module, line = TREE[name]
    command = typer.main.get_command(importlib.import_module(f"fluxctx.commands.{module}").app)
    assert (command.help or "").strip().split("\n")[0] == line


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["list"], ["show", "@last"]])
def test_light_commands_import_nothing_heavy(shared_home: Home, arguments: list[str]) -> None:
    script = (
        "import sys; sys.argv = ['fluxctx', *sys.argv[1:]]\n"
        "from fluxctx.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('HEAVY', *(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env=shared_home.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stderr.strip().splitlines()[-1] == "HEAVY", done.stderr


def every_error() -> set[type[errors.FluxctxError]]:
    found, todo = set(), [errors.FluxctxError]
    while todo:
        one = todo.pop()
        found.add(one)
        todo += one.__subclasses__()
    return {one for one in found if one.__module__.startswith("fluxctx")}


def test_every_slug_is_on_the_page_and_every_slug_of_the_page_is_an_error() -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text()
    listed = set(re.findall(r"^\| \d+ \| `([a-z_]+)`", page, re.MULTILINE))
    declared = {one.slug for one in every_error()}
    assert listed == declared
    codes = {one.exit_code for one in every_error()}
    assert codes <= {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 130, 143}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_and_link_of_a_page_exists(page: Path) -> None:
    if "adr" in page.parts:
        return  # decisions may name what was not taken
    text = page.read_text()
    for name in re.findall(r"^\$ fluxctx ([a-z]+)", text, re.MULTILINE) + re.findall(
        r"`fluxctx ([a-z]+)", text
    ):
        assert name in TREE, f"{page.name} names `fluxctx {name}`"
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), f"{page.name} points to {target}"


def shell_lines(page: Path) -> list[str]:
    """The `fluxctx ...` lines of a page's shell blocks, without prompts and comments."""
    blocks = re.findall(r"^```(?:sh|console|bash)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line.removeprefix("$ ") for line in lines if line.removeprefix("$ ").startswith("fluxctx ")]


LINES = [(page, line) for page in PAGES if "reference" not in page.parts for line in shell_lines(page)]


@pytest.mark.parametrize(("page", "line"), LINES, ids=[f"{page.name}-{line[:40]}" for page, line in LINES])
def test_every_command_line_of_a_page_parses(page: Path, line: str) -> None:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words = list(itertools.takewhile(lambda word: word[0] not in "|&;<>", lexer))[1:]
    command = tree.root()
    while hasattr(command, "get_command") and words:
        command = command.get_command(None, words.pop(0))
        assert command is not None
    command.make_context("fluxctx", words)
