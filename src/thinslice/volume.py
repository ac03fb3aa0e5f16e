"""A CT volume: HU, their grid, and their provenance."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice import exchange
from thinslice.arguments import (
    check_instance,
    check_number,
    check_several,
    check_text,
    check_whole_numbers,
    refuse,
)
from thinslice.errors import ArgumentTypeError, GeometryError, InputError, UsageError
from thinslice.geometry import AXIAL_DIRECTION, Direction, Geometry, orientation_name

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

    Raises:
        ArgumentTypeError: a value of another type; the message describes what is taken.
        UsageError: `file_axes` that are no order of 0, 1 and 2; give one.
    """

    format: str = "array"
    file_axes: tuple[int, int, int] = (2, 1, 0)
    padding_hu: float | None = None
    warnings: tuple[str, ...] = ()
    headers: tuple[Any, ...] = field(default=(), repr=False, compare=False)
    derivation: Derivation | None = None
    details: dict[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        check_text("format", self.format)
        if sorted(check_whole_numbers("file_axes", self.file_axes, "three axes")) != [0, 1, 2]:
            raise UsageError(f"The argument file_axes takes 0, 1 and 2 in some order, not {self.file_axes}.")
        if self.padding_hu is not None and not np.isfinite(
            check_number("padding_hu", self.padding_hu, "a number of HU, or None")
        ):
            raise UsageError(f"The argument padding_hu takes a finite number of HU, not {self.padding_hu}.")
        for sentence in check_several("warnings", self.warnings, "several sentences"):
            check_text("warnings", sentence, "several sentences")
        check_instance("headers", self.headers, tuple, "a tuple of pydicom datasets, one per slice")
        if self.derivation is not None:
            check_instance("derivation", self.derivation, Derivation, "a Derivation, or None")
        check_instance("details", self.details, dict, "a dict")


@dataclass(frozen=True, eq=False, repr=False)
class Volume:
    """HU on a grid.

    Two volumes are equal when their grids and all their HU are, wherever they came from. `numpy.asarray(volume)` is its
    HU.

    Attributes:
        hu: (depth, height, width); int16 where HU are exact integers, else float32.
        geometry: the grid; its shape equals that of `hu`.
        provenance: its origin.

    Raises:
        GeometryError: the shapes of `hu` and `geometry` differ.
        InputError: `hu` is neither int16 nor float32; convert it with `as_hu`.
        ArgumentTypeError: no array, grid or provenance; `from_array` takes an array alone.
    """

    hu: npt.NDArray[Any]
    geometry: Geometry
    provenance: Provenance = field(default_factory=Provenance)

    def __post_init__(self) -> None:
        check_instance("hu", self.hu, np.ndarray, "a numpy array; Volume.from_array takes whatever becomes one")
        check_instance("geometry", self.geometry, Geometry, "a thinslice.Geometry; Volume.from_array makes one")
        check_instance("provenance", self.provenance, Provenance, "a thinslice.Provenance")
        if tuple(self.hu.shape) != self.geometry.shape:
            raise GeometryError(f"Voxels {tuple(self.hu.shape)} do not fit the grid {self.geometry.shape}.")
        if self.hu.dtype not in (np.dtype(np.int16), np.dtype(np.float32)):
            raise InputError(f"HU must be int16 or float32, not {self.hu.dtype}; convert with as_hu().")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (depth, height, width)."""
        return self.geometry.shape

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """HU, (depth, height, width); a view unless another type or a copy is asked for."""
        if copy is False and dtype is not None and np.dtype(dtype) != self.hu.dtype:
            raise ValueError(f"HU of type {self.hu.dtype} cannot be viewed as {np.dtype(dtype)}; allow a copy.")
        return np.array(self.hu, dtype=dtype, copy=True) if copy else np.asarray(self.hu, dtype=dtype)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Volume):
            return NotImplemented
        return self.geometry == other.geometry and np.array_equal(
            self.hu, other.hu, equal_nan=self.hu.dtype.kind == other.hu.dtype.kind == "f"
        )

    __hash__ = None  # type: ignore[assignment]  # voxels can change

    def __repr__(self) -> str:
        """One line: extent, distances, type and range of HU, source; nothing that identifies a patient."""
        return f"Volume({', '.join(f'{value}' for _, value in self._facts())})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in self._facts())
        return f"<table><caption>thinslice Volume</caption><tbody>{rows}</tbody></table>"

    def _facts(self) -> list[tuple[str, str]]:
        grid = self.geometry
        spacing = " x ".join("?" if step is None else f"{step:.4g}" for step in grid.spacing_mm)
        thickness = "thickness unknown" if grid.thickness_mm is None else f"{grid.thickness_mm:.4g} mm thick"
        finite = bool(np.isfinite(self.hu).all())
        low_high = f"{self.hu.min():g} to {self.hu.max():g} HU" if finite else "values that are not finite"
        derivation = self.provenance.derivation
        source = self.provenance.format if derivation is None else f"{derivation.model} {derivation.factor:g}x"
        return [
            ("voxels", " x ".join(str(extent) for extent in grid.shape)),
            ("spacing", f"{spacing} mm"),
            ("slices", thickness),
            ("orientation", orientation_name(tuple(grid.normal.tolist()))),
            ("values", f"{self.hu.dtype} {low_high}"),
            ("source", source),
        ]

    @classmethod
    def from_array(
        cls,
        hu: npt.ArrayLike,
        *,
        spacing_mm: tuple[float, float | None, float | None],
        thickness_mm: float | None = None,
        origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
        direction: Direction = AXIAL_DIRECTION,
    ) -> Volume:
        """A volume of an array.

        Args:
            hu: (depth, height, width) HU; stored as int16 where that is exact, else as float32.
            spacing_mm: distance of voxels along (depth, height, width).
            thickness_mm: slice thickness; None where unknown, which counts as the depth spacing.
            origin_mm: LPS of voxel [0, 0, 0].
            direction: LPS unit vectors of the depth, height and width axes as columns.

        Raises:
            GeometryError: not three axes, or a grid that cannot be.
            ArgumentTypeError: values that are no real numbers, or an argument of another type; the message describes
                what is taken.

        >>> Volume.from_array([[[0, 100]], [[-1000, 40]]], spacing_mm=(5.0, 0.7, 0.7))
        Volume(2 x 1 x 2, 5 x 0.7 x 0.7 mm, thickness unknown, axial, int16 -1000 to 100 HU, array)
        """
        values = as_hu(_real_numbers(hu))
        if values.ndim != 3:
            raise GeometryError(f"A volume has three axes (depth, height, width), not the shape {values.shape}.")
        grid = Geometry(values.shape, spacing_mm, origin_mm, direction, thickness_mm)
        return cls(values, grid)

    @classmethod
    def from_nibabel(cls, image: Any, *, axis: int | None = None, thickness_mm: float | None = None) -> Volume:
        """A volume of a nibabel image in HU.

        Args:
            image: any affine; its axes keep their order on the way back.
            axis: the image's axis across the slices, where its spacings do not show it (the largest does).
            thickness_mm: slice thickness, which such objects do not hold.

        Raises:
            GeometryError: not three axes, sheared axes or impossible spacings; resample it first.
            ArgumentTypeError: another object; give a nibabel image.
        """
        return cls._exchanged(exchange.from_nibabel(image, axis), thickness_mm)

    @classmethod
    def from_sitk(cls, image: Any, *, axis: int | None = None, thickness_mm: float | None = None) -> Volume:
        """A volume of a SimpleITK image in HU; arguments and errors as `from_nibabel`."""
        return cls._exchanged(exchange.from_sitk(image, axis), thickness_mm)

    @classmethod
    def from_torchio(cls, image: Any, *, axis: int | None = None, thickness_mm: float | None = None) -> Volume:
        """A volume of a TorchIO image of one channel in HU; arguments and errors as `from_nibabel`."""
        return cls._exchanged(exchange.from_torchio(image, axis), thickness_mm)

    @classmethod
    def from_monai(cls, tensor: Any, *, axis: int | None = None, thickness_mm: float | None = None) -> Volume:
        """A volume of a MONAI MetaTensor, (1, x, y, z) or (x, y, z), in HU; arguments and errors as `from_nibabel`."""
        return cls._exchanged(exchange.from_monai(tensor, axis), thickness_mm)

    def to_nibabel(self) -> Any:
        """A nibabel Nifti1Image with the axis order of the source."""
        return exchange.to_nibabel(self.hu, self.geometry, self.provenance.file_axes)

    def to_sitk(self) -> Any:
        """A SimpleITK image with the axis order of the source.

        Raises:
            MissingExtraError: SimpleITK is not installed; install the itk extra.
        """
        return exchange.to_sitk(self.hu, self.geometry, self.provenance.file_axes)

    def to_torchio(self) -> Any:
        """A TorchIO ScalarImage with the axis order of the source.

        Raises:
            MissingExtraError: TorchIO is not installed.
        """
        return exchange.to_torchio(self.hu, self.geometry, self.provenance.file_axes)

    def to_monai(self) -> Any:
        """A MONAI MetaTensor (1, x, y, z), with the axis order of the source.

        Raises:
            MissingExtraError: MONAI is not installed.
        """
        return exchange.to_monai(self.hu, self.geometry, self.provenance.file_axes)

    def to_napari(self, name: str = "CT") -> tuple[npt.NDArray[Any], dict[str, Any], str]:
        """A napari image layer: `viewer.add_layer(napari.layers.Layer.create(*volume.to_napari()))`.

        >>> layer = Volume(np.zeros((2, 3, 3), np.int16), Geometry((2, 3, 3), (5.0, 1.0, 1.0))).to_napari("thick")
        >>> layer[1]["name"], layer[1]["affine"].diagonal().tolist(), layer[2]
        ('thick', [-5.0, 1.0, 1.0, 1.0], 'image')
        """
        return exchange.to_napari(self.hu, self.geometry, name)

    @classmethod
    def _exchanged(cls, found: exchange.Exchanged, thickness_mm: float | None) -> Volume:
        provenance = Provenance(file_axes=found.file_axes, warnings=found.warnings, details=found.details)
        grid = replace(found.geometry, thickness_mm=thickness_mm)
        return cls(np.ascontiguousarray(as_hu(found.values)), grid, provenance)

    def crop(self, start: tuple[int, int, int], stop: tuple[int, int, int]) -> Volume:
        """Voxels [start, stop) along (depth, height, width), a view, on the matching grid.

        Raises:
            GeometryError: the range leaves the volume; give one inside its shape.
        """
        grid = self.geometry.crop(start, stop)
        window = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        headers = self.provenance.headers[start[0] : stop[0]]
        return Volume(self.hu[window], grid, replace(self.provenance, headers=headers))


_MAKERS = {
    "numpy": "from_array",
    "nibabel": "from_nibabel",
    "SimpleITK": "from_sitk",
    "torchio": "from_torchio",
    "monai": "from_monai",
}
"""Packages of image objects, and what makes a volume of theirs."""


def check_volume(name: str, value: object, takes: str = "a thinslice.Volume") -> Volume:
    """A volume.

    Args:
        name: the argument.
        value: what was given.
        takes: what the argument takes.

    Raises:
        ArgumentTypeError: another type; the message names what makes a volume of it.
    """
    if isinstance(value, Volume):
        return value
    if isinstance(value, (str, Path)):
        refuse(name, value, f"{takes}; thinslice.read makes one of a path")
    maker = _MAKERS.get(type(value).__module__.partition(".")[0], "from_array")
    refuse(name, value, f"{takes}; make one with thinslice.Volume.{maker}")


def _real_numbers(values: npt.ArrayLike) -> npt.NDArray[Any]:
    """An array of real numbers.

    Raises:
        ArgumentTypeError: no numbers, or rows of unequal length; give an array of numbers.
    """
    takes = "an array of real numbers (depth, height, width)"
    if isinstance(values, np.ma.MaskedArray):
        refuse("hu", values, f"{takes}; fill masked voxels first, as in hu.filled(-1024)")
    try:
        array = np.asarray(values)
    except Exception as error:  # an object's own conversion may raise anything
        raise ArgumentTypeError(f"The argument hu takes {takes}, and this does not become one: {error}.") from error
    if array.dtype.kind not in "biuf":
        raise ArgumentTypeError(
            f"The argument hu takes {takes}, not values of type {array.dtype}; convert them first, as in "
            "hu.astype('float32')."
        )
    return array


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
