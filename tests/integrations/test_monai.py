"""MONAI: the bundle of `models export --monai` under monai.bundle, and the classes that pipelines call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

import thinslice
from support.command_line import Run, run, smooth_volume
from thinslice.errors import InputError
from thinslice.volume import Provenance, Volume

__all__ = ["run"]


def test_the_bundle_holds_what_monai_describes(tmp_path: Path, run: Run) -> None:
    done = run("models", "export", "fast", tmp_path / "bundle", "--monai", "--factor", "3")
    assert done.code == 0, done.err
    files = sorted(path.relative_to(tmp_path / "bundle").as_posix() for path in (tmp_path / "bundle").rglob("*.*"))
    assert files == ["configs/inference.json", "configs/metadata.json", "docs/README.md", "models/fast.safetensors"]
    config = json.loads((tmp_path / "bundle" / "configs" / "inference.json").read_text())
    described = json.loads((tmp_path / "bundle" / "configs" / "metadata.json").read_text())
    assert config["factor"] == 3 and config["bundle_root"] == "."
    assert thinslice.NOTICE in described["description"] == described["description"].strip()
    assert thinslice.NOTICE in (tmp_path / "bundle" / "docs" / "README.md").read_text()
    assert "Apache-2.0" in (tmp_path / "bundle" / "LICENSE").read_text()
    weights = thinslice.load_model(tmp_path / "bundle" / "models" / "fast.safetensors")
    assert weights.sha256 == thinslice.load_model("fast").sha256


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("default", "a.onnx", "--monai"), 2, "a bundle is a folder"),
        (("default", "b", "--monai", "--depth", "4"), 2, "--depth is for an ONNX file"),
        (("default", "b", "--monai", "--factor", "9"), 4, "it can do 2, 3, 4, 5, 6, 7, 8"),
        (("tvsrn", "b", "--monai"), 4, "no weights"),
        (("unheard-of", "b", "--monai"), 2, "neither a model name"),
    ],
)
def test_what_is_no_bundle(
    arguments: tuple[str, ...], code: int, words: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("models", "export", *arguments)
    assert done.code == code and words in done.text and not list(tmp_path.iterdir())


def test_the_bundle_runs_and_gives_the_voxels_of_the_command_line(tmp_path: Path, run: Run) -> None:
    """Whole HU, HU with fractions, and slices along the first axis of the file."""
    pytest.importorskip("monai")
    pytest.importorskip("fire")
    whole = smooth_volume()
    fractions = Volume(whole.hu.astype(np.float32) + np.float32(0.3), whole.geometry)
    sideways = Volume(whole.hu, whole.geometry, Provenance(file_axes=(0, 2, 1)))
    (tmp_path / "thick").mkdir()
    for name, volume in (("whole.nii.gz", whole), ("fractions.nii", fractions), ("sideways.nii.gz", sideways)):
        thinslice.write(volume, tmp_path / "thick" / name)
    assert run("models", "export", "fast", tmp_path / "bundle", "--monai").code == 0
    command = [
        sys.executable, "-m", "monai.bundle", "run",
        "--config_file", str(tmp_path / "bundle" / "configs" / "inference.json"),
        "--bundle_root", str(tmp_path / "bundle"),
        "--dataset_dir", str(tmp_path / "thick"), "--output_dir", str(tmp_path / "thin"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ), cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert thinslice.NOTICE in done.stderr
    assert sorted(path.name for path in (tmp_path / "thin").iterdir()) == [
        "fractions_thin.nii.gz", "sideways_thin.nii.gz", "whole_thin.nii.gz",
    ]  # fmt: skip
    for path in (tmp_path / "thick").iterdir():
        expected = tmp_path / f"expected-{path.name}"
        assert run("upscale", path, expected, "--model", "fast", "--quiet").code == 0
        ours, theirs = (
            nibabel.load(expected),
            nibabel.load(tmp_path / "thin" / f"{path.name.split('.')[0]}_thin.nii.gz"),
        )
        np.testing.assert_array_equal(np.asanyarray(theirs.dataobj), np.asanyarray(ours.dataobj))
        np.testing.assert_allclose(theirs.affine, ours.affine, atol=1e-6)
        assert theirs.get_data_dtype() == ours.get_data_dtype()


def test_a_dictionary_transform_and_a_case_that_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("monai")
    from thinslice.integrations.monai import Evaluator, ThroughPlaneInferer, Upscaled

    thick = smooth_volume()
    transform = Upscaled("ct", "linear", factor=5, thickness_mm=5.0)
    made = transform({"ct": thick.to_monai(), "age": 40})
    assert made["ct"].shape == (1, 24, 24, 21) and made["age"] == 40
    np.testing.assert_array_equal(
        Volume.from_monai(made["ct"]).hu, thinslice.upscale(thick, model="linear", factor=5).hu
    )
    with pytest.raises(KeyError):
        transform({"mr": thick.to_monai()})
    written: list[tuple[int, ...]] = []
    thin = thinslice.upscale(thick, model="linear", factor=5)
    cases = [{"image": thin.to_monai()}, {"image": thick.to_monai()}]
    network = thinslice.load_model("linear")
    loop = Evaluator(cases, network, ThroughPlaneInferer(), lambda item: written.append(tuple(item["pred"].shape)))
    with pytest.raises(InputError, match="1 of 2 cases were not upscaled; case 1: Slices 1 mm apart are already thin"):
        loop.run()
    assert written == [(1, 24, 24, 21)]
    with pytest.raises(InputError, match="no NIfTI file in dataset_dir"):
        Evaluator([], network, ThroughPlaneInferer(), print).run()
