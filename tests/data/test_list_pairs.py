"""Pairs listed by patterns: what is found is what `open_dataset` then reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from thinslice.data.list_pairs import list_pairs
from thinslice.data.manifest import open_dataset
from thinslice.errors import InputError, OutputExistsError, UnreadableError, UsageError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_pairs_of_two_factors_become_two_manifests_with_split_and_patient(tmp_path: Path) -> None:
    for split, scan in (("train", "p1/a"), ("train", "p1/b"), ("test", "p2/c")):
        touch(tmp_path, *(f"set/{split}/{scan}/{name}.nii.gz" for name in ("1.0mm_B30", "3.0mm", "5.0mm")))
    touch(tmp_path, "set/train/p3/d/5.0mm.nii.gz", "set/notes.txt")
    for factor in (3, 5):
        manifest = tmp_path / f"factor-{factor}.csv"
        found = list_pairs(
            tmp_path / "set",
            manifest,
            thin="{split}/{patient}/{case}/1.0mm_*.nii.gz",
            thick=f"{{split}}/{{patient}}/{{case}}/{factor}.0mm.nii.gz",
            thick_thickness_mm=float(factor),
        )
        cases = open_dataset(manifest).cases
        assert [(c.case_id, c.split, c.patient, c.thick_thickness_mm) for c in cases] == [
            ("a", "train", "p1", factor), ("b", "train", "p1", factor), ("c", "test", "p2", factor),
        ]  # fmt: skip
        assert all(c.thin.is_file() and c.thick is not None and c.thick.is_file() for c in cases)
        assert found.only_thick == (("d",) if factor == 5 else ()) and found.only_thin == ()


def test_folders_of_dicom_are_found_as_files_are(tmp_path: Path) -> None:
    touch(tmp_path, "thin/a/1.dcm", "thick/a/1.dcm")
    list_pairs(tmp_path, tmp_path / "m.csv", thin="thin/{case}", thick="thick/{case}", split="test")
    (case,) = open_dataset(tmp_path / "m.csv").cases
    assert case.thin == tmp_path / "thin" / "a" and case.split == "test"


@pytest.mark.parametrize(
    ("thin", "thick", "error", "words"),
    [
        ("1mm/*.nii", "5mm/{case}.nii", UsageError, "case"),
        ("1mm/{name}/{case}.nii", "5mm/{case}.nii", UsageError, "no placeholder"),
        ("{case}_1mm.nii", "{case}_5mm.nii", InputError, "0 thin and 0 thick"),
        ("1mm/{case}_*.nii", "5mm/{case}.nii", InputError, "Two thin files fit case 'a'"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, thin: str, thick: str, error: type[Exception], words: str
) -> None:
    touch(tmp_path, "1mm/a_x.nii", "1mm/a_y.nii", "5mm/a.nii")
    with pytest.raises(error, match=words):
        list_pairs(tmp_path, tmp_path / "m.csv", thin=thin, thick=thick, split="test")
    assert not (tmp_path / "m.csv").exists()


def test_a_missing_folder_a_missing_split_and_a_manifest_that_exists(tmp_path: Path) -> None:
    touch(tmp_path, "1mm/a.nii", "5mm/a.nii", "manifest.csv")
    pattern = {"thin": "1mm/{case}.nii", "thick": "5mm/{case}.nii"}
    with pytest.raises(UnreadableError):
        list_pairs(tmp_path / "none", tmp_path / "m.csv", **pattern, split="test")
    with pytest.raises(UsageError, match="no split"):
        list_pairs(tmp_path, tmp_path / "m.csv", **pattern)
    with pytest.raises(OutputExistsError):
        list_pairs(tmp_path, tmp_path / "manifest.csv", **pattern, split="test")
    list_pairs(tmp_path, tmp_path / "manifest.csv", **pattern, split="test", overwrite=True)
