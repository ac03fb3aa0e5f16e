"""Sheared files put upright: every voxel shows the anatomy of its world position, whatever the order of the axes."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion
from scipy.spatial.transform import Rotation

from thinslice.io.files import read
from thinslice.io.upright import upright_file

SLOPE_HU = np.array([3.0, -2.0, 1.5])
"""Change of HU per mm along x, y and z: a field that shifting in the plane keeps exactly."""


def field_at(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """HU of a linear field at the voxels of a grid, in its order of axes."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    return np.asarray((index @ affine[:3, :3].T + affine[:3, 3]) @ SLOPE_HU)


@settings(max_examples=40, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    flips=st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3),
    tilts=st.tuples(st.floats(-0.6, 0.6), st.floats(-0.6, 0.6)),
    axes=st.sampled_from([(2, 1, 0), (1, 2, 0), (0, 2, 1)]),
)
def test_a_field_keeps_its_world_position(angles, flips, tilts, axes):
    upright_columns = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * flips * (5.0, 0.8, 0.7)
    depth, height, width = upright_columns.T
    depth = depth + tilts[0] * 5.0 * height / 0.8 + tilts[1] * 5.0 * width / 0.7
    affine = np.eye(4)
    affine[:3, list(axes)] = np.column_stack([depth, height, width])
    affine[:3, 3] = (12.0, -7.0, 30.0)
    shape = (5, 12, 14)
    file_shape = tuple(shape[axes.index(axis)] for axis in range(3))
    hu = field_at(affine, file_shape).transpose(axes).astype(np.float32)
    made = upright_file(hu, affine, axes, None, degrees=10.0)
    truth = field_at(made.geometry.affine_lps, made.hu.shape)
    # Beyond the edge of a slice lies what fills the plane; cubic splines bend in the last pixels before it.
    covered = made.hu != -1024.0
    inner = binary_erosion(covered, np.ones((1, 7, 7)))
    assert np.count_nonzero(covered) >= 0.8 * hu.size
    assert np.all(inner.any(axis=(1, 2)))
    assert np.abs(made.hu - truth)[inner].max() < 0.1


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_every_format_states_its_shear_alike(suffix, tmp_path: Path):
    if suffix != ".nii":
        pytest.importorskip("SimpleITK")
    affine = np.diag([-0.7, -0.7, 5.0, 1.0])
    affine[1, 2] = 1.5
    values = np.random.default_rng(1).integers(-900, 200, (12, 10, 4)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "a.nii")
    if suffix != ".nii":
        write_sheared(tmp_path / f"a{suffix}", values, np.diag([-1, -1, 1]) @ affine[:3, :3])
    volume, like = read(tmp_path / f"a{suffix}", on_tilt="resample"), read(tmp_path / "a.nii", on_tilt="resample")
    np.testing.assert_array_equal(volume.hu, like.hu)
    np.testing.assert_allclose(volume.geometry.affine_lps, like.geometry.affine_lps, atol=1e-5)
    assert volume.geometry.spacing_mm == pytest.approx((5.0, 0.7, 0.7))
    assert any("tilt of 16.7 degrees was removed" in sentence for sentence in volume.provenance.warnings)


def write_sheared(path: Path, values: np.ndarray, columns_lps: np.ndarray) -> None:
    """An NRRD or MetaImage with plain voxels (x, y, z) at the origin."""
    size, steps = " ".join(map(str, values.shape)), np.linalg.norm(columns_lps, axis=0)
    if path.suffix == ".nrrd":
        directions = " ".join(f"({','.join(f'{v:.9g}' for v in column)})" for column in columns_lps.T)
        text = (
            f"NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: {size}\n"
            f"space directions: {directions}\nkinds: domain domain domain\nendian: little\nencoding: raw\n"
            "space origin: (0,0,0)\n\n"
        )
    else:
        matrix = " ".join(f"{v:.9g}" for v in (columns_lps / steps).T.ravel())
        text = (
            f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
            f"TransformMatrix = {matrix}\nOffset = 0 0 0\nElementSpacing = {' '.join(f'{v:.9g}' for v in steps)}\n"
            f"DimSize = {size}\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
        )
    path.write_bytes(text.encode() + values.transpose(2, 1, 0).tobytes())
