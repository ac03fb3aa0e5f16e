"""Cases of the clinical check: thin volumes with thick slices simulated from them, and real pairs cut by position."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from thinslice.data.pairing import pair_by_position
from thinslice.data.simulate import simulate_thick
from thinslice.errors import NotEligibleError
from thinslice.evaluation.clinical import lung_density, tissue_bias
from thinslice.profile import SliceProfile
from thinslice.volume import Volume

LEAST_THICK = 4
"""Thick slices that a case needs: two are measured then."""


@dataclass(frozen=True)
class Case:
    """Thick slices and the truth that lies on their thin grid.

    Attributes:
        label: name of the case.
        thick: HU, D slices.
        truth: HU, (D - 1) * factor + 1 slices; thick slice k lies on slice factor * k.
        lung: (depth, height, width) of the truth: whether a voxel is lung.
        factor: thin slices per thick interval.
        profile: name of the profile that the thick slices were simulated with, or "real pair".
    """

    label: str
    thick: Volume
    truth: Volume
    lung: lung_density.Mask
    factor: int
    profile: str

    def facts(self) -> dict[str, Any]:
        """JSON values."""
        depth = self.thick.geometry.shape[0]
        return {
            "label": self.label,
            "factor": self.factor,
            "shape": list(self.truth.geometry.shape),
            "spacing_mm": list(self.truth.geometry.spacing_mm),
            "thick_mm": self.factor * self.truth.geometry.spacing_mm[0],
            "profile": self.profile,
            "thick_slices": depth,
            "thick_slices_measured": len(tissue_bias.inner_thick(depth)),
        }


def simulated_case(label: str, thin: Volume, lung: lung_density.Mask, factor: int) -> Case:
    """A thin volume with thick slices simulated from it.

    Args:
        label: name of the case.
        thin: HU, of `prepared`.
        lung: (depth, height, width) of `thin`: whether a voxel is lung.
        factor: thin slices per thick interval.

    Raises:
        NotEligibleError: too few slices for the factor; give a deeper volume or a lower factor.
    """
    profile = SliceProfile.mean(factor)
    thick, truth = simulate_thick(thin, profile, whole_hu=True)
    depth = thick.geometry.shape[0]
    if depth < LEAST_THICK:
        raise NotEligibleError(
            f"{thin.geometry.shape[0]} thin slices make {depth} thick ones at factor {factor}; the check needs "
            f"{LEAST_THICK}."
        )
    begin = profile.centres(thin.geometry.shape[0])[0]
    return Case(label, thick, truth, lung[begin : begin + truth.geometry.shape[0]], factor, profile.name)


def real_case(label: str, thick: Volume, thin: Volume, crop: int | None) -> tuple[Case, str]:
    """A real pair, cut by position, and the digest of its whole thin volume.

    Args:
        label: name of the case.
        thick, thin: two reconstructions of one acquisition, HU.
        crop: height and width in pixels to which it is cropped; None for all.

    Raises:
        GeometryError: no pair by position.
        NotEligibleError: fewer than `LEAST_THICK` thick slices.
    """
    digest = digest_of(prepared(thin))
    thick, truth, factor = pair_by_position(thick, thin)
    if thick.geometry.shape[0] < LEAST_THICK:
        raise NotEligibleError(
            f"The pair {label!r} shares {thick.geometry.shape[0]} thick slices; the check needs {LEAST_THICK}."
        )
    thick, truth = prepared(thick), prepared(truth)
    lung = lung_density.find_lung(truth.hu, lung_density.voxel_mm3(truth.geometry))
    if crop is not None:
        rows, columns = _window(truth, lung, crop)
        thick, truth = (
            v.crop((0, rows.start, columns.start), (v.geometry.shape[0], rows.stop, columns.stop))
            for v in (thick, truth)
        )
        lung = lung[:, rows, columns]
    return Case(label, thick, truth, lung, factor, "real pair"), digest


def prepared(thin: Volume) -> Volume:
    """The volume with padding and values below the networks' window at -1024 HU, as the input of every method."""
    hu = np.maximum(thin.hu, thin.hu.dtype.type(tissue_bias.FLOOR_HU))
    return Volume(hu, thin.geometry, replace(thin.provenance, padding_hu=None))


def digest_of(volume: Volume) -> str:
    """SHA-256 of voxels and grid, without headers: it identifies the data, not the patient."""
    digest = hashlib.sha256()
    grid = volume.geometry
    digest.update(f"{volume.hu.dtype};{grid.shape};{tuple(round(s or 0.0, 6) for s in grid.spacing_mm)};".encode())
    for plane in volume.hu:
        digest.update(np.ascontiguousarray(plane).tobytes())
    return digest.hexdigest()


def cropped(thin: Volume, lung: lung_density.Mask, size: int) -> tuple[Volume, lung_density.Mask]:
    """Crop to the window of `_window`."""
    rows, columns = _window(thin, lung, size)
    depth = thin.geometry.shape[0]
    return thin.crop((0, rows.start, columns.start), (depth, rows.stop, columns.stop)), lung[:, rows, columns]


def _window(thin: Volume, lung: lung_density.Mask, size: int) -> tuple[slice, slice]:
    """Rows and columns of the square of pixels whose lesser share of lung and tissue is largest, over all slices."""
    _, height, width = thin.geometry.shape
    rows, columns = min(size, height), min(size, width)
    shares = []
    for present in (lung.mean(axis=0), np.mean(thin.hu > -200, axis=0)):
        total = np.pad(np.cumsum(np.cumsum(present, axis=0), axis=1), ((1, 0), (1, 0)))
        shares.append(total[rows:, columns:] - total[:-rows, columns:] - total[rows:, :-columns]
                      + total[:-rows, :-columns])  # fmt: skip
    y, x = np.unravel_index(int(np.argmin(-np.minimum(*shares))), shares[0].shape)
    return slice(int(y), int(y) + rows), slice(int(x), int(x) + columns)
