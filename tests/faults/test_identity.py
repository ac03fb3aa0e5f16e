"""Rows 23 and 24: what identifies a patient stays in DICOM outputs, and the same input gives the same output."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pydicom
import pytest

from support.command_line import Run
from support.dicom_factory import CANARY, assert_no_canary, write_series

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore::UserWarning:pydicom")]

KEPT_IN_DICOM = ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyID", "StudyDate")


def canary_series(folder: Path, **options: object):
    """A series with a canary in every identifying attribute, private ones and sequences included."""

    def spread(dataset, k: int) -> None:
        dataset.add_new("PatientAge", "AS", "Kanarienvogel")
        dataset.add_new("ContentTime", "TM", CANARY["PatientName"])
        dataset.ConvolutionKernel = "B30f"
        block = dataset.private_block(0x0029, "CANARY BLOCK", create=True)
        block.add_new(0x10, "LO", CANARY["PatientName"])
        item = pydicom.Dataset()
        item.PatientID = CANARY["PatientID"]
        item.AccessionNumber = CANARY["AccessionNumber"]
        dataset.RequestAttributesSequence = [item]

    return write_series(folder, edit=spread, **options)


def test_row_23_canaries_are_found_in_dicom_outputs_alone(tmp_path: Path, run: Run) -> None:
    canary_series(tmp_path / "in", shape=(4, 24, 24))
    out = tmp_path / "out"
    out.mkdir()
    common = ("--model", "linear", "--preview", out / "look.png", "--report")
    runs = [
        run("inspect", tmp_path / "in"),
        run("inspect", tmp_path / "in", "--json"),
        run("upscale", tmp_path / "in", out / "thin", *common, out / "a.json"),
        run(
            "upscale",
            tmp_path / "in",
            out / "thin.nii",
            *common,
            out / "a.html",
            "--overwrite",
            "--view",
            out / "v.html",
        ),
        run("upscale", tmp_path / "in", out / "thin.nrrd", "--model", "linear", "--view", out / "view.html"),
        run("upscale", tmp_path / "in", out / "thin.mha", "--model", "linear"),
        run("upscale", tmp_path / "in", out / "thin", "--model", "linear"),
    ]
    assert [each.code for each in runs] == [0] * 6 + [5]
    for each in runs:
        assert_no_canary(each.out + each.err)
    for path in out.rglob("*"):
        assert_no_canary(path.relative_to(out))
        if path.is_file() and path.parent.name != "thin":
            assert_no_canary(path.read_bytes().decode("latin-1"))
    header = pydicom.dcmread(next((out / "thin").iterdir()))
    for keyword in KEPT_IN_DICOM:
        assert str(header[keyword].value) == CANARY[keyword]


@pytest.mark.parametrize("fault", ["tilt", "gap", "phases", "text", "thin", "mr"])
def test_row_23_no_refusal_holds_a_canary(fault: str, tmp_path: Path, run: Run) -> None:
    options = {"tilt": {"tilt_degrees": 10}, "gap": {"missing": [2]}, "thin": {"spacing_mm": (1.0, 0.7, 0.7)}}
    made = canary_series(tmp_path / "in", **options.get(fault, {}))
    if fault == "phases":
        canary_series(tmp_path / "in" / "b", seed=2, uid=made.uid)
    if fault == "text":
        made.files[1].write_text("Kanarienvogel " * 50)
    if fault == "mr":
        for file in made.files:
            dataset = pydicom.dcmread(file)
            dataset.Modality = "MR"
            dataset.save_as(file)
    outcome = run("upscale", tmp_path / "in", tmp_path / "thin.nii", "--model", "linear")
    assert outcome.code == 3, outcome.err
    assert_no_canary(outcome.out + outcome.err)
    assert_no_canary(run("inspect", tmp_path / "in").text + run("inspect", tmp_path / "in", "--json").text)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(folder.iterdir()) if folder.is_dir() else [folder]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("name", ["thin", "thin.nii", "thin.nii.gz", "thin.nrrd", "thin.mha"])
def test_row_24_the_same_input_twice_gives_the_same_bytes(
    name: str, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1770000000")
    write_series(tmp_path / "in", shape=(4, 24, 24))
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        outcome = run("upscale", tmp_path / "in", tmp_path / place / name, "--model", "linear")
        assert outcome.code == 0, outcome.err
    assert digests(tmp_path / "a" / name) == digests(tmp_path / "b" / name)


def test_row_24_uids_do_not_depend_on_the_hour_and_follow_the_settings(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_series(tmp_path / "in", shape=(4, 24, 24))
    uids = {}
    for place, epoch, factor in (("a", "1770000000", 5), ("b", "1770099999", 5), ("c", "1770000000", 3)):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        outcome = run("upscale", tmp_path / "in", tmp_path / place, "--model", "linear", "--factor", factor)
        assert outcome.code == 0, outcome.err
        headers = [pydicom.dcmread(path) for path in sorted((tmp_path / place).iterdir())]
        uids[place] = [(each.SeriesInstanceUID, each.SOPInstanceUID, each.PixelData) for each in headers]
        assert all(re.fullmatch(r"[0-9.]{1,64}", each.SOPInstanceUID) for each in headers)
    assert uids["a"] == uids["b"]
    assert not {pair[:2] for pair in uids["a"]} & {pair[:2] for pair in uids["c"]}
