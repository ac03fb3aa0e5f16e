"""Pages of the documentation site that are made from other files: the command line, model cards, the project's own.

    python tools/generate_docs.py

Writes docs/reference/command-line.md from the commands themselves, docs/reference/model-cards.md from the schema of
cards, and docs/project/ from ARCHITECTURE.md and its neighbours. Git ignores all but the page of model cards, which a
test compares with the schema; `make docs` runs this before the site is built.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer.main

from thinslice.cli.app import app
from thinslice.recipes.model_card import PARTS

PROJECT = Path(__file__).resolve().parents[1]
DOCS = PROJECT / "docs"
PROJECT_PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "SUPPORT.md")

_LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
_WIDTH = 100
_HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
_COMMAND_LINE_HEAD = """# Command line

Made from the commands of this version. Every command ends with one of these [exit codes](exit-codes.md); the same text
is printed by `thinslice COMMAND --help`.
"""


def command_line() -> str:
    """The page of the command line: one section a command, with the text of its `--help`."""
    parts = [_COMMAND_LINE_HEAD]
    for path, command in commands(typer.main.get_command(app), ("thinslice",)):
        command.epilog = None  # exit codes and notice would stand below every command
        context = command.context_class(
            command, info_name=" ".join(path), terminal_width=_WIDTH, max_content_width=_WIDTH, **_HELP
        )
        parts.append(f"## {' '.join(path)}\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
    return "\n".join(parts)


def commands(command: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    """A command of the program and all commands below it, each with its words."""
    found = [(path, command)]
    for name, inner in getattr(command, "commands", {}).items():
        if not inner.hidden:
            found += commands(inner, (*path, name))
    return found


def project_page(name: str) -> str:
    """One of the project's own pages, its links seen from docs/project/.

    Links to pages of the site stay links; links to other files of the repository become their paths, because the site
    does not hold these files.
    """

    def turned(link: re.Match[str]) -> str:
        text, target, anchor = link.group(1), link.group(2), link.group(3) or ""
        if "://" in target:
            return link.group(0)
        if target in PROJECT_PAGES:
            return f"[{text}]({target.lower()}{anchor})"
        if target.startswith("docs/") and target.endswith(".md"):
            return f"[{text}](../{target.removeprefix('docs/')}{anchor})"
        return text if text == target else f"{text} (`{target}`)"

    return _LINK.sub(turned, (PROJECT / name).read_text(encoding="utf-8"))


_MODEL_CARDS_HEAD = """# Model cards

Made from the schema of this version, `thinslice.recipes.model_card`. Every weights file holds a card in its metadata;
`thinslice models show NAME --json` prints it under `card`, and the `[card]` of a [training recipe](recipes.md) is
copied into it. Entries that are not listed are kept. All text is bounded and printable: 20,000 characters each, 1 MiB
together.
"""


def model_cards() -> str:
    """The page of model cards: a table for each part of the schema."""
    parts = [_MODEL_CARDS_HEAD]
    for title, model in PARTS:
        rows = "\n".join(
            f"| `{name}` | {_type_of(schema)} | {schema['description']} |"
            for name, schema in model.model_json_schema()["properties"].items()
        )
        parts.append(f"## {title}\n\n| entry | type | content |\n|---|---|---|\n{rows}\n")
    return "\n".join(parts)


def _type_of(schema: dict[str, Any]) -> str:
    """A JSON type in words, without the null of entries that may be missing."""
    kinds = [_type_of(each) for each in schema.get("anyOf", ())]
    if kinds:
        return " or ".join(kind for kind in kinds if kind != "null")
    if "$ref" in schema or schema["type"] == "object":
        return "table"
    if schema["type"] == "array":
        return f"list of {_type_of(schema['items'])}s"
    return {"integer": "whole number", "string": "text"}.get(schema["type"], schema["type"])


def main() -> None:
    """Write the pages."""
    (DOCS / "reference" / "model-cards.md").write_text(model_cards(), encoding="utf-8")
    (DOCS / "reference" / "command-line.md").write_text(command_line(), encoding="utf-8")
    (DOCS / "project").mkdir(exist_ok=True)
    for name in PROJECT_PAGES:
        (DOCS / "project" / name.lower()).write_text(project_page(name), encoding="utf-8")


if __name__ == "__main__":
    main()
