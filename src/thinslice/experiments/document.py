"""Documents of experiments: parts of text, tables and figures, rendered as Markdown and as one HTML page.

Benchmark, domain gap and clinical check each compile a `Document`; its rendering and its files are common to all.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from thinslice.about import NOTICE, __version__
from thinslice.errors import OutputError
from thinslice.options import option
from thinslice.system.atomic import atomic_file

_MADE_FROM = re.compile(r"<!-- made from [^>]*, SHA-256 ([0-9a-f]{64}) -->\s*\Z")

Cells = Sequence[str]
"""One line of a table."""


@dataclass(frozen=True)
class Picture:
    """A figure, which Markdown leaves out.

    Attributes:
        name: of its file, without suffix.
        title: heading.
        text: description, a sentence or two; also the alternative text.
        png: the picture.
        dark: whether it has a dark ground.
    """

    kind: ClassVar[str] = "picture"

    name: str
    title: str
    text: str
    png: bytes
    dark: bool = False

    @property
    def base64(self) -> str:
        """The picture for a page that holds its pictures."""
        return base64.b64encode(self.png).decode("ascii")


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        heads: of the columns; none for pairs of name and value, a list in Markdown.
        lines: cells.
        caption: above it; may be empty.
        style: "" or "published", for numbers that were not measured here.
    """

    heads: Cells
    lines: Sequence[Cells]
    caption: str = ""
    style: str = ""


@dataclass(frozen=True)
class Section:
    """A titled part: tables, then notes."""

    kind: ClassVar[str] = "section"

    title: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Warnings:
    """Sentences that a reader of the tables needs; left out where there are none."""

    kind: ClassVar[str] = "warnings"

    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Heading:
    """A heading above the parts that follow it."""

    kind: ClassVar[str] = "heading"

    title: str


Part = Picture | Section | Warnings | Heading


@dataclass(frozen=True)
class Document:
    """A title, one sentence about the experiment, and parts in order."""

    title: str
    lead: str
    parts: tuple[Part, ...]

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """Its figures in order."""
        return tuple(part for part in self.parts if isinstance(part, Picture))


def to_markdown(document: Document) -> str:
    """A document as Markdown, without its figures.

    >>> facts = Section("Provenance", (Table((), [("seed", "0")]),))
    >>> print(to_markdown(Document("Suite", "Two cases.", (facts,))).splitlines()[-1])
    - seed: 0
    """
    paragraphs = [f"# {document.title}", f"> {NOTICE}", document.lead]
    level = "##"
    for part in document.parts:
        match part:
            case Heading():
                paragraphs.append(f"## {part.title}")
                level = "###"
            case Warnings():
                paragraphs += [f"- {sentence}" for sentence in part.sentences]
            case Section():
                paragraphs.append(f"{level} {part.title}")
                for table in part.tables:
                    paragraphs += [f"**{table.caption}**"] if table.caption else []
                    if table.heads:
                        paragraphs.append(markdown_table(table.heads, table.lines))
                    else:
                        paragraphs += [f"- {name}: {value}" for name, value in table.lines]
                paragraphs += part.notes
            case Picture():
                pass
    return _joined([paragraph for paragraph in paragraphs if paragraph])


def to_html(document: Document) -> str:
    """A document as one self-contained page: no script, nothing loaded from elsewhere, every value escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("thinslice.experiments"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("document.html.j2")
    return page.render(document=document, notice=NOTICE, version=__version__)


def stamped(text: str, source: str, content: str) -> str:
    """A Markdown or HTML text that ends in a comment with the digest of the JSON file of the same results.

    Files that belong together are renamed one after the other, so a kill in between leaves the older one of some: the
    digest shows which.

    Args:
        text: of the document.
        source: name of the JSON file.
        content: of the JSON file.

    >>> stamped("# Table", "results.json", "{}").splitlines()[1][:46]
    '<!-- made from results.json, SHA-256 44136fa35'
    """
    digest = hashlib.sha256(content.encode()).hexdigest()
    return f"{text.rstrip()}\n<!-- made from {source}, SHA-256 {digest} -->\n"


def is_made_from(document: Path, source: Path) -> bool:
    """Whether a document that `stamped` has marked, and the JSON file, are of the same results.

    Args:
        document: Markdown or HTML; one without a mark counts as made from something else.
        source: the JSON file.

    Raises:
        OSError: one of them cannot be read.
    """
    mark = _MADE_FROM.search(document.read_text(encoding="utf-8"))
    return mark is not None and mark[1] == hashlib.sha256(source.read_bytes()).hexdigest()


def write_files(out: Path, texts: Mapping[str, str], pictures: Sequence[Picture]) -> None:
    """Write texts by file name, and pictures into the folder figures.

    Markdown and HTML state the digest of the JSON among the texts (`stamped`), which is written last.

    Raises:
        OutputError, ResourceError: they cannot be written.
    """
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot make the folder {out.name!r}; choose another {option('out')}.") from error
    for picture in pictures:
        with atomic_file(out / "figures" / f"{picture.name}.png", overwrite=True) as part:
            part.write_bytes(picture.png)
    source = next(name for name in texts if name.endswith(".json"))
    for name in sorted(texts, key=source.__eq__):
        text = texts[name]
        if name.endswith((".md", ".html")):
            text = stamped(text, source, texts[source])
        with atomic_file(out / name, overwrite=True) as part:
            part.write_text(text, encoding="utf-8")


def markdown_table(heads: Cells, lines: Sequence[Cells]) -> str:
    """A Markdown table; bars inside cells are escaped.

    >>> print(markdown_table(["a", "b"], [["1", "x|y"]]))
    | a | b |
    |---|---|
    | 1 | x\\|y |
    """
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in (heads, *lines)]
    text = ["| " + " | ".join(line) + " |" for line in escaped]
    return "\n".join([text[0], "|" + "---|" * len(heads), *text[1:]])


def _joined(paragraphs: Sequence[str]) -> str:
    """Paragraphs with empty lines between them, items of a list without."""
    text = ""
    for before, part in zip(("", *paragraphs), paragraphs, strict=False):
        text += ("\n" if before.startswith("- ") and part.startswith("- ") else "\n\n" if text else "") + part
    return text + "\n"
