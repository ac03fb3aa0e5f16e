"""The commands and programs of README, tutorial and how-tos run as they stand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.snippets import DOCS, PROJECT, RUN, Block, Runner, blocks, commands, parsed
from thinslice.cli.train import _value
from thinslice.recipes import overridden, read_train_recipe

PAGES = [PROJECT / "README.md", DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]


def name(page: Path) -> str:
    return page.stem


def runs(block: Block) -> bool:
    return block.language in RUN and block.directive != "not run"


@pytest.mark.parametrize("page", [page for page in PAGES if any(map(runs, blocks(page)))], ids=name)
def test_every_block_runs(page: Path, runner: Callable[..., Runner], small_files: Path) -> None:
    running = runner(small_files)
    for block in blocks(page):
        _write(block)
        if runs(block) and block.directive != "heavy":
            running.run(block)


@pytest.mark.heavy
@pytest.mark.parametrize("page", [page for page in PAGES if any(map(runs, blocks(page)))], ids=name)
def test_every_block_runs_in_a_shell(page: Path, runner: Callable[..., Runner], small_files: Path) -> None:
    running = runner(None if page.stem == "tutorial" else small_files, shell=True)
    for block in blocks(page):
        _write(block)
        if runs(block):
            running.run(block)


@pytest.mark.parametrize("page", sorted([PROJECT / "README.md", *DOCS.rglob("*.md")]), ids=name)
def test_every_command_that_is_not_run_has_options_and_files_that_exist(page: Path) -> None:
    for block in blocks(page):
        if block.language == "bash" and not runs(block):
            for words in commands(block.text):
                parsed(words)
                _exists(words)


def test_every_block_that_is_not_run_has_a_reason() -> None:
    for page in PAGES:
        for block in blocks(page):
            if block.directive in ("not run", "heavy"):
                assert block.language in RUN and len(block.note) > 8, f"{page.name}:{block.line}"


def test_no_command_escapes_in_an_indented_block() -> None:
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").splitlines():
            assert not line.startswith("    thinslice "), f"{page.name}: put {line.strip()!r} into a fenced block"


def _write(block: Block) -> None:
    if block.directive == "file":
        path = Path(block.note)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")


def _exists(words: list[str]) -> None:
    """Files of the repository that a command names exist, and so do the values of a recipe that it sets."""
    for word in words:
        if word.startswith(("recipes/", "suites/", "examples/")):
            assert (PROJECT / word).exists(), word
    if words[0] == "train" and words[1].startswith("recipes/"):
        sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
        overridden(read_train_recipe(PROJECT / words[1]), dict(map(_value, sets)))
