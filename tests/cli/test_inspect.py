"""thinslice inspect: what is there, and what can be upscaled."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thinslice
from support.command_line import Run, smooth_volume
from support.dicom_factory import assert_no_canary, write_series
from thinslice.errors import InputError
from thinslice.io import nifti

KEYS = {"series_uid", "kind", "slices", "spacing_mm", "thickness_mm", "eligible", "reasons", "factor"}


def test_json_lists_every_series(tmp_path: Path, run: Run) -> None:
    write_series(tmp_path / "a", shape=(4, 16, 16), uid="1.2.3.1")
    write_series(tmp_path / "b", shape=(4, 16, 16), spacing_mm=(1.0, 0.7, 0.7), uid="1.2.3.2")
    write_series(tmp_path / "c", shape=(6, 16, 16), missing=[2], uid="1.2.3.3")
    outcome = run("inspect", tmp_path, "--json")
    assert outcome.code == 0, outcome.err
    found = {series["series_uid"]: series for series in json.loads(outcome.out)}
    assert found.keys() == {"1.2.3.1", "1.2.3.2", "1.2.3.3"}
    assert all(series.keys() >= KEYS for series in found.values())
    good, thin, gap = (found[f"1.2.3.{n}"] for n in (1, 2, 3))
    assert (good["eligible"], good["factor"], good["reasons"], good["slices"]) == (True, 5, [], 4)
    assert good["spacing_mm"] == [5.0, 0.7, 0.7] and good["thickness_mm"] == 5.0
    assert (thin["eligible"], thin["factor"]) == (False, None) and "--spacing" in thin["reasons"][0]
    assert (gap["eligible"], gap["factor"]) == (False, None) and "10" in gap["reasons"][0]
    assert_no_canary(outcome.text)


def test_lines_say_the_verdict(tmp_path: Path, run: Run) -> None:
    write_series(tmp_path / "a", shape=(4, 16, 16), uid="1.2.3.1")
    outcome = run("inspect", tmp_path)
    assert outcome.code == 0
    assert "1.2.3.1" in outcome.out and "4 slices" in outcome.out
    assert "eligible, factor 5 reaches 1 mm" in outcome.out
    assert_no_canary(outcome.text)


def test_of_a_nifti_a_few_planes_are_read(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counted(stream: Any, view: memoryview, path: Path) -> None:
        read.append(len(view))
        original(stream, view, path)

    original = nifti.read_into
    monkeypatch.setattr(nifti, "read_into", counted)
    volume = smooth_volume(depth=40)
    thinslice.write(volume, tmp_path / "thick.nii")
    assert run("inspect", tmp_path / "thick.nii").code == 0
    assert sum(read) == 3 * volume.hu[0].nbytes


@pytest.mark.parametrize("kind", ["hu", "unit", "signed unit", "normalised", "labels", "raw", "late"])
@pytest.mark.parametrize("form", ["dicom", "thick.nii", "thick.nii.gz", "thick.mha"])
def test_inspect_and_upscale_agree_on_what_is_no_hu(kind: str, form: str, tmp_path: Path) -> None:
    hu = np.random.default_rng(0).normal(-400, 300, (12, 24, 24)).clip(-1000, 1000).round()
    late = np.zeros_like(hu)
    late[-1] = hu[-1]
    values, slope = {
        "hu": (hu, 1.0),
        "unit": ((hu + 1000) / 2000, 1 / 2000),
        "signed unit": (hu / 1000, 1 / 1000),
        "normalised": (hu / 300, 1 / 300),
        "labels": ((hu > -400).astype(float) * 3, 1.0),
        "raw": (hu + 1024, 1.0),
        "late": (late, 1.0),  # zeros that look like nothing, but for one slice that is not sampled
    }[kind]
    if form == "dicom":
        intercept = float(values.min())
        write_series(tmp_path / form, shape=hu.shape, hu=values, slope=slope, intercept=intercept)
    else:
        if form.endswith(".mha"):
            pytest.importorskip("SimpleITK")
        thinslice.write(thinslice.Volume.from_array(values, spacing_mm=(5.0, 0.7, 0.7)), tmp_path / form)
    (found,) = thinslice.inspect(tmp_path / form)
    try:
        thin = thinslice.upscale(tmp_path / form, model="linear", factor=5)
    except InputError as error:
        assert not found.eligible and str(error) in " ".join(found.reasons)
        assert kind not in ("hu", "raw", "late")
    else:
        assert found.eligible and kind in ("hu", "raw", "late"), found.reasons
        said = [sentence for sentence in thin.provenance.warnings if "result will be wrong" in sentence]
        assert kind != "raw" or (said and any(said[0].split(" (Values")[0] in each for each in found.warnings))


def test_a_nifti_and_a_folder_of_them(tmp_path: Path, run: Run) -> None:
    thinslice.write(smooth_volume(), tmp_path / "thick.nii.gz")
    thinslice.write(smooth_volume(spacing_mm=0.9), tmp_path / "thin.nii")
    (tmp_path / "broken.nii").write_bytes(b"nothing")
    found = json.loads(run("inspect", tmp_path / "thick.nii.gz", "--json").out)
    assert [(s["series_uid"], s["kind"], s["slices"], s["factor"]) for s in found] == [(None, "NIfTI", 5, 5)]
    found = json.loads(run("inspect", tmp_path, "--json").out)
    assert [(series["file"], series["eligible"]) for series in found] == [
        ("broken.nii", False),
        ("thick.nii.gz", True),
        ("thin.nii", False),
    ]


def test_dicom_and_nifti_side_by_side(tmp_path: Path, run: Run) -> None:
    write_series(tmp_path, shape=(4, 16, 16), uid="1.2.3.1")
    thinslice.write(smooth_volume(), tmp_path / "thick.nii.gz")
    found = json.loads(run("inspect", tmp_path, "--json").out)
    assert [series["series_uid"] for series in found] == ["1.2.3.1", None]


def test_nothing_there_is_3(tmp_path: Path, run: Run) -> None:
    (tmp_path / "readme.txt").write_text("hello")
    for path in (tmp_path, tmp_path / "absent", tmp_path / "readme.txt"):
        outcome = run("inspect", path)
        assert outcome.code == 3 and outcome.out == ""
        assert str(tmp_path) not in outcome.err


def test_real_series(shared_dicom: Callable[[str], Path], run: Run) -> None:
    outcome = run("inspect", shared_dicom("philips_tilt-18.5_with_localizer_and_sc"), "--json")
    assert outcome.code == 0
    by_kind = {series["kind"]: series for series in json.loads(outcome.out)}
    assert by_kind.keys() == {"CT", "CT localizer", "secondary capture"}
    assert not any(series["eligible"] for series in by_kind.values())
    assert "tilt" in by_kind["CT"]["reasons"][0]


def test_a_table_is_numbered_and_json_has_its_columns(tmp_path: Path, run: Run) -> None:
    write_series(tmp_path / "a", shape=(4, 16, 16), uid="1.2.3.1", orientation="coronal")
    thinslice.write(smooth_volume(), tmp_path / "b.nii.gz")
    (series, volume) = json.loads(run("inspect", tmp_path, "--json").out)
    assert (series["number"], series["series_number"], series["kernel"]) == (1, 2, "B30f")
    assert (series["matrix"], series["orientation"], series["path"]) == ([16, 16], "coronal", "a")
    assert (volume["number"], volume["path"], volume["skipped"]) == (2, "b.nii.gz", [])
    outcome = run("inspect", tmp_path)
    heading, first, second = outcome.out.splitlines()[:3]
    assert heading.split()[:2] == ["no.", "series"]
    assert first.split()[:2] == ["1", "2"] and second.split()[0] == "2"
    assert "left out" not in outcome.err
    assert_no_canary(outcome.text)


def test_one_thick_slice_is_not_eligible(tmp_path: Path, run: Run) -> None:
    write_series(tmp_path, shape=(1, 16, 16))
    (series,) = json.loads(run("inspect", tmp_path, "--json").out)
    assert not series["eligible"] and "one slice" in series["reasons"][0]
    assert run("upscale", tmp_path, tmp_path / "thin.nii.gz", "--model", "linear").code == 3


def test_an_unknown_pixel_spacing_is_not_written_as_1_mm(tmp_path: Path, run: Run) -> None:
    def forget(dataset, k: int) -> None:
        del dataset.PixelSpacing

    write_series(tmp_path / "in", shape=(4, 16, 16), edit=forget)
    outcome = run("upscale", tmp_path / "in", tmp_path / "thin.nii.gz", "--model", "linear")
    assert outcome.code == 3 and "PixelSpacing" in outcome.text
    assert run("upscale", tmp_path / "in", tmp_path / "thin", "--model", "linear").code == 0


def test_numbers_stay_when_an_output_is_written_among_the_sources(tmp_path: Path, run: Run) -> None:
    write_series(tmp_path / "b-head", shape=(4, 16, 16), uid="1.2.3.1")
    write_series(tmp_path / "c-lung", shape=(5, 16, 16), uid="1.2.3.2")
    assert run("upscale", tmp_path, tmp_path / "a-thin", "--series", "2", "--model", "linear").code == 0
    listed = json.loads(run("inspect", tmp_path, "--json").out)
    assert [(series["number"], series["series_uid"]) for series in listed[:2]] == [(1, "1.2.3.1"), (2, "1.2.3.2")]
    assert listed[2]["derived"]
