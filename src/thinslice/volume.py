"""A CT volume: HU, their grid, and their provenance."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.errors import GeometryError, InputError
from thinslice.geometry import Geometry

AXIS_TOLERANCE = 0.02
"""How far axes of two volumes may be from parallel (direction cosines) for one to be turned like the other."""


@dataclass(frozen=True)
class Derivation:
    """How a thin volume was made from a thick one: the statements that a derived DICOM series must make.

    Attributes:
        model: name of the network.
        model_version: version of its weights, or of thinslice for a network without weights.
        weights_sha256: of the weights file, or None for a network without weights.
        factor: thin slices per thick interval; no whole number for thin slices at a distance of their own.
        settings: everything else that changes the pixels (plan, backend precision, profile width); JSON values.
    """

    model: str
    model_version: str
    weights_sha256: str | None
    factor: float
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Provenance:
    """Origin of a volume, with the conventions of the source that writers restore.

    Attributes:
        format: "array", "nifti", "dicom", "nrrd" or "metaimage".
        file_axes: the source file's axis for depth, height and width; (2, 1, 0) is NIfTI's usual x, y, z order.
        padding_hu: HU that marks pixels outside the reconstruction circle, or None. Only a value outside the
            networks' window is kept here; one inside it cannot be distinguished from tissue.
        warnings: sentences about oddities and corrections on reading.
        headers: for DICOM, one pydicom dataset per source slice without pixels, in depth order; empty otherwise. A
            derived thin volume keeps those of its thick source.
        derivation: how the volume was made from that source, or None for the source itself.
        details: further facts for the report; JSON values, nothing that identifies a patient.
    """

    format: str = "array"
    file_axes: tuple[int, int, int] = (2, 1, 0)
    padding_hu: float | None = None
    warnings: tuple[str, ...] = ()
    headers: tuple[Any, ...] = field(default=(), repr=False, compare=False)
    derivation: Derivation | None = None
    details: dict[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True)
class Volume:
    """HU on a grid.

    Attributes:
        hu: (depth, height, width); int16 where HU are exact integers, else float32.
        geometry: the grid; its shape equals that of `hu`.
        provenance: its origin.

    Raises:
        GeometryError: the shapes of `hu` and `geometry` differ.
        InputError: `hu` is neither int16 nor float32; convert it with `as_hu`.
    """

    hu: npt.NDArray[Any]
    geometry: Geometry
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        if tuple(self.hu.shape) != self.geometry.shape:
            raise GeometryError(f"Voxels {tuple(self.hu.shape)} do not fit the grid {self.geometry.shape}.")
        if self.hu.dtype not in (np.dtype(np.int16), np.dtype(np.float32)):
            raise InputError(f"HU must be int16 or float32, not {self.hu.dtype}; convert with as_hu().")

    def crop(self, start: tuple[int, int, int], stop: tuple[int, int, int]) -> Volume:
        """Voxels [start, stop) along (depth, height, width), a view, on the matching grid."""
        window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        headers = self.provenance.headers[start[0] : stop[0]]
        return Volume(self.hu[window], self.geometry.crop(start, stop), replace(self.provenance, headers=headers))


def reorient(volume: Volume, like: Geometry) -> Volume:
    """The volume with its axes permuted and flipped so that they run as those of `like`; a view.

    World positions of all voxels stay. The volume itself is returned where nothing has to change.

    Raises:
        GeometryError: the axes of the two are not parallel; resample one onto the other's grid first.

    >>> flipped = Geometry((4, 2, 2), (1, 1, 1), direction=((0, 0, 1), (0, 1, 0), (-1, 0, 0)))
    >>> volume = Volume(np.arange(16, dtype=np.int16).reshape(4, 2, 2), flipped)
    >>> turned = reorient(volume, Geometry((4, 2, 2), (1, 1, 1)))
    >>> turned.hu[:, 0, 0].tolist(), turned.geometry.origin_mm
    ([12, 8, 4, 0], (0.0, 0.0, -3.0))
    """
    source = volume.geometry
    cosines = np.asarray(like.direction).T @ np.asarray(source.direction)
    signs = np.round(cosines).astype(int)
    if np.abs(cosines - signs).max() > AXIS_TOLERANCE or not np.array_equal(signs @ signs.T, np.eye(3, dtype=int)):
        angle = np.degrees(np.arccos(np.clip(np.abs(cosines).max(axis=1).min(), 0.0, 1.0)))
        raise GeometryError(
            f"The axes of the two volumes stand at {angle:.1f} degrees to each other; resample one "
            "onto the other's grid, or align by index."
        )
    # order[i] is the axis of the volume that becomes axis i.
    order = [int(axis) for axis in np.abs(signs).argmax(axis=1)]
    flips = [int(signs[i, axis]) for i, axis in enumerate(order)]
    if order == [0, 1, 2] and flips == [1, 1, 1]:
        return volume
    corner = [0.0, 0.0, 0.0]
    for axis, flip in zip(order, flips, strict=True):
        corner[axis] = 0.0 if flip > 0 else float(source.shape[axis] - 1)
    direction = np.asarray(source.direction)[:, order] * flips
    spacing = [source.spacing_mm[axis] for axis in order]
    grid = replace(
        source,
        shape=tuple(source.shape[axis] for axis in order),  # type: ignore[arg-type]
        # Only in-plane spacings may be unknown; one that becomes the depth counts as 1 mm, as in `affine_lps`.
        spacing_mm=(1.0 if spacing[0] is None else spacing[0], spacing[1], spacing[2]),
        origin_mm=source.position_mm((corner[0], corner[1], corner[2])),
        direction=tuple(tuple(row) for row in direction),  # type: ignore[arg-type]
        thickness_mm=source.thickness_mm if order[0] == 0 else None,
    )
    hu = volume.hu.transpose(order)[tuple(slice(None, None, flip) for flip in flips)]
    # Headers belong to slices in the old order, so a reoriented volume goes without them.
    return Volume(hu, grid, replace(volume.provenance, headers=()))


def as_hu(values: npt.ArrayLike) -> npt.NDArray[Any]:
    """Store HU as int16 where that is exact, else as float32.

    >>> as_hu([1.0, -2.0]).dtype, as_hu([0.5]).dtype, as_hu([40000]).dtype
    (dtype('int16'), dtype('float32'), dtype('float32'))
    """
    array = np.asarray(values)
    if array.dtype == np.int16:
        return array
    bounds = np.iinfo(np.int16)
    if array.size and np.all(np.isfinite(array)) and array.min() >= bounds.min and array.max() <= bounds.max:
        rounded = array.astype(np.int16)
        if np.array_equal(rounded, array):
            return rounded
    return array.astype(np.float32)
