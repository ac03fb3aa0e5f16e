"""Fixtures for files of the x, y, z kind."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

AFFINE = np.diag([-0.7, -0.7, 5.0, 1.0])


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """Writes an array in x, y, z order with nibabel; `edit` changes the header's bytes just before."""

    def _save(data, affine=AFFINE, *, name="case.nii", edit=None, qform=1, sform=1, kind=nibabel.Nifti1Image):
        image = kind(data, affine)
        image.set_qform(affine, code=qform)
        image.set_sform(affine, code=sform)
        path = tmp_path / name
        nibabel.save(image, path)
        if edit is not None:
            opened = gzip.open if name.endswith(".gz") else open
            with opened(path, "rb") as file:
                content = bytearray(file.read())
            header = image.header.__class__(bytes(content[: int(image.header["sizeof_hdr"])]), check=False)
            edit(header)
            content[: header.binaryblock.__len__()] = header.binaryblock
            with opened(path, "wb") as file:
                file.write(content)
        return path

    return _save


@pytest.fixture(scope="session")
def counting():
    """Makes voxels that all differ, in x, y, z order."""

    def _counting(shape=(6, 5, 4), dtype=np.int16):
        return (np.arange(np.prod(shape)).reshape(shape) * 7 - 300).astype(dtype)

    return _counting
