"""A browser without a window: Chromium of the system, driven by Playwright; any fault of a page fails the test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
"""Names under which systems install Chromium."""

AXE_SCRIPT = Path(__file__).parents[2] / "viewer" / "node_modules" / "axe-core" / "axe.min.js"
"""The checker of accessibility, where the viewer's own tools are installed."""

# WebGL2 by software: the tests need no graphics hardware, and give the same pixels everywhere.
SOFTWARE_GRAPHICS = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")

# No sandbox, as tests may run as root in a container; nothing that would call the network.
ISOLATED = (
    "--no-sandbox",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
)


def chromium_program() -> str | None:
    """Path of the system's Chromium, or None."""
    return next((path for path in map(shutil.which, PROGRAMS) if path is not None), None)


@contextmanager
def running_browser() -> Iterator[Any]:
    """A browser.

    Skips where Playwright or Chromium is missing: `apt-get install chromium`.
    """
    pytest.importorskip("playwright")
    from playwright.sync_api import sync_playwright

    program = chromium_program()
    if program is None:
        pytest.skip("no program chromium: apt-get install chromium")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=[*SOFTWARE_GRAPHICS, *ISOLATED])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def watched_page(browser: Any, **options: Any) -> Iterator[Any]:
    """A page of a browser; errors of its scripts, messages on its console and requests fail the test at its end.

    Attributes of the page that the block may read: `requested`, the addresses that were asked for, in order.

    Args:
        browser: from `running_browser`.
        options: of the context: viewport, has_touch, ...
    """
    context = browser.new_context(**{"viewport": {"width": 1200, "height": 800}} | options)
    page = context.new_page()
    faults: list[str] = []
    page.requested = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: faults.extend([] if _is_harmless(message.text) else [message.text]))
    page.on("request", lambda request: page.requested.append(request.url))
    try:
        yield page
        if faults:
            pytest.fail(f"The page reported: {faults}")
    finally:
        context.close()


def barriers(page: Any) -> list[str]:
    """What the checker axe finds wrong with the accessibility of a page; skips where it is not installed."""
    if not AXE_SCRIPT.is_file():
        pytest.skip("axe-core is not installed: run npm ci in viewer/")
    page.evaluate(AXE_SCRIPT.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    return [f"{fault['id']}: {fault['nodes'][0]['html'][:120]}" for fault in found]


def _is_harmless(text: str) -> bool:
    """The driver's advice that reading pixels waits for them, which is what the tests want."""
    return "GPU stall due to ReadPixels" in text


def address_of(path: Path) -> str:
    """The address of a file on the disk."""
    return path.resolve().as_uri()
