"""Pages that hold the viewer and both volumes: what stands in them, and what a reader can do with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from support.browser import address_of, barriers, watched_page
from support.open_viewer import held
from thinslice.about import NOTICE
from thinslice.errors import OutputExistsError, UsageError
from thinslice.geometry import Geometry
from thinslice.pictures.viewer.page import ViewerPage, packed_bytes, reduced, reduced_grid, unpacked
from thinslice.volume import Volume

FACTS = (("Network", "<script>alert(1)</script></script>"), ("Factor", "5"))


def volumes() -> tuple[Volume, npt.NDArray[np.int16]]:
    """A chest in small: soft tissue around lungs, with bone; thick and thin."""
    depth, height, width = 9, 48, 64
    hu = np.full((depth, height, width), -1000, np.int16)
    hu[:, 8:42, 6:58] = 40
    hu[:, 14:34, 12:28] = hu[:, 14:34, 36:52] = -850
    hu[:, 36:40, 28:36] = 700
    hu[3:5, 20:24, 18:22] = 30
    hu += np.random.default_rng(1).integers(-15, 15, hu.shape).astype(np.int16)
    thick = Volume(hu, Geometry(hu.shape, (5.0, 5.0, 5.0), (-160.0, -120.0, 50.0)))
    return thick, np.repeat(hu, 5, axis=0)[2:-2]


def page_of(thick: Volume, thin: npt.NDArray[np.int16], **options: Any) -> ViewerPage:
    """A finished page."""
    page = ViewerPage(thick, thick.geometry.thin_grid(5), **options)
    for start in range(0, len(thin), 7):
        slab = thin[start : start + 7]
        deviation = np.abs(slab) / np.float32(50) if options.get("deviation") else None
        page.add(start, slab, deviation)
    return page


def test_packing_loses_nothing() -> None:
    voxels = np.random.default_rng(0).integers(-32768, 32767, (3, 4, 5)).astype(np.int16)
    np.testing.assert_array_equal(unpacked(packed_bytes(voxels), (3, 4, 5)), voxels)


def test_a_page_holds_both_volumes_and_the_notice() -> None:
    thick, thin = volumes()
    html = page_of(thick, thin, deviation=True).html(FACTS)
    options, found = held(html)
    np.testing.assert_array_equal(found["thick"], thick.hu)
    np.testing.assert_array_equal(found["thin"], thin)
    np.testing.assert_allclose(found["deviation"] * options["deviationStepHu"], np.abs(thin) / 50, atol=0.26)
    assert options["notice"] == NOTICE and NOTICE in html
    assert options["facts"] == [list(fact) for fact in FACTS]
    assert options["thin"]["originMm"] == [-160.0, -120.0, 50.0]


def test_values_that_16_bits_do_not_hold_are_moved_to_the_border() -> None:
    thick, thin = volumes()
    wild = replace(thick, hu=np.where(thick.hu > 600, 1e6, thick.hu + 0.25).astype(np.float32))
    _, found = held(page_of(wild, thin).html())
    assert found["thick"].max() == 32767
    np.testing.assert_array_equal(found["thick"][thick.hu <= 600], thick.hu[thick.hu <= 600])


def test_a_page_above_its_limit_is_reduced_as_a_whole() -> None:
    thick, thin = volumes()
    page = page_of(thick, thin, limit_bytes=50_000)
    assert page.reduction == 2
    options, found = held(page.html())
    assert options["reducedBefore"] == 2
    np.testing.assert_array_equal(found["thin"], reduced(thin, 2))
    np.testing.assert_array_equal(found["thick"], reduced(thick.hu, 2))
    assert options["thin"]["originMm"] == list(reduced_grid(thick.geometry, 2).origin_mm)


def test_slabs_come_in_order_and_complete() -> None:
    thick, thin = volumes()
    page = ViewerPage(thick, thick.geometry.thin_grid(5))
    page.add(0, thin[:10])
    with pytest.raises(UsageError, match="holds 10 of 41"):
        page.html()
    with pytest.raises(UsageError, match="does not follow"):
        page.add(11, thin[11:])
    with pytest.raises(UsageError, match="standard deviations"):
        page.add(10, thin[10:], thin[10:])


def test_a_page_never_replaces_a_file_unasked(tmp_path: Path) -> None:
    thick, thin = volumes()
    page, path = page_of(thick, thin), tmp_path / "view.html"
    page.write(path)
    with pytest.raises(OutputExistsError):
        page.write(path)
    page.write(path, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["view.html"]


def test_the_same_volumes_give_the_same_page() -> None:
    thick, thin = volumes()
    assert page_of(thick, thin).html(FACTS) == page_of(thick, thin).html(FACTS)


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """A page from the disk, all slices shown, the first pane with the focus."""
    path = tmp_path / "view.html"
    thick, thin = volumes()
    page_of(thick, thin, deviation=True).write(path, FACTS)
    with watched_page(browser) as page:
        page.context.set_offline(True)
        page.goto(address_of(path))
        page.get_by_text("All slices have arrived.").wait_for(state="attached")
        yield page
        assert page.requested == [address_of(path)]


def label(page: Any) -> str:
    """What a screen reader reads of the axial pane."""
    return str(page.locator(".ts-pane").first.get_attribute("aria-label"))


def settled(page: Any) -> Any:
    """The page after it has drawn what was asked for."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return page


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)
    settled(page)


