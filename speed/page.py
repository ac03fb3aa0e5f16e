"""CPU time and memory of the page that upscales in the browser, and its agreement with the package.

    make page
    python speed/page.py SCAN.nii.gz [--network fast|default] [--compare]

The scan is read and upscaled by page/dist/thinslice.html in headless Chromium, from the disk and without a network.
Time is what the process of the page used, user and system, from the choice of the scan until the last slice; memory is
the largest resident set of that process. Linux; needs playwright and chromium.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from playwright.sync_api import sync_playwright

import thinslice

PAGE = Path(__file__).parents[1] / "page" / "dist" / "thinslice.html"

ARGUMENTS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")

LONG_MS = 7_200_000


def renderers(root: int) -> list[Path]:
    """Processes below `root` in which Chromium runs pages, as folders of /proc."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(folder.name)] = int(stat[1])

    def is_below(pid: int) -> bool:
        while pid > 1 and pid != root:
            pid = parents.get(pid, 0)
        return pid == root

    found = [Path("/proc") / str(pid) for pid in parents if is_below(pid)]
    return [each for each in found if b"--type=renderer" in (each / "cmdline").read_bytes()]


def cpu_s(folder: Path) -> float:
    """CPU seconds of a process so far."""
    stat = (folder / "stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(folder: Path) -> float:
    """Largest resident set of a process so far."""
    found = re.search(r"VmHWM:\s+(\d+) kB", (folder / "status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def measure(scan: Path, network: str, target: Path) -> tuple[float, float]:
    """Upscale a scan in the page and save the result; CPU seconds and MiB of the page's process."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=list(ARGUMENTS))
        page = browser.new_page(accept_downloads=True)
        page.set_default_timeout(LONG_MS)
        page.context.set_offline(True)
        page.goto(PAGE.as_uri())
        page.locator("body[data-ready]").wait_for()
        process = max(renderers(os.getpid()), key=peak_mib)
        before = cpu_s(process)
        page.set_input_files("#files-input", str(scan))
        page.locator("#go:enabled").wait_for()
        page.select_option("#network", network)
        page.click("#go")
        page.locator("#save:enabled").wait_for()
        cost = cpu_s(process) - before, peak_mib(process)
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(target)
        browser.close()
    return cost


def main() -> None:
    """Measure and print one line, and with --compare another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scan", type=Path)
    parser.add_argument("--network", default="fast")
    parser.add_argument("--compare", action="store_true", help="compare with thinslice.upscale on the CPU by torch")
    options = parser.parse_args()
    if not PAGE.is_file():
        sys.exit("The page is not built: make page.")
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.nii.gz"
        seconds, mib = measure(options.scan, options.network, found)
        print(f"{options.network}: {seconds:.0f} CPU s, {mib:.0f} MiB", flush=True)
        if options.compare:
            voxels = np.asarray(nib.load(found).dataobj).T
            truth = thinslice.upscale(options.scan, model=options.network, device="cpu", backend="torch").hu
            apart = np.abs(voxels.astype(np.float64) - truth)
            print(f"equal: {100 * np.mean(apart == 0):.4f} % of the voxels; largest difference {apart.max():g} HU")


if __name__ == "__main__":
    main()
