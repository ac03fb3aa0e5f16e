"""A browser for all tests of a module, and a page with a viewer in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.browser import address_of, running_browser, watched_page
from thinslice.pictures.viewer.bundle import script


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as started:
        yield started


@pytest.fixture
def blank(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """An empty page that has the viewer's script."""
    path = tmp_path / "blank.html"
    path.write_text('<!doctype html><title>t</title><style>html,body{height:100%;margin:0}</style><body id="here">')
    with watched_page(browser, viewport={"width": 800, "height": 600}) as page:
        page.goto(address_of(path))
        page.add_script_tag(content=script())
        yield page