def test_a_page_opens_without_a_network_and_names_the_sides(opened: Any) -> None:
    letters = [pane.locator(".ts-letter").all_inner_texts() for pane in opened.locator(".ts-pane").all()]
    assert letters == [["R", "L", "A", "P"], ["R", "L", "H", "F"], ["A", "P", "H", "F"]]
    assert opened.locator(".ts-notice").inner_text() == NOTICE
    assert opened.locator(".ts-notice").is_visible()
    assert "L" in opened.locator(".ts-readout").inner_text()


def test_facts_are_text_whatever_they_hold(opened: Any) -> None:
    opened.get_by_role("button", name="About").click()
    assert opened.locator("dialog[open]").get_by_text(FACTS[0][1]).is_visible()


def test_everything_by_keyboard(opened: Any) -> None:
    assert label(opened).startswith("Axial, Thick (original) left, Thin (synthesised) right of the divider, slice 21")
    press(opened, "ArrowDown", "ArrowDown", "PageUp")
    assert "slice 29 of 41" in label(opened)
    press(opened, "1")
    assert opened.get_by_label("Window preset").input_value() == "Lung"
    press(opened, "]", "{")
    assert opened.get_by_label("Window preset").input_value() == "Free"
    press(opened, "v")
    assert opened.locator(".ts-pane").count() == 6
    press(opened, "o", "Space")
    assert "Thin (synthesised), slice" in label(opened)
    press(opened, "b", "p", "u", "g")
    assert opened.locator(".ts-plot").is_visible()
    assert opened.get_by_label("End of the scale: Thin \u2212 cubic, HU").is_visible()
    assert "mean 5.0 mm" in opened.locator(".ts-bottom").first.inner_text()
    press(opened, "m", *["Shift+ArrowRight"] * 4, "m")
    assert opened.locator(".ts-live").text_content() == "Distance 20.0 mm."
    assert opened.locator(".ts-length").first.text_content() == "20.0 mm"
    press(opened, "Delete", "Enter")
    assert opened.locator(".ts-length").count() == 0 and opened.locator(".ts-pane").count() == 1
    press(opened, "Shift+?")
    assert opened.get_by_role("dialog", name="Keys").is_visible()
    press(opened, "Escape")
    assert opened.get_by_role("dialog", name="Keys").count() == 0


