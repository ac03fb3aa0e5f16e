"""End to end in headless Chromium: drop, choose, wait, download, compare; by keyboard alone; no request elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.browser import barriers, running_browser
from support.command_line import Run
from support.dicom_factory import write_series
from support.served import EPOCH, Served, served

pytestmark = pytest.mark.heavy

LONG_MS = 600_000
"""A bound, not a measurement: a machine may be slow."""

SCRIPT = "<img src=x onerror=document.title='taken'>"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")

    def spoil(dataset, k: int) -> None:
        dataset.ConvolutionKernel = "<b>B30f</b>"
        dataset.ManufacturerModelName = SCRIPT

    write_series(folder / "allowed" / "in", shape=(4, 24, 20), edit=spoil)
    return folder


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[Served]:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with served(place / "data", "--allow", place / "allowed") as made:
        yield made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running_browser() as opened:
        yield opened


@contextmanager
def opened_page(browser: Any, server: Served, faults: list[str]) -> Iterator[Any]:
    """The page, opened by the address with the token; errors, and requests elsewhere, are added to `faults`."""
    context = browser.new_context(viewport={"width": 1024, "height": 768}, accept_downloads=True)
    opened = context.new_page()
    opened.set_default_timeout(LONG_MS)
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    opened.on(
        "request",
        lambda request: None if request.url.startswith((server.base, "blob:", "data:")) else faults.append(request.url),
    )
    opened.goto(server.address)
    opened.wait_for_selector("body[data-ready]")
    yield opened
    context.close()


@pytest.fixture
def page(browser: Any, server: Served) -> Iterator[Any]:
    """The page; fails on any error and on any request elsewhere."""
    faults: list[str] = []
    with opened_page(browser, server, faults) as opened:
        yield opened
    assert faults == []


def drop(page: Any, folder: Path) -> None:
    """Drop the files of a folder on the drop area, as the browser's events do."""
    files = [{"name": path.name, "data": list(path.read_bytes())} for path in sorted(folder.iterdir())]
    transfer = page.evaluate_handle(
        """(files) => {
            const transfer = new DataTransfer();
            for (const {name, data} of files) transfer.items.add(new File([new Uint8Array(data)], name));
            return transfer;
        }""",
        files,
    )
    page.dispatch_event("#drop", "drop", {"dataTransfer": transfer})


def test_a_series_is_dropped_upscaled_and_downloaded_as_by_the_command_line(
    page: Any, place: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "token" not in page.url
    assert "not a medical device" in page.inner_text("#notice")
    drop(page, place / "allowed" / "in")
    page.wait_for_selector("input[name=series]:checked")
    row = page.inner_text("#sources tbody tr")
    assert "<b>B30f</b>" in row and "factor 5" in row
    page.select_option("#model", "cubic")
    page.click("#go")
    page.wait_for_selector("#jobs article .good")
    with page.expect_download() as fetched:
        page.click("#jobs a:text-is('NIfTI')")
    fetched.value.save_as(tmp_path / "fetched.nii.gz")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)
    thin = tmp_path / "thin.nii.gz"
    assert run("upscale", place / "allowed" / "in", thin, "--model", "cubic", "--threads", "1").code == 0
    assert (tmp_path / "fetched.nii.gz").read_bytes() == thin.read_bytes()
    with page.context.expect_page() as opened:
        page.click("#jobs a:text-is('Report')")
    opened.value.wait_for_load_state()
    assert "thinslice" in opened.value.title()
    assert page.title() != "taken"


def test_the_viewer_shows_slices_as_they_arrive(page: Any, place: Path) -> None:
    from thinslice.service.app import VIEWER

    if not VIEWER.is_file():
        pytest.skip("no viewer in this installation")
    drop(page, place / "allowed" / "in")
    page.wait_for_selector("input[name=series]:checked")
    page.select_option("#model", "default")
    page.click("#go")
    page.click("#jobs article:first-child button:text-is('View')")
    page.wait_for_selector("#viewer .ts-viewer canvas")
    page.wait_for_selector("#jobs article:first-child .good")
    page.wait_for_function("() => document.querySelector('#viewer .ts-progress').textContent === ''")
    assert "Thin (synthesised)" in page.inner_text("#viewer .ts-readout")
    page.click("#viewer-close")
    assert page.locator("#viewer .ts-viewer").count() == 0


def test_the_keyboard_alone_chooses_upscales_and_removes(page: Any) -> None:
    def reach(selector: str) -> None:
        for _ in range(200):
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not reach {selector}")

    page.focus("body")
    for selector in ("#browse", "#folders li button"):
        reach(selector)
        page.keyboard.press("Enter")
        page.wait_for_selector("#folders")
    page.wait_for_selector("#folders button.main")
    reach("#folders button.main")
    sources = page.locator("#sources article").count()
    page.keyboard.press("Enter")
    page.wait_for_function("(count) => document.querySelectorAll('#sources table').length > count - 1", arg=sources + 1)
    page.focus("body")
    reach("#sources input[type=radio]")
    page.keyboard.press("Space")
    reach("#model")
    page.keyboard.type("nearest")
    reach("#go")
    before = page.locator("#jobs article").count()
    page.keyboard.press("Enter")
    page.wait_for_function("(count) => document.querySelectorAll('#jobs article').length > count", arg=before)
    page.wait_for_selector("#jobs article:first-child .good")
    reach("#jobs article:first-child button[id^=end]")
    page.keyboard.press("Enter")
    page.wait_for_function("(count) => document.querySelectorAll('#jobs article').length === count", arg=before)
    # The list may be drawn by the event of the change, before the answer is announced.
    page.locator("#status").get_by_text("was removed").wait_for()


def test_an_accessibility_checker_finds_nothing(page: Any, place: Path) -> None:
    drop(page, place / "allowed" / "in")
    page.wait_for_selector("input[name=series]:checked")
    page.click("summary")
    for width in (1280, 768):
        page.set_viewport_size({"width": width, "height": 1024})
        assert barriers(page) == []
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0


def test_a_page_goes_on_when_the_server_is_killed_and_started_again(browser: Any, place: Path, server: Served) -> None:
    faults: list[str] = []
    with opened_page(browser, server, faults) as page:
        drop(page, place / "allowed" / "in")
        page.wait_for_selector("input[name=series]:checked")
        page.select_option("#model", "fast")
        page.click("#go")
        page.wait_for_selector("#jobs article")
        server.kill()
        page.wait_for_selector("#problem:not([hidden])")
        server.start()
        page.wait_for_selector("#jobs article:first-child .good")
        page.wait_for_selector("#problem", state="hidden")
    assert faults and all("net::ERR_" in fault for fault in faults)


def test_an_address_without_the_token_shows_what_to_do(browser: Any, server: Served) -> None:
    context = browser.new_context()
    opened = context.new_page()
    answer = opened.goto(server.base + "/")
    assert answer.status == 401 and "thinslice serve" in opened.inner_text("body")
    context.close()
