"""The file of a measured slice profile: JSON, made by `thinslice dataset profile`, taken by `thinslice upscale`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from thinslice.errors import InputError
from thinslice.geometry import Geometry
from thinslice.profile import ProfileDensity, SliceProfile

LARGEST_FILE_BYTES = 1 << 20
"""A profile has at most some hundred samples; a larger file is something else."""

SAME_SLICES = 0.02
"""Share by which distance and thickness of slices may differ from those that a profile was measured on."""

Millimetres = Annotated[float, Field(gt=0, le=1000)]
FiniteMillimetres = Annotated[float, Field(ge=-1000, le=1000)]


class MeasuredProfile(BaseModel):
    """A slice profile as density over the distance from the slice's centre, and how well it fits the pair it is from.

    Attributes:
        format: name and version of this form.
        offsets_mm: distances from the slice's centre, ascending; the density is linear between them and zero outside.
        weights: density there, non-negative, in any unit.
        thick_spacing_mm: distance of the thick slices that it was measured on.
        thick_thickness_mm: their thickness in the header; None where unknown.
        thin_spacing_mm: distance of the thin slices.
        residual_rms_hu: RMS distance of the thick slices from those made with this profile; None for a profile that
            was not measured.
        box_residual_rms_hu: the same for a box of the header's thickness.
        voxels: thick voxels that were compared.

    Raises:
        ValidationError: offsets that do not ascend, negative or missing weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: Literal["thinslice-slice-profile-1"] = "thinslice-slice-profile-1"
    offsets_mm: tuple[FiniteMillimetres, ...] = Field(min_length=3, max_length=1001)
    weights: tuple[Annotated[float, Field(ge=0, le=1e6)], ...] = Field(min_length=3, max_length=1001)
    thick_spacing_mm: Millimetres
    thick_thickness_mm: Millimetres | None = None
    thin_spacing_mm: Millimetres | None = None
    residual_rms_hu: float | None = None
    box_residual_rms_hu: float | None = None
    voxels: int | None = None

    @model_validator(mode="after")
    def _is_density(self) -> Self:
        if len(self.offsets_mm) != len(self.weights):
            raise ValueError("offsets_mm and weights must have one length")
        if any(later <= earlier for earlier, later in zip(self.offsets_mm, self.offsets_mm[1:], strict=False)):
            raise ValueError("offsets_mm must ascend")
        if max(self.weights) < 1e-6:
            raise ValueError("weights must not all be zero")
        return self

    @classmethod
    def box(cls, grid: Geometry) -> MeasuredProfile:
        """A box of the slice thickness in the header, or of the slices' distance where that is unknown.

        For a network whose card holds the profile of another scanner.

        >>> box = MeasuredProfile.box(Geometry((9, 8, 8), (5.0, 0.7, 0.7)))
        >>> [round(weight, 3) for weight in box.on_grid(5, 5.0).weights]
        [0.2, 0.2, 0.2, 0.2, 0.2]
        """
        half = 0.5 * (grid.thickness_mm or grid.spacing_mm[0])
        return cls(
            offsets_mm=(-half, 0.0, half),
            weights=(1.0, 1.0, 1.0),
            thick_spacing_mm=grid.spacing_mm[0],
            thick_thickness_mm=grid.thickness_mm,
        )

    @property
    def width_mm(self) -> float:
        """Width of the box with the same standard deviation, in mm."""
        at, density = self._fine()
        mass = density.sum()
        centre = float((at * density).sum() / mass)
        return float(np.sqrt(12.0 * ((at - centre) ** 2 * density).sum() / mass))

    @property
    def centre_mm(self) -> float:
        """Centre of mass; away from 0 where the slices of the pair lie shifted against each other."""
        at, density = self._fine()
        return float((at * density).sum() / density.sum())

    @property
    def described(self) -> str:
        """Distance and thickness of the thick slices in words.

        >>> MeasuredProfile(offsets_mm=(-4, 0, 4), weights=(0, 1, 0), thick_spacing_mm=5).described
        '5 mm apart'
        """
        thickness = "" if self.thick_thickness_mm is None else f" and {self.thick_thickness_mm:.4g} mm thick"
        return f"{self.thick_spacing_mm:.4g} mm apart{thickness}"

    @property
    def sha256(self) -> str:
        """Digest of all values, hexadecimal: outputs of two profiles must not share their UIDs."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def holds_for(self, grid: Geometry) -> bool:
        """Whether thick slices lie as far apart and are as thick as those that it was measured on.

        A thickness that is unknown on either side counts as equal.

        >>> triangle = {"offsets_mm": (-4, 0, 4), "weights": (0, 1, 0), "thick_spacing_mm": 5, "thick_thickness_mm": 5}
        >>> measured = MeasuredProfile(**triangle)
        >>> [measured.holds_for(Geometry((9, 8, 8), (mm, 0.7, 0.7), thickness_mm=mm)) for mm in (5.0, 4.0)]
        [True, False]
        """
        pairs = [(self.thick_spacing_mm, grid.spacing_mm[0])]
        if self.thick_thickness_mm is not None and grid.thickness_mm is not None:
            pairs.append((self.thick_thickness_mm, grid.thickness_mm))
        return all(abs(theirs - ours) <= SAME_SLICES * ours for ours, theirs in pairs)

    def on_grid(self, factor: int, thick_spacing_mm: float) -> SliceProfile:
        """Weights of thin slices in a thick one.

        Args:
            factor: thin slices per thick interval.
            thick_spacing_mm: distance of the thick slices to upscale.

        >>> triangle = MeasuredProfile(offsets_mm=(-2.0, 0.0, 2.0), weights=(0.0, 1.0, 0.0), thick_spacing_mm=2.0)
        >>> triangle.on_grid(2, 2.0).weights
        (0.03125, 0.25, 0.4375, 0.25, 0.03125)
        """
        return SliceProfile.measured(factor, self.density(thick_spacing_mm))

    def density(self, thick_spacing_mm: float) -> ProfileDensity:
        """The profile over the distance in thick spacings."""
        return ProfileDensity(tuple(offset / thick_spacing_mm for offset in self.offsets_mm), self.weights)

    def write(self, path: Path, *, overwrite: bool = False) -> None:
        """Write the file, whole or not at all.

        Raises:
            OutputExistsError: it exists and `overwrite` is false.
            OutputError: it cannot be written there.
        """
        from thinslice.system.atomic import atomic_file

        with atomic_file(path, overwrite=overwrite) as partial:
            partial.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def _fine(self) -> tuple[np.ndarray, np.ndarray]:
        at = np.linspace(self.offsets_mm[0], self.offsets_mm[-1], 4001)
        return at, np.interp(at, self.offsets_mm, self.weights)


def read_slice_profile(path: Path) -> MeasuredProfile:
    """The profile in a file.

    Raises:
        InputError: no file, or not one of a slice profile; make one with `thinslice dataset profile`.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"The slice profile {path.name!r} cannot be read ({error.strerror}); check the path."
        ) from error
    if len(text) > LARGEST_FILE_BYTES:
        raise InputError(f"{path.name!r} is too large for a slice profile; make one with 'thinslice dataset profile'.")
    try:
        return MeasuredProfile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path.name!r} is no slice profile ({f'{where}: ' if where else ''}{first['msg']}); make one with "
            "'thinslice dataset profile'."
        ) from error
