"""The built page in headless Chromium: the same voxels and positions as the package, and no request elsewhere."""

from __future__ import annotations

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import nibabel as nib
import numpy as np
import pytest

import thinslice
from support.browser import address_of, barriers, watched_page
from support.dicom_factory import assert_no_canary, write_series
from support.scans import thick_scan, thin_scan
from thinslice.about import NOTICE
from thinslice.volume import Volume

LONG_MS = 900_000
"""A bound, not a measurement: a machine may be slow."""

LEAST_EQUAL = 0.9999
"""Share of voxels that two ways of adding the same numbers have to round alike."""

LEAST_EQUAL_IN_NOISY_AIR = 0.9995
"""The same where much noise reaches below the window: which voxels have room turns on the last bit of a sum. A network
output that is off by one unit in its last place changes 0.02 % of the voxels of such a scan, by 1 HU."""


@contextmanager
def opened(browser: Any, address: str) -> Iterator[Any]:
    """The page, ready for a scan."""
    with watched_page(browser, accept_downloads=True) as page:
        page.set_default_timeout(LONG_MS)
        page.goto(address)
        page.locator("body[data-ready]").wait_for()
        yield page


@contextmanager
def offline(browser: Any, built: Path) -> Iterator[Any]:
    """The page from the disk, without a network; a request for anything but itself fails the test."""
    address = address_of(built / "thinslice.html")
    with opened(browser, address) as page:
        page.context.set_offline(True)
        yield page
        # Workers are made from what the page holds.
        assert [each for each in page.requested if not each.startswith("blob:")] == [address]


def choose(page: Any, *paths: Path) -> None:
    """Choose files and wait until the page has read or refused them."""
    page.set_input_files("#files-input", [str(path) for path in paths])
    page.locator("#go:enabled, #problem:not([hidden]), #candidates:not([hidden])").first.wait_for()


def problem(page: Any) -> str:
    return str(page.locator("#problem").inner_text())


def run(page: Any, path: Path) -> None:
    """Make thin slices and save them to a path."""
    page.click("#go")
    page.locator("#save:enabled, #problem:not([hidden])").first.wait_for()
    assert not page.locator("#problem").is_visible(), problem(page)
    with page.expect_download() as download:
        page.click("#save")
    assert "upscaled" in download.value.suggested_filename
    assert_no_canary(download.value.suggested_filename)
    download.value.save_as(path)


def compare(found: Path, source: Path, folder: Path, *, least_equal: float = LEAST_EQUAL, **settings: Any) -> None:
    """Compare a file of the page with what the package makes of the same source."""
    expected = folder / "expected.nii.gz"
    thin = thinslice.upscale(source, device="cpu", backend="torch", **settings)
    thinslice.write(thin, expected)
    page_s, package_s = nib.load(found), nib.load(expected)
    np.testing.assert_allclose(page_s.affine, package_s.affine, atol=1e-4)
    for key in ("qform_code", "sform_code", "dim_info", "descrip"):
        np.testing.assert_array_equal(page_s.header[key], package_s.header[key], err_msg=key)
    for key in ("pixdim", "quatern_b", "quatern_c", "quatern_d"):
        np.testing.assert_allclose(page_s.header[key], package_s.header[key], atol=1e-6, err_msg=key)
    voxels, truth = np.asarray(page_s.dataobj), np.asarray(package_s.dataobj)
    assert voxels.dtype == truth.dtype and voxels.shape == truth.shape
    apart = np.abs(voxels.astype(np.float64) - truth)
    assert apart.max() <= 1.0
    assert np.mean(apart == 0) >= least_equal


def scan(folder: Path, factor: int = 5, *, metal: bool = False) -> Path:
    """A thick scan as NIfTI, with metal and padding where asked for."""
    thick = thick_scan(thin_scan(6 * factor + 6, 96), factor)
    if metal:
        hu = thick.hu.copy()
        hu[2:4, 40:44, 50:54] = 2900
        hu[:, :12, :12] = -2000
        thick = Volume(hu, thick.geometry)
    path = folder / "scan.nii.gz"
    thinslice.write(thick, path)
    return path


def test_a_nifti_becomes_what_the_package_makes_of_it(browser: Any, built: Path, tmp_path: Path) -> None:
    source = scan(tmp_path)
    with offline(browser, built) as page:
        assert page.locator("#notice").inner_text() == NOTICE
        choose(page, source)
        run(page, tmp_path / "found.nii.gz")
        assert page.locator("#viewer .ts-notice").inner_text() == NOTICE
        page.locator("#viewer").get_by_text("All slices have arrived.").wait_for(state="attached")
        assert barriers(page) == []
    compare(tmp_path / "found.nii.gz", source, tmp_path, model="fast", factor=5)


