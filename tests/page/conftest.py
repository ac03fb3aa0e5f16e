"""The built page, and a browser for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.browser import running_browser
from support.skips import PAGE


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as started:
        yield started


@pytest.fixture(scope="session")
def built() -> Path:
    """The folder that `make page` fills."""
    if not (PAGE / "thinslice.html").is_file():
        pytest.skip("the page is not built: make page")
    return PAGE
