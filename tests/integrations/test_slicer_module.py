"""The module for 3D Slicer, on a fake of the few names of Slicer that it uses; the command line is the real one."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

import thinslice
from support.command_line import smooth_volume
from support.dicom_factory import write_series
from support.fake_slicer import FakeSlicer, VolumeNode

MODULE = Path(__file__).parents[2] / "integrations" / "slicer" / "ThinSlices"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the program is a script of a POSIX shell")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlicer:
    """Slicer with the program `thinslice` on the search path of the process that started it."""
    fake = FakeSlicer(tmp_path)
    fake.install(monkeypatch)
    program = tmp_path / "bin" / "thinslice"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m thinslice "$@"\n')
    program.chmod(0o755)
    fake.environment["PATH"] = f"{program.parent}{os.pathsep}{fake.environment['PATH']}"
    return fake


@pytest.fixture
def module(fake: FakeSlicer, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(MODULE))
    for name in ("ThinSlices", "ThinSlicesLib", "ThinSlicesLib.command"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield importlib.import_module("ThinSlices")
    for name in ("ThinSlices", "ThinSlicesLib", "ThinSlicesLib.command"):
        sys.modules.pop(name, None)


def thick_node() -> VolumeNode:
    image = smooth_volume().to_nibabel()
    return VolumeNode("chest", np.asanyarray(image.dataobj), np.array(image.affine))


def test_a_volume_becomes_the_thin_one_of_the_command_line(fake: FakeSlicer, module: Any) -> None:
    thick = thick_node()
    thick.transform_id = "moved"
    lines: list[str] = []
    thin, uncertainty = module.ThinSlicesLogic().run(thick, module.Choices(model="fast", factor=5), note=lines.append)
    expected = thinslice.upscale(smooth_volume(), model="fast", factor=5)
    np.testing.assert_array_equal(thin.voxels, np.asarray(expected.to_nibabel().dataobj))
    np.testing.assert_allclose(thin.ijk_to_ras, expected.to_nibabel().affine, atol=1e-5)
    assert uncertainty is None and thin.GetName() == "chest thin"
    assert thin.transform_id == "moved" and thin.storage_id is None
    assert thin.GetAttribute("thinslice.notice") == thinslice.NOTICE
    assert any(line.startswith("slices ") for line in lines) and lines[-1] == thinslice.NOTICE
    assert fake.folders and not any(folder.exists() for folder in fake.folders)


def test_uncertainty_and_spacing(fake: FakeSlicer, module: Any) -> None:
    choices = module.Choices(spacing_mm=1.25, uncertainty=True)
    thin, uncertainty = module.ThinSlicesLogic().run(thick_node(), choices, note=lambda line: None)
    assert thin.voxels.shape == uncertainty.voxels.shape == (24, 24, 17)
    assert nibabel.affines.voxel_sizes(thin.ijk_to_ras)[2] == pytest.approx(1.25)
    assert [properties["show"] for _, properties in fake.loaded] == [True, False]


def test_dicom_files_bring_their_thickness(fake: FakeSlicer, module: Any, tmp_path: Path) -> None:
    write_series(tmp_path / "dicom", spacing_mm=(4.0, 0.7, 0.7), thickness_mm=5.0)
    files = sorted((tmp_path / "dicom").iterdir())
    fake.files = {f"1.2.{number}": str(path) for number, path in enumerate(files)}
    thick = thick_node()
    thick.SetAttribute("DICOM.instanceUIDs", " ".join(fake.files))
    logic, choices = module.ThinSlicesLogic(), module.Choices(model="fast", factor=4)
    thin, _ = logic.run(thick, choices, from_dicom=True, note=lambda line: None)
    expected = thinslice.upscale(thinslice.read(tmp_path / "dicom"), model="fast", factor=4)
    np.testing.assert_array_equal(thin.voxels, np.asarray(expected.to_nibabel().dataobj))
    fake.files.popitem()
    with pytest.raises(module.ThinSlicesError, match="not in Slicer's database"):
        logic.run(thick, choices, from_dicom=True)
    assert not any(folder.exists() for folder in fake.folders)


def test_a_refusal_is_the_command_line_s(fake: FakeSlicer, module: Any) -> None:
    thin = thick_node()
    thin.ijk_to_ras = np.diag([-0.8, -0.8, 1.0, 1.0])
    with pytest.raises(module.ThinSlicesError, match=r"^Slices 1 mm apart are already thin .*try --spacing 0\.5"):
        module.ThinSlicesLogic().run(thin, module.Choices(), note=lambda line: None)
    with pytest.raises(module.ThinSlicesError, match="choose one of them"):
        module.ThinSlicesLogic().run(thin, module.Choices(factor=2, spacing_mm=1.0))
    with pytest.raises(module.ThinSlicesError, match="'More options' cannot be read"):
        module.ThinSlicesLogic().run(thin, module.Choices(more="--report 'x"))
    assert not any(folder.exists() for folder in fake.folders)


def test_a_program_that_is_not_there(
    fake: FakeSlicer, module: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin" / "thinslice"
    monkeypatch.setenv("HOME", str(tmp_path))
    fake.environment["PATH"] = str(tmp_path)
    logic, choices = module.ThinSlicesLogic(), module.Choices(model="cubic", factor=2)
    with pytest.raises(module.ThinSlicesError, match="was not found. Install thinslice into a Python of your own"):
        logic.run(thick_node(), choices)
    fake.settings[module.PROGRAM_SETTING] = str(tmp_path / "nothing")
    with pytest.raises(module.ThinSlicesError, match="There is no program"):
        logic.run(thick_node(), choices)
    fake.settings[module.PROGRAM_SETTING] = str(program)
    assert logic.run(thick_node(), choices, note=lambda line: None)[0].voxels.shape == (24, 24, 9)
    fake.settings.clear()
    (tmp_path / ".local" / "bin").mkdir(parents=True)
    program.rename(tmp_path / ".local" / "bin" / "thinslice")
    assert logic.run(thick_node(), choices, note=lambda line: None)[0].voxels.shape == (24, 24, 9)


def panel(module: Any) -> Any:
    widget = module.ThinSlicesWidget()
    widget.setup()
    return widget


def run_to_the_end(widget: Any) -> None:
    widget.job.run.wait()
    widget.timer.send("timeout()")


def test_the_panel_upscales_and_shows(fake: FakeSlicer, module: Any) -> None:
    widget = panel(module)
    widget.apply.click()
    assert widget.state.text == "Choose the thick CT first." and widget.job is None
    widget.thick.node = thick_node()
    widget.model.currentIndex = module.MODELS.index("cubic")
    widget.distance.currentIndex = 4  # factor 5
    assert widget.choices() == module.Choices(model="cubic", factor=5)
    widget.apply.click()
    assert widget.apply.text == "Cancel" and widget.timer.is_active
    run_to_the_end(widget)
    assert widget.job is None and not widget.timer.is_active and widget.apply.text == "Upscale"
    assert fake.layers["background"].voxels.shape == (24, 24, 21) and fake.layers["foreground"] is widget.thick.node
    assert widget.state.text.startswith("Loaded chest thin.\nslices ")
    widget.distance.currentIndex = 8  # spacing
    assert widget.choices().spacing_mm == 1.0 and widget.choices().factor is None


def test_the_panel_cancels_and_shows_errors(fake: FakeSlicer, module: Any) -> None:
    widget = panel(module)
    widget.thick.node = thick_node()
    widget.apply.click()
    widget.apply.click()
    run_to_the_end(widget)
    assert widget.state.text == "Cancelled; nothing was changed." and not fake.loaded and widget.apply.enabled
    widget.more.text = "--axis 7"
    widget.apply.click()
    run_to_the_end(widget)
    assert len(fake.errors) == 1 and fake.errors[0] == widget.state.text and "axis" in fake.errors[0]
    widget.apply.click()
    widget.cleanup()
    assert widget.job is None and not any(folder.exists() for folder in fake.folders)


def test_progress_is_a_share(module: Any) -> None:
    command = sys.modules["ThinSlicesLib.command"]
    process = command.subprocess.Popen(
        ["printf", "reading\\nupscaling: 40 %%, about 3 s left\\n"], stdout=command.subprocess.PIPE, text=True
    )
    run = command.Run(process)
    run.wait()
    assert run.take() == ["reading", "upscaling: 40 %, about 3 s left"] and run.share == 0.4
    run.check()


def test_the_panel_s_description_and_notice(module: Any) -> None:
    parent = type("Parent", (), {})()
    module.ThinSlices(parent)
    assert module.NOTICE == thinslice.NOTICE and thinslice.NOTICE in parent.helpText
    assert thinslice.NOTICE in [widget.content[0] for widget, *_ in panel(module).layout.rows if widget.content]


def test_the_code_is_python_3_9() -> None:
    for path in MODULE.rglob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