@pytest.mark.heavy
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_metal_and_padding_at_other_factors(browser: Any, built: Path, tmp_path: Path, factor: int) -> None:
    source = scan(tmp_path, factor, metal=True)
    with offline(browser, built) as page:
        choose(page, source)
        page.select_option("#network", "default")
        page.select_option("#factor", str(factor))
        run(page, tmp_path / "found.nii.gz")
        assert "interpolated source was blended back" in page.locator("#facts").inner_text()
    compare(
        tmp_path / "found.nii.gz",
        source,
        tmp_path,
        least_equal=LEAST_EQUAL_IN_NOISY_AIR,
        model="default",
        factor=factor,
    )


@pytest.mark.heavy
@pytest.mark.parametrize("orientation", ["axial", "feet_first", "oblique"])
def test_a_dicom_folder_becomes_what_the_package_makes_of_it(
    browser: Any, built: Path, tmp_path: Path, orientation: str
) -> None:
    folder = tmp_path / "series"
    hu = thick_scan(thin_scan(36, 64)).hu
    write_series(folder, shape=hu.shape, hu=hu, orientation=orientation, thickness_mm=7.5, file_order="shuffled")
    with offline(browser, built) as page:
        page.set_input_files("#folder-input", str(folder))
        page.locator("#go:enabled, #problem:not([hidden])").first.wait_for()
        assert "so they overlap" in page.locator("#scan").inner_text()
        run(page, tmp_path / "found.nii.gz")
        assert_no_canary(page.content())
    compare(tmp_path / "found.nii.gz", folder, tmp_path, model="fast", factor=5)


@pytest.mark.heavy
def test_several_series_are_offered_and_the_keyboard_is_enough(browser: Any, built: Path, tmp_path: Path) -> None:
    one, other = (
        write_series(tmp_path / f"s{n}", shape=(4 + n, 24, 32), seed=n, edit=numbered(n)).files for n in (1, 2)
    )
    with offline(browser, built) as page:
        choose(page, *one, *other)
        offered = page.locator("#candidates button").all_inner_texts()
        assert sorted(text.split(",")[0] for text in offered) == ["Series 1", "Series 2"]
        assert page.evaluate("document.activeElement.textContent") == offered[0]
        assert barriers(page) == []
        page.keyboard.press("Enter")
        page.locator("#go:enabled").wait_for()
        assert page.evaluate("document.activeElement.id") == "go"
        page.keyboard.press("Enter")
        page.locator("#save:enabled").wait_for()
        assert page.evaluate("document.activeElement.id") == "result-title"
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "save"
        with page.expect_download():
            page.keyboard.press("Enter")


@pytest.mark.heavy
def test_a_zip_of_dicom_becomes_what_the_package_makes_of_it(browser: Any, built: Path, tmp_path: Path) -> None:
    hu = thick_scan(thin_scan(31, 48)).hu
    folder = tmp_path / "series"
    write_series(folder, shape=hu.shape, hu=hu, file_order="shuffled")
    archive = Path(shutil.make_archive(str(tmp_path / "series"), "zip", folder))
    with offline(browser, built) as page:
        choose(page, archive)
        run(page, tmp_path / "found.nii.gz")
        (tmp_path / "bad.zip").write_bytes(archive.read_bytes()[:3000])
        choose(page, tmp_path / "bad.zip")
        assert "zip archive is damaged" in problem(page)
        assert_no_canary(page.content())
    compare(tmp_path / "found.nii.gz", folder, tmp_path, model="fast", factor=5)


@pytest.mark.heavy
def test_the_uncertainty_is_shown_and_saved(browser: Any, built: Path, tmp_path: Path) -> None:
    source = scan(tmp_path, metal=True)
    with offline(browser, built) as page:
        choose(page, source)
        assert page.locator("#uncertainty").is_disabled()
        page.select_option("#network", "default")
        page.check("#uncertainty")
        run(page, tmp_path / "found.nii.gz")
        page.locator("#viewer .ts-pane").first.focus()
        for overlay in ("Thin \u2212 cubic", "Uncertainty"):
            page.keyboard.press("u")
            page.locator("#viewer .ts-legend").get_by_text(overlay).wait_for()
        with page.expect_download() as download:
            page.click("#save-uncertainty")
        assert "uncertainty" in download.value.suggested_filename
        download.value.save_as(tmp_path / "deviation.nii.gz")
    compare(
        tmp_path / "found.nii.gz", source, tmp_path, least_equal=LEAST_EQUAL_IN_NOISY_AIR, model="default", factor=5
    )
    _, truth = thinslice.upscale_with_uncertainty(source, model="default", factor=5, device="cpu", backend="torch")
    deviation = np.asanyarray(nib.load(tmp_path / "deviation.nii.gz").dataobj).T
    assert deviation.shape == truth.shape and np.ptp(truth.hu) > 5
    # Standard deviations are multiples of 1/16 HU, so that two that nearly agree are at most a step apart.
    np.testing.assert_allclose(deviation, truth.hu, atol=1 / 16 + 0.01)
    assert np.abs(deviation - truth.hu).mean() < 0.01


