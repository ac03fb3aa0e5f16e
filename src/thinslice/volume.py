"""A CT volume: HU, where it lies, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.errors import GeometryError, InputError
from thinslice.geometry import Geometry


@dataclass(frozen=True)
class Derivation:
    """How a thin volume was made from a thick one: what a derived DICOM series must say of itself.

    Attributes:
        model: name of the network.
        model_version: version of its weights, or of thinslice for a network without weights.
        weights_sha256: of the weights file, or None for a network without weights.
        factor: thin slices per thick interval.
        settings: everything else that changes the pixels (plan, backend precision, profile width); JSON values.
    """

    model: str
    model_version: str
    weights_sha256: str | None
    factor: int
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Provenance:
    """Where a volume came from: what writers need to give the source's conventions back.

    Attributes:
        format: "array", "nifti", "dicom", "nrrd" or "metaimage".
        file_axes: the source file's axis for depth, height and width; (2, 1, 0) is NIfTI's usual x, y, z order.
        padding_hu: HU that marks pixels outside the reconstruction circle, or None. Only a value outside the
            networks' window is kept here; one inside it cannot be told from tissue.
        warnings: sentences about what was odd or corrected on reading.
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
        provenance: where it came from.

    Raises:
        GeometryError: when `hu` and `geometry` disagree about the shape.
        InputError: when `hu` is neither int16 nor float32.
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
