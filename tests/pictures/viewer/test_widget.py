"""thinslice.show: the viewer in a notebook, by a widget; a picture without the extra."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thinslice
from support.browser import address_of, watched_page
from support.command_line import smooth_volume
from support.open_viewer import OpenViewer
from thinslice.errors import UsageError
from thinslice.pictures.viewer import widget
from thinslice.pictures.viewer.page import unpacked
from thinslice.volume import Volume


@pytest.fixture(scope="module")
def pair() -> tuple[Volume, Volume]:
    thick = smooth_volume(depth=4)
    return thick, thinslice.upscale(thick, model="linear")


def deviation_of(thin: Volume) -> Volume:
    return Volume(np.full(thin.hu.shape, 12.5, np.float32), thin.geometry)


def held(shown: Any, volume: str) -> np.ndarray:
    """The voxels of a volume in a widget."""
    _, height, width = shown.options["thin"]["shape"]
    slabs = [slab for slab in shown.slabs if slab["volume"] == volume]
    return np.concatenate([unpacked(slab["packed"], (slab["slices"], height, width)) for slab in slabs])


def test_the_widget_holds_the_volumes(pair: tuple[Volume, Volume]) -> None:
    pytest.importorskip("anywidget")
    thick, thin = pair
    shown = thinslice.show(thick, thin, deviation_of(thin), height_px=500)
    np.testing.assert_array_equal(held(shown, "thick"), thick.hu)
    np.testing.assert_array_equal(held(shown, "thin"), thin.hu)
    assert (held(shown, "deviation") * shown.options["deviationStepHu"] == 12.5).all()
    assert shown.height_px == 500 and shown.options["notice"] == thinslice.NOTICE


def test_paths_are_read(pair: tuple[Volume, Volume], tmp_path: Path) -> None:
    pytest.importorskip("anywidget")
    for volume, name in zip(pair, ("thick.nii.gz", "thin.nii.gz"), strict=True):
        thinslice.write(volume, tmp_path / name)
    shown = thinslice.show(str(tmp_path / "thick.nii.gz"), tmp_path / "thin.nii.gz")
    np.testing.assert_array_equal(held(shown, "thin"), pair[1].hu)


def test_volumes_that_do_not_belong_together_are_refused(pair: tuple[Volume, Volume]) -> None:
    thick, thin = pair
    for other in (thin.crop((1, 0, 0), thin.shape), thin.crop((0, 0, 0), (16, 20, 24)), smooth_volume(depth=9)):
        with pytest.raises(UsageError, match="does not lie on a thin grid of the thick one"):
            thinslice.show(thick, other)
    with pytest.raises(UsageError, match=r"The uncertainty .* does not lie on the grid of the thin volume"):
        thinslice.show(thick, thin, thick)


def test_without_the_extra_it_is_the_preview(pair: tuple[Volume, Volume], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widget, "is_installed", lambda: False)
    assert thinslice.show(*pair)._repr_png_() == thinslice.preview(*pair)


def test_the_script_opens_the_viewer_in_a_cell(pair: tuple[Volume, Volume], browser: Any, tmp_path: Path) -> None:
    pytest.importorskip("anywidget")
    thick, thin = pair
    shown = thinslice.show(thick, thin)
    state = {
        "options": shown.options,
        "height_px": shown.height_px,
        "slabs": [{**slab, "packed": list(slab["packed"])} for slab in shown.slabs],
    }
    page_file = tmp_path / "cell.html"
    page_file.write_text('<!doctype html><title>t</title><body><div id="cell"></div>')
    with watched_page(browser) as page:
        page.goto(address_of(page_file))
        page.evaluate(
            """async ([text, state]) => {
              for (const slab of state.slabs) slab.packed = new DataView(Uint8Array.from(slab.packed).buffer);
              const source = text.replace('viewer = ThinsliceViewer', 'viewer = window.viewer = ThinsliceViewer');
              const address = URL.createObjectURL(new Blob([source], { type: 'text/javascript' }));
              const { default: widget } = await import(address);
              const model = { get: (name) => state[name] };
              window.close_cell = await widget.render({ model, el: document.getElementById('cell') });
            }""",
            [widget.module_script(), state],
        )
        viewer = page.locator("#cell .ts-viewer")
        assert viewer.count() == 1 and "Research software" in viewer.inner_text()
        page.evaluate("viewer.draw()")
        column = OpenViewer(page).column("thin", 5, 7, thin.shape[0])
        np.testing.assert_allclose(column, thin.hu[:, 5, 7], atol=0.01)
        assert round(page.locator("#cell > div").bounding_box()["height"]) == 640
        page.evaluate("window.close_cell()")
        assert page.locator("#cell .ts-viewer").count() == 0


def test_a_notebook_shows_the_widget(pair: tuple[Volume, Volume], tmp_path: Path) -> None:
    pytest.importorskip("anywidget")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    from jupyter_client import KernelManager
    from jupyter_client.kernelspec import KernelSpec
    from nbformat import v4

    for volume, name in zip(pair, ("thick.nii.gz", "thin.nii.gz"), strict=True):
        thinslice.write(volume, tmp_path / name)
    notebook = v4.new_notebook(
        cells=[v4.new_code_cell("import thinslice\nthinslice.show('thick.nii.gz', 'thin.nii.gz')")]
    )
    manager = KernelManager()
    # This Python, whatever kernels the machine has.
    manager._kernel_spec = KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"])
    client = nbclient.NotebookClient(
        notebook, km=manager, timeout=None, startup_timeout=600, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    (output,) = [each for each in notebook.cells[0].outputs if each.output_type == "execute_result"]
    view = output.data["application/vnd.jupyter.widget-view+json"]
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    state = states[view["model_id"]]["state"]
    assert state["height_px"] == 640 and state["options"]["thick"]["shape"] == list(pair[0].shape)
    assert "createViewer" in state["_esm"] and not re.search(r"[A-Z]:\\\\|/tmp/", json.dumps(state["options"]))
