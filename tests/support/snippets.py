"""Fenced blocks of the documentation, and what runs them.

A comment on the line above a block changes what happens to it:

    <!-- not run: REASON -->    its commands are parsed, not run
    <!-- heavy: REASON -->      it is run by the tests marked heavy only
    <!-- file: NAME -->         it is written to that file, relative to where the page's blocks run
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from typer.main import get_command

from thinslice.cli import main
from thinslice.cli.app import app

PROJECT = Path(__file__).resolve().parents[2]
DOCS = PROJECT / "docs"
RUN = ("bash", "python")
"""Languages whose blocks are run."""

_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```[ ]*$", re.MULTILINE | re.DOTALL)
_DIRECTIVE = re.compile(r"<!-- (not run|heavy|file): (.+?) -->\s*\Z")
_SHELL = re.compile(r"[|&;<>$`*?(){}]|\b(for|if|while|do|done)\b")


@dataclass(frozen=True)
class Block:
    """One fenced block of a page.

    Attributes:
        page: its file.
        line: the first line of its content, counted from 1.
        language: the word behind the fence, or "".
        text: its content.
        directive: "not run", "heavy", "file" or "".
        note: the reason of the directive, or the file's name.
    """

    page: Path
    line: int
    language: str
    text: str
    directive: str
    note: str


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in _FENCE.finditer(text):
        directive = _DIRECTIVE.search(text[: fence.start()])
        kind, note = (directive.group(1), directive.group(2)) if directive else ("", "")
        line = text.count("\n", 0, fence.start(3)) + 1
        found.append(Block(page, line, fence.group(2), fence.group(3), kind, note))
    return found


def commands(text: str) -> list[list[str]]:
    """The `thinslice` and `torchrun` commands of a shell block, each as words without the program's name.

    >>> commands("thinslice train a.toml \\\\\\n    --data .   # all of it\\npip install x")
    [['train', 'a.toml', '--data', '.']]
    """
    found = []
    for line in _lines(text):
        words = [*takewhile(lambda word: word not in (">", ">>", "|", "||", "&&"), shlex.split(line, comments=True))]
        if "thinslice" in words and words[0] in ("thinslice", "torchrun"):
            found.append(words[words.index("thinslice") + 1 :])
        elif words and words[0].endswith("/thinslice"):
            found.append(words[1:])
    return found


def parsed(words: list[str]) -> None:
    """Parse a command's options and arguments without running it.

    Raises:
        click.exceptions.UsageError: for a command, option or value that does not exist.
    """
    command: Any = get_command(app)
    context = None
    # As a shell puts values in the place of its variables.
    words = [re.sub(r"\$\{?\w+\}?", "value", word) for word in words]
    while True:
        context = command.make_context(command.name or "thinslice", list(words), parent=context)
        if not hasattr(command, "commands"):
            return
        rest = [*getattr(context, "_protected_args", []), *context.args]
        if not rest:
            return
        _, command, words = command.resolve_command(context, rest)


class Runner:
    """Runs the blocks of one page, one after the other, in the current folder.

    Commands of `thinslice` run in this process, so that torch is loaded once; lines that need a shell run in bash, and
    so does everything with `shell`. Python blocks of a page share their names.

    Args:
        programs: a folder for `thinslice` and `python`, put first on PATH for bash.
        shell: run every line in bash, as a reader would.
    """

    def __init__(self, programs: Path, *, shell: bool = False) -> None:
        self.shell = shell
        self.names: dict[str, Any] = {"__name__": "__main__"}
        programs.mkdir(parents=True, exist_ok=True)
        for name, words in (("thinslice", "-m thinslice"), ("python", ""), ("python3", "")):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n', encoding="utf-8")
            program.chmod(program.stat().st_mode | stat.S_IXUSR)
        search = os.pathsep.join((str(PROJECT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])))
        self.environment = {
            **os.environ,
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": search,
            "MPLBACKEND": "Agg",
        }

    def run(self, block: Block) -> None:
        """Run one block; an exit code other than 0 and an exception fail the test, naming page and line."""
        place = f"{block.page.relative_to(PROJECT)}:{block.line}"
        if block.language == "python":
            self._python(block, place)
        elif self.shell or any(_SHELL.search(line) or not line.startswith("thinslice ") for line in _lines(block.text)):
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.text],
                env=self.environment, capture_output=True, text=True, check=False, timeout=600,
            )  # fmt: skip
            assert done.returncode == 0, f"{place}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        else:
            for words in commands(block.text):
                self._command(words, place)

    def _python(self, block: Block, place: str) -> None:
        if self.shell:
            script = Path("snippet.py")
            with script.open("a", encoding="utf-8") as file:
                file.write(block.text)
            done = subprocess.run(
                [sys.executable, str(script)],
                env=self.environment, capture_output=True, text=True, check=False, timeout=600,
            )  # fmt: skip
            assert done.returncode == 0, f"{place}\n{done.stderr}"
        else:
            code = compile("\n" * (block.line - 1) + block.text, place, "exec")
            exec(code, self.names)  # noqa: S102 - the repository's own pages

    def _command(self, words: list[str], place: str) -> None:
        with warnings.catch_warnings():
            try:
                main(words)
            except SystemExit as leaving:
                assert not leaving.code, f"{place}: thinslice {' '.join(words)}: exit code {leaving.code}"


def _lines(text: str) -> Iterator[str]:
    """The lines of a shell block, continuations joined, without empty ones and comments."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()
