"""CPU time of the viewer in a browser without graphics hardware: first view, and a change of the window.

    python speed/viewer.py [--slices 64] [--height 344] [--width 466]

A phantom of noise at factor 5 is written as two files of int16 voxels; a server of the standard library gives them to
Chromium, as `thinslice serve` does. With --page the volumes stand packed in one HTML file, as
`thinslice upscale --view` writes it. Times are CPU seconds of all processes of Chromium.

Needs the packages playwright and psutil, and Chromium.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from playwright.sync_api import sync_playwright

from thinslice.geometry import Geometry
from thinslice.pictures.viewer.bundle import script
from thinslice.pictures.viewer.page import ViewerPage, grid_json
from thinslice.volume import Volume

ARGUMENTS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")

PAGE = """<!doctype html><style>html,body{{height:100%;margin:0}}</style><body><script>{script}</script><script>
const options = {options};
const viewer = ThinsliceViewer.createViewer(document.body, options);
(async () => {{
  const [, height, width] = options.thin.shape;
  for (const name of ['thick', 'thin']) {{
    const voxels = new Int16Array(await (await fetch(name)).arrayBuffer());
    const slab = 16 * height * width;
    for (let i = 0; i < voxels.length; i += slab)
      viewer.addSlab(name, i / (height * width), voxels.subarray(i, i + slab));
  }}
}})();
</script>"""


def noise(random: np.random.Generator, shape: tuple[int, int, int]) -> npt.NDArray[np.int16]:
    """A volume that packs to 0.6 bytes a voxel, as the thin slices of a chest do."""
    return np.rint(random.normal(-850, 2.2, shape)).astype(np.int16)


def chromium_cpu_s() -> float:
    """CPU seconds of all processes below this one that still run."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total += times.user + times.system
    return total


def measured(page: Any, address: str) -> dict[str, float]:
    """CPU seconds from the address to all slices shown, and of the slowest of eight changes of the window."""
    page.wait_for_timeout(1500)  # The browser has started.
    before = chromium_cpu_s()
    page.goto(address, wait_until="commit", timeout=600_000)
    while "arrived" not in page.evaluate("document.querySelector('.ts-live')?.textContent ?? ''"):
        page.wait_for_timeout(100)
    page.wait_for_timeout(500)
    first = chromium_cpu_s() - before
    page.locator(".ts-pane").first.focus()
    changes = []
    for key in "12341234":
        before = chromium_cpu_s()
        page.keyboard.press(key)
        page.wait_for_timeout(500)
        changes.append(chromium_cpu_s() - before)
    return {"first view": first, "window": max(changes)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--height", type=int, default=344)
    parser.add_argument("--width", type=int, default=466)
    parser.add_argument("--page", action="store_true", help="one HTML file with packed volumes, without a server")
    chosen = parser.parse_args()
    shape = (chosen.slices, chosen.height, chosen.width)
    random = np.random.default_rng(0)
    thick = Volume(noise(random, shape), Geometry(shape, (5.0, 0.8, 0.8)))
    grid = thick.geometry.thin_grid(5)
    thin = noise(random, grid.shape)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        if chosen.page:
            held = ViewerPage(thick, grid)
            held.add(0, thin)
            held.write(folder / "page.html")
            address = (folder / "page.html").as_uri()
        else:
            thick.hu.tofile(folder / "thick")
            thin.tofile(folder / "thin")
            options = f'{{"thick":{grid_json(thick.geometry)},"thin":{grid_json(grid)},"hasThin":true}}'
            (folder / "index.html").write_text(PAGE.format(script=script(), options=options.replace("None", "null")))
            handler = functools.partial(QuietHandler, directory=name)
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = f"http://127.0.0.1:{server.server_address[1]}/index.html"
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": 1400, "height": 800})
        started = time.perf_counter()
        for what, seconds in measured(page, address).items():
            print(f"{what}: {seconds:.2f} CPU s")
        print(f"took {time.perf_counter() - started:.0f} s")
        browser.close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder without a line for each request."""

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


if __name__ == "__main__":
    main()