def test_the_order_of_the_focus_is_that_of_the_page(opened: Any) -> None:
    opened.get_by_role("button", name="Keys", exact=True).focus()
    names = []
    for _ in range(4):
        press(opened, "Tab")
        names.append(str(opened.evaluate("document.activeElement.getAttribute('aria-label')")))
    assert [name.split(",")[0] for name in names] == [
        "Axial",
        "Divider of the swipe",
        "Coronal",
        "Divider of the swipe",
    ]
    press(opened, "ArrowLeft")
    assert opened.evaluate("document.activeElement.getAttribute('aria-valuenow')") == "48"


def test_by_mouse(opened: Any) -> None:
    pane = opened.locator(".ts-pane").first
    box = pane.bounding_box()
    x, y = box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.6
    opened.mouse.move(x, y)
    opened.mouse.wheel(0, 100)
    settled(opened)
    assert "slice 20 of 41" in label(opened)
    assert opened.locator(".ts-readout").inner_text().startswith("Pointer")
    opened.mouse.click(x, y)
    opened.mouse.move(x + 3, y)
    settled(opened)
    opened.mouse.down(button="right")
    opened.mouse.move(x + 103, y)
    opened.mouse.up(button="right")
    settled(opened)
    assert opened.get_by_label("Width of the window, HU").input_value() == "600"
    opened.get_by_role("button", name="Measure").click()
    opened.mouse.move(x, y)
    opened.mouse.down()
    opened.mouse.move(x - 80, y - 60, steps=3)
    opened.mouse.up()
    settled(opened)
    shown = float(opened.locator(".ts-length").first.text_content().removesuffix(" mm"))
    # 64 x 48 voxels of 5 mm, with 4 % to spare.
    scale = min(box["width"] / 320, box["height"] / 240) * 0.96
    assert shown == pytest.approx(100 / scale, abs=0.1)
    opened.get_by_role("button", name="Crosshair").click()
    divider = opened.locator(".ts-divider").first.bounding_box()
    opened.mouse.move(divider["x"] + 14, divider["y"] + 30)
    opened.mouse.down()
    opened.mouse.move(box["x"] + box["width"] * 0.25, divider["y"] + 30)
    opened.mouse.up()
    settled(opened)
    assert opened.locator(".ts-divider").first.get_attribute("aria-valuenow") == "25"


def test_by_fingers(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "view.html"
    thick, thin = volumes()
    page_of(thick, thin).write(path)
    with watched_page(browser, viewport={"width": 800, "height": 1100}, has_touch=True, is_mobile=True) as page:
        page.goto(address_of(path))
        page.get_by_text("All slices have arrived.").wait_for(state="attached")
        session = page.context.new_cdp_session(page)

        def touch(kind: str, *points: tuple[float, float]) -> None:
            session.send(
                "Input.dispatchTouchEvent",
                {"type": kind, "touchPoints": [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]},
            )

        box = page.locator(".ts-pane").first.bounding_box()
        x, y = box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2
        touch("touchStart", (x, y))
        touch("touchMove", (x, y + 40))
        touch("touchEnd")
        settled(page)
        assert "slice 16 of 41" in label(page)
        before = page.locator(".ts-bar-text").first.text_content()
        touch("touchStart", (x, y), (x + 60, y))
        touch("touchMove", (x - 60, y), (x + 120, y))
        touch("touchMove", (x - 90, y), (x + 150, y))
        touch("touchEnd")
        settled(page)
        assert "slice 16 of 41" in label(page)
        # At four times the size a shorter bar fits.
        assert page.locator(".ts-bar-text").first.text_content() != before


def test_no_barrier_that_a_checker_finds(opened: Any) -> None:
    press(opened, "p", "u")
    for keys in ((), ("v",), ("Shift+?",)):
        press(opened, *keys)
        assert barriers(opened) == []


def test_a_browser_without_webgl_gets_a_sentence(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "view.html"
    thick, thin = volumes()
    page_of(thick, thin).write(path)
    with watched_page(browser) as page:
        page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
        page.goto(address_of(path))
        assert "no WebGL2" in page.get_by_role("alert").inner_text()
