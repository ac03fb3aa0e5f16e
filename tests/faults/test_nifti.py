"""Row 14: NIfTI that is corrected with a warning, or refused before memory is taken."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from support.command_line import Run, smooth_volume
from support.fault_checks import refuse_upscale, upscale, warnings_of

pytestmark = pytest.mark.faults

AFFINE = np.diag([-0.8, -0.8, 5.0, 1.0])


def save(
    path: Path, data: np.ndarray, *, sform: np.ndarray = AFFINE, qform: np.ndarray = AFFINE, **fields: object
) -> Path:
    """Write (x, y, z) values; `fields` are written into the header's bytes as they are."""
    path.parent.mkdir(exist_ok=True)
    made = nibabel.Nifti1Image(data, sform)
    made.set_sform(sform, code=1)
    made.set_qform(qform, code=1, strip_shears=True)
    nibabel.save(made, path)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as file:
        content = bytearray(file.read())
    header = nibabel.Nifti1Header(bytes(content[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    content[:348] = header.binaryblock
    with opened(path, "wb") as file:
        file.write(content)
    return path


def body(dtype: str = "int16") -> np.ndarray:
    return smooth_volume(depth=5, plane=20).hu.transpose(2, 1, 0).astype(dtype)


def thin_of(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def test_row_14_nan_and_infinity_become_air_with_a_count(tmp_path: Path, run: Run) -> None:
    data = body("float32")
    data[3, 4, 2], data[0, 0, 0], data[7, 7, 4] = np.nan, np.inf, -np.inf
    outcome, report = upscale(run, save(tmp_path / "in" / "a.nii", data), tmp_path / "out" / "thin.nii")
    assert "3 voxels" in warnings_of(outcome, report)
    thin = thin_of(tmp_path / "out" / "thin.nii")
    assert thin[3, 4, 10] == thin[0, 0, 0] == thin[7, 7, 20] == -1024
    good = np.isfinite(data)
    np.testing.assert_array_equal(thin[:, :, ::5][good], data[good])


def test_row_14_qform_against_sform_is_said_and_the_sform_taken(tmp_path: Path, run: Run) -> None:
    shifted = AFFINE.copy()
    shifted[0, 3] = 12.5
    source = save(tmp_path / "in" / "a.nii", body(), qform=shifted)
    outcome, report = upscale(run, source, tmp_path / "out" / "thin.nii")
    assert "12.5 mm" in warnings_of(outcome, report)
    np.testing.assert_allclose(nibabel.load(tmp_path / "out" / "thin.nii").affine[:3, 3], 0, atol=1e-3)


@pytest.mark.parametrize(
    ("row", "column", "step_mm", "words"),
    [(1, 2, 1.0, ("11 degrees", "--on-tilt resample")), (0, 1, 0.3, ("right angles", "no gantry tilt"))],
    ids=["tilt", "in the plane"],
)
def test_row_14_shear_is_refused(
    row: int, column: int, step_mm: float, words: tuple[str, ...], tmp_path: Path, run: Run
) -> None:
    sheared = AFFINE.copy()
    sheared[row, column] = step_mm
    source = save(tmp_path / "in" / "a.nii", body(), sform=sheared)
    refuse_upscale(run, source, words=("a.nii'", *words))


@pytest.mark.parametrize("tilt", [18.0, -11.0])
def test_row_05_a_sheared_nifti_is_put_upright_with_anatomy_in_place(tilt: float, tmp_path: Path, run: Run) -> None:
    sheared = np.array([[-0.8, 0, 0, 30], [0, -0.8, 0, 25], [0, 0, 5.0, -40], [0, 0, 0, 1]])
    sheared[1, 2] = 5.0 * np.tan(np.radians(tilt))
    shape, centre = (60, 60, 11), sheared[:3, :3] @ (29.5, 29.5, 5.0) + sheared[:3, 3]
    source = save(tmp_path / "in" / "a.nii.gz", ball_on(sheared, shape, centre).astype("int16"), sform=sheared)
    output = tmp_path / "out" / "thin.nii.gz"
    outcome, report = upscale(run, source, output, "--on-tilt", "resample", "--model", "cubic")
    assert "tilt" in warnings_of(outcome, report)
    made = nibabel.load(output)
    columns = made.affine[:3, :3] / np.linalg.norm(made.affine[:3, :3], axis=0)
    np.testing.assert_allclose(columns.T @ columns, np.eye(3), atol=1e-5)
    np.testing.assert_allclose(made.get_qform(), made.get_sform(), atol=1e-3)
    weight = np.clip(np.asarray(made.dataobj, float) + 1000, 0, None)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in weight.shape), indexing="ij"), axis=-1)
    found = (index * weight[..., None]).sum(axis=(0, 1, 2)) / weight.sum()
    assert np.linalg.norm(made.affine[:3, :3] @ found + made.affine[:3, 3] - centre) < 0.5


def ball_on(affine: np.ndarray, shape: tuple[int, int, int], centre: np.ndarray) -> np.ndarray:
    """HU (x, y, z) of a ball of soft tissue in air, with an edge 6 mm wide, at a place in RAS mm."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    away = np.linalg.norm(index @ affine[:3, :3].T + affine[:3, 3] - centre, axis=-1)
    return np.asarray(-1000.0 + 1040.0 / (1 + np.exp((away - 12.0) / 1.5)))


def test_row_14_four_dimensions_are_refused(tmp_path: Path, run: Run) -> None:
    source = save(tmp_path / "in" / "a.nii", np.stack([body(), body()], axis=-1))
    refuse_upscale(run, source, words=("4 axes", "a.nii'", "one volume"))


HUGE = {
    "dims": {"dim": [3, 32767, 32767, 32767, 1, 1, 1, 1]},
    "large dims": {"dim": [3, 3000, 3000, 300, 1, 1, 1, 1]},
    "negative dims": {"dim": [3, 20, -5, 5, 1, 1, 1, 1]},
    "no axes": {"dim": [0, 20, 20, 5, 1, 1, 1, 1]},
    "offset": {"vox_offset": 1e12},
    "slope": {"scl_slope": np.inf},
    "complex": {"datatype": 32, "bitpix": 64},
    "colour": {"datatype": 128, "bitpix": 24},
}


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("fault", HUGE)
def test_row_14_an_impossible_header_is_refused(fault: str, name: str, tmp_path: Path, run: Run) -> None:
    refuse_upscale(run, save(tmp_path / "in" / name, body(), **HUGE[fault]), words=(f"{name}'",))


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: address space is limited there")
@pytest.mark.parametrize("declared", [(2000, 2000, 1000), (20, 20, 5)])
def test_row_14_a_gzip_bomb_is_refused_before_memory_is_taken(
    declared: tuple[int, int, int], tmp_path: Path, limited: Callable[..., object]
) -> None:
    whole = save(tmp_path / "in" / "a.nii", body(), dim=[3, *declared, 1, 1, 1, 1]).read_bytes()
    (tmp_path / "in" / "a.nii").unlink()
    bomb = tmp_path / "in" / "bomb.nii.gz"
    zeros = gzip.compress(bytes(1 << 24), 6, mtime=0)
    # A gzip file may have many members; 4 GiB of zeros follow the volume.
    bomb.write_bytes(gzip.compress(whole, mtime=0) + zeros * 256)
    outcome = limited(1536, "upscale", bomb, tmp_path / "thin.nii", "--model", "linear")
    assert outcome.code == 3 and "bomb.nii.gz'" in outcome.err, outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_row_14_values_beyond_16_bits_are_kept_as_floats_and_said(tmp_path: Path, run: Run) -> None:
    data = body("float32")
    data[2, 3, 1], data[2, 3, 2] = 40000.0, -50000.0
    outcome, report = upscale(run, save(tmp_path / "in" / "a.nii", data), tmp_path / "out" / "thin.nii")
    assert "16 bits" in warnings_of(outcome, report)
    np.testing.assert_array_equal(thin_of(tmp_path / "out" / "thin.nii")[:, :, ::5], data)


def test_row_14_signed_values_stored_as_unsigned_get_their_sign_back(tmp_path: Path, run: Run) -> None:
    data = body()
    source = save(tmp_path / "in" / "a.nii", data.astype(np.uint16))
    outcome, report = upscale(run, source, tmp_path / "out" / "thin.nii")
    assert "sign" in warnings_of(outcome, report)
    np.testing.assert_array_equal(thin_of(tmp_path / "out" / "thin.nii")[:, :, ::5], data)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("keep", [100, 340, 0.5, 0.97])
def test_row_14_a_file_that_is_cut_is_refused(keep: float, name: str, tmp_path: Path, run: Run) -> None:
    source = save(tmp_path / "in" / name, body())
    content = source.read_bytes()
    source.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    refuse_upscale(run, source, words=(f"{name}'",))
