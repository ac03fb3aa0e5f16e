"""Links, pictures, navigation, and names of modules and files in the documentation lead somewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.snippets import DOCS, PROJECT

GENERATED = ("reference/command-line.md", "project/")
"""Pages that tools/generate_docs.py makes; git does not hold them."""

_CODE = re.compile(r"^( *)```.*?^\1```[ ]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_MODULE = re.compile(r"`(thinslice(?:\.\w+)+)[`(]")
_PATH = re.compile(
    r"(?<![\w/.\-])((?:src/thinslice|tests|docs|tools|speed|trials|recipes|suites|examples|constraints)/[\w./\-]+\.\w+)"
)
_ABBREVIATED = re.compile(
    r"`((?:cli|commands|experiments|training|evaluation|data|inference|io|models|pictures|planning|recipes|system)"
    r"/[\w/]+\.py|[a-z_]+\.py)(?:`|:)"
)


def _handwritten() -> list[Path]:
    pages = [page for page in DOCS.rglob("*.md") if not page.relative_to(DOCS).as_posix().startswith(GENERATED)]
    names = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
    return sorted([*pages, *(PROJECT / name for name in names), *(PROJECT / "examples").rglob("*.md")])


PAGES = _handwritten()
IDS = [page.relative_to(PROJECT).as_posix() for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_and_pictures_exist(page: Path) -> None:
    text = _CODE.sub("", page.read_text(encoding="utf-8"))
    for target in _LINK.findall(text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if file.is_relative_to(DOCS) and file.relative_to(DOCS).as_posix().startswith(GENERATED):
            continue
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in _anchors(file), f"{page.name}: {target}"


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    listed = set(_entries(yaml.safe_load((PROJECT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    there = {page.relative_to(DOCS).as_posix() for page in PAGES if page.is_relative_to(DOCS)}
    generated = {entry for entry in listed if entry.startswith(GENERATED)}
    assert listed - generated == there
    assert "reference/command-line.md" in generated and "project/architecture.md" in generated


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_modules_and_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in _MODULE.findall(text):
        assert _is_name(name), f"{page.name}: {name}"
    for path in _PATH.findall(text):
        assert page.name == "CHANGELOG.md" or _exists_or_is_pattern(path), f"{page.name}: {path}"
    if page.name in ("ARCHITECTURE.md", "CONTRIBUTING.md"):
        for path in _ABBREVIATED.findall(text):
            assert _exists_or_is_pattern(path), f"{page.name}: {path}"


def test_every_package_has_its_line_in_the_architecture() -> None:
    text = (PROJECT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    package = PROJECT / "src" / "thinslice"
    names = [path.name for path in package.iterdir() if (path / "__init__.py").is_file()]
    assert len(names) > 10
    assert [name for name in names if f"`{name}/`" not in text] == []


def test_layers_of_the_architecture_are_those_that_are_checked() -> None:
    import tomllib

    text = (PROJECT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = next(contract["layers"] for contract in contracts["contracts"] if contract["type"] == "layers")
    assert "\n".join(f"    {layer}" for layer in layers) in text


def test_the_api_page_lists_every_public_name() -> None:
    import thinslice

    page = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^        - (\w+)$", page, re.MULTILINE)
    assert sorted([*listed, "NOTICE", "ThinsliceError", "ThinsliceWarning", "__version__"]) == sorted(thinslice.__all__)
    for name in re.findall(r"^::: ([\w.]+)$", page, re.MULTILINE):
        assert _is_name(name), name


def _anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as Markdown's own rule makes them."""
    headings = re.findall(r"^#+ +(.+?) *$", _CODE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    words = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", heading) for heading in words}


def _entries(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for value in nav.values():
            yield from _entries(value)
    else:
        for item in nav:
            yield from _entries(item)


def _is_name(name: str) -> bool:
    """Whether a dotted name is a module, or a module's attribute: by files, so that nothing heavy is loaded."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        base = PROJECT / "src" / Path(*parts[:count])
        file = base.with_suffix(".py") if base.with_suffix(".py").is_file() else base / "__init__.py"
        if file.is_file():
            rest = parts[count:]
            return all(re.search(rf"\b{re.escape(part)}\b", file.read_text(encoding="utf-8")) for part in rest)
    return False


def _exists_or_is_pattern(path: str) -> bool:
    """Whether a path exists in the repository or the package; NAME stands for any, as in `recipes/NAME.toml`."""
    places = (PROJECT, PROJECT / "src" / "thinslice")
    return "NAME" in path or any((place / path.rstrip(".")).exists() for place in places)
