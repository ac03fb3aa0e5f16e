"""Every layout gives the same cases and pairs; an error names the case."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.dataset_factory import pair_hu, released_set, save_raw, save_unit, true_volumes
from thinslice.data.manifest import Case, open_dataset, read_pair, read_thin
from thinslice.errors import GeometryError, InputError, UnreadableError, UsageError


@pytest.fixture
def released(tmp_path: Path) -> Path:
    return released_set(tmp_path / "set")


def test_the_released_layout_gives_hu_on_the_geometry_it_has(released: Path) -> None:
    data = open_dataset(released)
    assert (data.layout, data.splits, data.name) == ("released", ("train", "val", "test"), "set")
    assert [c.case_id for c in data.cases] == ["CT00000000", "CT00000001", "CT00000100", "CT00000150"]
    case = data.split("train")[1]
    assert (case.layout, case.patient, case.label) == ("released", "CT00000001", "")
    pair = read_pair(case)
    thick, thin = pair_hu(seed=1)
    np.testing.assert_array_equal(pair.thick.hu, thick)
    np.testing.assert_array_equal(pair.thin.hu, thin)
    assert pair.thick.hu.dtype == np.int16
    assert pair.thick.geometry.spacing_mm == (5.0, None, None)
    assert pair.thin.geometry.spacing_mm == (1.0, None, None)
    assert (pair.thick.geometry.thickness_mm, pair.thin.geometry.thickness_mm, pair.factor) == (5.0, 1.0, 5)
    assert pair.thick.geometry.thin_grid(5) == pair.thin.geometry


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_axis_across_the_slices_is_found_in_the_shapes(tmp_path: Path, axis: int) -> None:
    thick, thin = pair_hu()
    save_unit(thick, tmp_path / "train/5mm/CT00000000.nii.gz", axis=axis)
    save_unit(thin, tmp_path / "train/1mm/CT00000000.nii.gz", axis=axis)
    pair = read_pair(open_dataset(tmp_path).cases[0])
    assert pair.thick.hu.shape == thick.shape
    if axis == 2:
        np.testing.assert_array_equal(pair.thin.hu, thin)


def test_values_that_are_no_whole_hu_stay_floats(tmp_path: Path) -> None:
    thick, thin = pair_hu()
    save_unit(thick + 0.4, tmp_path / "train/5mm/A.nii.gz")
    save_unit(thin, tmp_path / "train/1mm/A.nii.gz")
    pair = read_pair(open_dataset(tmp_path).cases[0])
    assert (pair.thick.hu.dtype, pair.thin.hu.dtype) == (np.float32, np.int16)
    np.testing.assert_allclose(pair.thick.hu, thick + 0.4, atol=1e-3)


def test_one_split_and_hd_folders_are_data_sets_too(released: Path, tmp_path: Path) -> None:
    assert open_dataset(released / "val").splits == ("val",)
    hd = tmp_path / "hd"
    shutil.copytree(released / "train" / "1mm", hd / "HD_1mm")
    shutil.copytree(released / "train" / "5mm", hd / "HD_5mm")
    data = open_dataset(hd)
    assert (data.layout, data.splits, {c.layout for c in data.cases}) == ("hd", ("all",), {"released"})
    np.testing.assert_array_equal(read_pair(data.cases[0]).thin.hu, pair_hu(seed=0)[1])


def test_a_folder_of_files_with_geometry_is_read_by_position(tmp_path: Path) -> None:
    thick, thin = true_volumes(2)
    for name, volume in (("HD_5mm", thick), ("HD_1mm", thin)):
        (tmp_path / name).mkdir()
        thinslice.write(volume, tmp_path / name / "A.nii.gz")
    pair = read_pair(open_dataset(tmp_path).cases[0])
    np.testing.assert_array_equal(pair.thin.hu, thin.hu[2:38])
    assert pair.thin.geometry.spacing_mm == pytest.approx((1.0, 0.7, 0.7))


@pytest.mark.parametrize("head", ["thick,thin,split,case,patient,label", "\ufeffThick;Thin;Split;Case;Patient;Label"])
def test_a_manifest_pairs_by_position(tmp_path: Path, head: str) -> None:
    thick, thin = true_volumes(2)
    (tmp_path / "files").mkdir()
    thinslice.write(thick, tmp_path / "files" / "a5.nii.gz")
    thinslice.write(thin, tmp_path / "files" / "a1.nii.gz")
    row = "files/a5.nii.gz,files/a1.nii.gz,test,one,P1,of a test"
    text = f"{head}\n{row if ',' in head else row.replace(',', ';')}\n\n"
    (tmp_path / "manifest.csv").write_text(text, encoding="utf-8")
    data = open_dataset(tmp_path)
    assert data.cases == open_dataset(tmp_path / "manifest.csv").cases
    case = data.split("test")[0]
    assert (case.case_id, case.patient, case.label, case.layout) == ("one", "P1", "of a test", "true")
    pair = read_pair(case)
    np.testing.assert_array_equal(pair.thick.hu, thick.hu)
    np.testing.assert_array_equal(pair.thin.hu, thin.hu[2:38])
    assert pair.thick.geometry.spacing_mm == pytest.approx((5.0, 0.7, 0.7))


def test_a_manifest_beside_released_folders_only_labels(released: Path) -> None:
    (released / "manifest.csv").write_text(
        "split,case,patient,thick,thin,label\n"
        "train,CT00000001,P7,elsewhere.nii.gz,elsewhere.nii.gz,a slab\n"
        "val,CT00000101,P9,x,x,its files are missing\n"
    )
    data = open_dataset(released)
    labelled = data.split("train")[1]
    assert (labelled.patient, labelled.label, labelled.layout) == ("P7", "a slab", "released")
    assert labelled.thin == released / "train" / "1mm" / "CT00000001.nii.gz"
    assert data.split("train")[0].patient == "CT00000000"
    missing = data.split("val")[1]
    with pytest.raises(UnreadableError, match="Case CT00000101: There is no file"):
        read_pair(missing)


def test_thin_slices_alone_can_be_read(released: Path) -> None:
    shutil.rmtree(released / "train" / "5mm")
    case = open_dataset(released).split("train")[0]
    assert case.thick is None
    with pytest.raises(InputError, match="Case CT00000000: There are no thick slices"):
        read_pair(case)
    np.testing.assert_array_equal(read_thin(case).hu, pair_hu(seed=0)[1])


def test_the_digest_names_the_content_and_not_the_place(released: Path, tmp_path: Path) -> None:
    before = open_dataset(released).digest
    moved = shutil.copytree(released, tmp_path / "moved")
    (moved / "train" / "1mm" / "CT00000000.nii.gz").touch()
    assert open_dataset(moved).digest == before
    save_unit(pair_hu(seed=0)[1] + 1, moved / "train" / "1mm" / "CT00000000.nii.gz")
    assert open_dataset(moved).digest != before
    shutil.move(released / "val", released / "valid")
    assert open_dataset(released).digest != before


def test_an_unknown_split_names_those_there_are(released: Path) -> None:
    with pytest.raises(UsageError, match="has train, val, test"):
        open_dataset(released).split("dev")


def no_folder(root: Path) -> None:
    shutil.rmtree(root)


def empty(root: Path) -> None:
    shutil.rmtree(root)
    root.mkdir()


def folders_without_files(root: Path) -> None:
    for path in root.rglob("*.nii.gz"):
        path.unlink()


def twice(root: Path) -> None:
    for folder in ("1mm", "5mm"):
        shutil.copy(root / "train" / folder / "CT00000000.nii.gz", root / "val" / folder)


def columns_missing(root: Path) -> None:
    empty(root)
    (root / "manifest.csv").write_text("thick,patient\na,b\n")


def no_rows(root: Path) -> None:
    empty(root)
    (root / "manifest.csv").write_text("thick,thin,split\n\n")


def no_split(root: Path) -> None:
    empty(root)
    (root / "manifest.csv").write_text("thick,thin,split\na,b,train\nc,d,\n")


def no_text(root: Path) -> None:
    empty(root)
    (root / "manifest.csv").write_bytes(b"\xff\xfe\x00\x01")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (no_folder, "no data set at"),
        (empty, "train/1mm and train/5mm"),
        (folders_without_files, "hold no .nii.gz"),
        (twice, r"Two cases are named CT00000000 \(in (train and val|val and train)\)"),
        (columns_missing, "lacks the columns thin, split"),
        (no_rows, "lists no case"),
        (no_split, "Row 2 of 'manifest.csv' has no split"),
        (no_text, "UTF-8"),
    ],
)
def test_what_is_no_data_set_is_refused(released: Path, spoil, expected: str) -> None:
    spoil(released)
    with pytest.raises(InputError, match=expected):
        open_dataset(released)


def truncated(thick: Path, thin: Path) -> None:
    thin.write_bytes(thin.read_bytes()[:-200])


def damaged(thick: Path, thin: Path) -> None:
    content = bytearray(gzip.decompress(thin.read_bytes()))
    content[400:2000] = bytes(1600)
    packed = bytearray(gzip.compress(bytes(content)))
    packed[-8:-4] = b"\0\0\0\0"
    thin.write_bytes(packed)


def not_nifti(thick: Path, thin: Path) -> None:
    thick.write_text("not a volume")


def wrong_depth(thick: Path, thin: Path) -> None:
    save_unit(pair_hu(seed=0)[1][:-1], thin)


def wrong_plane(thick: Path, thin: Path) -> None:
    save_unit(pair_hu(seed=0)[1][:, :, :-1], thin)


def same_shape(thick: Path, thin: Path) -> None:
    shutil.copy(thin, thick)


def hu_values(thick: Path, thin: Path) -> None:
    save_raw(pair_hu(seed=0)[1], thin)


def not_numbers(thick: Path, thin: Path) -> None:
    values = (pair_hu(seed=0)[1] + 1024) / 3072
    values[3, 4, 5:8] = np.nan
    save_raw(values, thin)


def shifted(thick: Path, thin: Path) -> None:
    save_unit(np.roll(pair_hu(seed=0)[1], 2, axis=0), thin)


def blank_thick(thick: Path, thin: Path) -> None:
    save_unit(np.full_like(pair_hu(seed=0)[0], -1024), thick)


def of_another(thick: Path, thin: Path) -> None:
    save_unit(pair_hu(seed=77)[1], thin)


@pytest.mark.parametrize(
    ("spoil", "error", "expected"),
    [
        (lambda thick, thin: thin.unlink(), UnreadableError, "There is no file 'CT00000000.nii.gz'"),
        (truncated, UnreadableError, "cut short"),
        (damaged, UnreadableError, "damaged"),
        (not_nifti, UnreadableError, "is not NIfTI"),
        (wrong_depth, GeometryError, "8 thick slices go with 36 thin ones, not 35"),
        (wrong_plane, GeometryError, "differ along exactly one axis"),
        (same_shape, GeometryError, "differ along exactly one axis"),
        (hu_values, InputError, "no unit intensities"),
        (not_numbers, InputError, "3 voxels are not finite"),
        (shifted, GeometryError, r"misaligned: thick slice k shows thin slice factor \* k \+ 2"),
        (blank_thick, InputError, "The thick volume holds one value everywhere"),
        (of_another, GeometryError, "do not show the same"),
    ],
)
def test_a_fault_of_a_released_pair_is_named(released: Path, spoil, error, expected: str) -> None:
    case = open_dataset(released).cases[0]
    assert case.thick is not None
    spoil(case.thick, case.thin)
    with pytest.raises(error, match=f"^Case CT00000000: .*{expected}"):
        read_pair(case)


def test_unit_values_where_hu_are_expected_are_refused(released: Path) -> None:
    case = open_dataset(released).cases[0]
    true = Case(case.case_id, "train", case.thin, case.thick, "P", "true")
    with pytest.raises(InputError, match="Case CT00000000: All values lie between 0 and 1"):
        read_pair(true)


@pytest.mark.parametrize("case", ["a\x1b[2Jb", "a\u202eb", "x" * 2000])
def test_names_of_cases_can_be_printed(tmp_path: Path, case: str) -> None:
    (tmp_path / "manifest.csv").write_text(f"thick,thin,split,case\na,b,test,{case}\n", encoding="utf-8")
    with pytest.raises(InputError, match="Row 1 of 'manifest.csv' has 'case' with characters that cannot be printed"):
        open_dataset(tmp_path)


def test_the_manifest_states_the_thickness_that_nifti_lacks(tmp_path: Path) -> None:
    thick, thin = true_volumes(2)
    for name, volume in (("thick", thick), ("thin", thin)):
        thinslice.write(volume, tmp_path / f"{name}.nii.gz")
    listed = "thick,thin,split,thick_thickness_mm\nthick.nii.gz,thin.nii.gz,train,{}\n"
    for cell, expected in (("7.5", 7.5), ("", None)):
        (tmp_path / "manifest.csv").write_text(listed.format(cell))
        assert read_pair(open_dataset(tmp_path).cases[0]).thick.geometry.thickness_mm == expected
    for cell in ("thick", "-1", "nan"):
        (tmp_path / "manifest.csv").write_text(listed.format(cell))
        with pytest.raises(InputError, match="case thin a thick_thickness_mm that is no thickness"):
            open_dataset(tmp_path)