def numbered(number: int) -> Any:
    """An edit that gives a series its number."""

    def edit(dataset: Any, _: int) -> None:
        dataset.SeriesNumber = number

    return edit


@pytest.mark.heavy
def test_what_is_no_regular_ct_is_refused(browser: Any, built: Path, tmp_path: Path) -> None:
    labels = nib.Nifti1Image(
        np.random.default_rng(0).integers(0, 4, (20, 20, 6)).astype(np.uint8), np.diag([1, 1, 5, 1])
    )
    nib.save(labels, tmp_path / "labels.nii")
    (tmp_path / "text.dcm").write_text("no image")
    thinslice.write(thick_scan(thin_scan(30, 32)), tmp_path / "whole.nii")
    (tmp_path / "cut.nii").write_bytes((tmp_path / "whole.nii").read_bytes()[:2000])
    gap = write_series(tmp_path / "gap", shape=(8, 24, 32), missing=(3,)).files
    tilted = write_series(tmp_path / "tilted", shape=(8, 24, 32), tilt_degrees=12.0).files
    single = write_series(tmp_path / "single", shape=(1, 24, 32)).files
    with offline(browser, built) as page:
        for paths, words in (
            ([tmp_path / "labels.nii"], "as in a segmentation"),
            ([tmp_path / "text.dcm"], "no CT slices"),
            ([tmp_path / "cut.nii"], "cannot hold"),
            ([tmp_path / "labels.nii", tmp_path / "whole.nii"], "choose one"),
            (gap, "equal distances"),
            (tilted, "gantry tilt"),
            (single, "one slice only"),
        ):
            choose(page, *paths)
            assert words in problem(page)
            assert page.locator("#go").is_disabled()
        # After all of these the page still works.
        choose(page, tmp_path / "whole.nii")
        assert page.locator("#go").is_enabled()


@pytest.mark.heavy
def test_slices_that_are_already_thin_need_a_factor(browser: Any, built: Path, tmp_path: Path) -> None:
    thinslice.write(thin_scan(12, 48), tmp_path / "thin.nii")
    with offline(browser, built) as page:
        choose(page, tmp_path / "thin.nii")
        page.click("#go")
        page.locator("#problem:not([hidden])").wait_for()
        assert "already thin for a target of 1 mm (factor 1); choose factor 2 for 0.5 mm" in problem(page)


@pytest.mark.heavy
def test_a_run_can_be_cancelled_and_started_again(browser: Any, built: Path, tmp_path: Path) -> None:
    source = scan(tmp_path)
    with offline(browser, built) as page:
        choose(page, source)
        page.click("#go")
        page.click("#cancel")
        page.get_by_text("Cancelled.").wait_for()
        assert page.locator("#save").is_disabled()
        run(page, tmp_path / "found.nii.gz")


@pytest.mark.heavy
def test_a_drop_anywhere_on_the_page_is_taken(browser: Any, built: Path, tmp_path: Path) -> None:
    source = scan(tmp_path)
    with offline(browser, built) as page:
        page.evaluate(
            """async (bytes) => {
                const transfer = new DataTransfer();
                transfer.items.add(new File([Uint8Array.from(bytes)], 'scan.nii.gz'));
                document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: transfer, bubbles: true }));
            }""",
            list(source.read_bytes()),
        )
        page.locator("#go:enabled").wait_for()
        assert "slices of 96 x 96" in page.locator("#scan").inner_text()


@pytest.mark.heavy
def test_the_folder_of_a_web_server_computes_on_threads(browser: Any, built: Path, tmp_path: Path) -> None:
    source = scan(tmp_path)
    with web_server(built / "server") as address, opened(browser, address) as page:
        assert page.evaluate("crossOriginIsolated")
        cores = page.evaluate("Math.min(8, navigator.hardwareConcurrency)")
        choose(page, source)
        run(page, tmp_path / "found.nii.gz")
        assert f"on {cores} thread(s)" in page.locator("#facts").inner_text()
        assert all(each.startswith((address, "blob:")) for each in page.requested)
    compare(tmp_path / "found.nii.gz", source, tmp_path, model="fast", factor=5)


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """A web server that sends the headers which the folder states."""
    lines = (folder / "_headers").read_text().splitlines()
    headers = [line.strip().split(": ", 1) for line in lines if line.startswith("  ")]

    class Handler(http.server.SimpleHTTPRequestHandler):
        # The system's table of types may lack this one, and browsers start no other as a module.
        extensions_map: ClassVar[dict[str, str]] = {
            **http.server.SimpleHTTPRequestHandler.extensions_map,
            ".mjs": "text/javascript",
        }

        def end_headers(self) -> None:
            for name, value in headers:
                self.send_header(name, value)
            super().end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the test's output clean."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
