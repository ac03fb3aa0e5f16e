"""The header of NIfTI-1 and NIfTI-2: what it states of shape, scaling and positions, checked.

Source: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h (the format's definition, in its comments).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from thinslice.errors import GeometryError, UnreadableError
from thinslice.file_grid import largest_shift_mm
from thinslice.geometry import POSITION_TOLERANCE_MM
from thinslice.typing import Doubles

HEADER_BYTES = {1: 348, 2: 540}
"""Size of the header of each version, which is also its first field."""

MAX_OFFSET_BYTES = 64 << 20
"""Header extensions before the voxels may be this long."""

_NUMBERS = frozenset({2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280})
"""Datatype codes of plain numbers up to 64 bits; the others are bits, colours, complex and 128-bit numbers."""

_MM_PER_UNIT = {1: 1000.0, 3: 1e-3}
"""Spatial units other than mm (metre, micrometre); an unknown one counts as mm."""

_LABELS, _STATISTICS = 1002, range(2, 25)
"""Intents of voxels that are no measurements: a segmentation, and statistics (z-scores, p-values)."""


_ORIENTATION_CODES = range(6)
"""Codes of sform and qform in the format."""

_ALIGNED = 2
"""The code of coordinates that are aligned to something else than the scanner."""


@dataclass(frozen=True)
class Orientations:
    """How a file states positions.

    Attributes:
        sform_code, qform_code: what the coordinates of each are (1 scanner, 2 aligned, 3 Talairach, 4 MNI); 0 for none.
        other_world: where the file has two orientations that differ, the 4 x 4 matrix from the world of the one that is
            used to that of the other (RAS mm); None elsewhere.
    """

    sform_code: int = 1
    qform_code: int = 1
    other_world: tuple[tuple[float, ...], ...] | None = None

    def as_details(self) -> dict[str, Any]:
        """JSON values, for `Provenance.details`."""
        return {"nifti": asdict(self)}

    @classmethod
    def of_details(cls, details: Mapping[str, Any]) -> Orientations:
        """What `as_details` stored; scanner coordinates for a volume of another origin."""
        return cls(**details.get("nifti", {}))


@dataclass(frozen=True)
class NiftiHeader:
    """The checked content of a header.

    Attributes:
        shape: voxels along the file's axes 0, 1, 2.
        dtype: of the stored voxels.
        offset: bytes before the voxels.
        slope, intercept: HU = slope * stored + intercept.
        affine_ras: 4 x 4, file indices to RAS mm.
        orientation: "sform", "qform" or "spacing": the source of `affine_ras`.
        orientations: what a writer needs to state positions as the file does.
        slice_axis: the file's own slice axis, or None.
        warnings: sentences about oddities.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    affine_ras: Doubles
    orientation: str
    orientations: Orientations
    slice_axis: int | None
    warnings: tuple[str, ...]


def nifti_version(head: bytes) -> tuple[int, bool] | None:
    """The NIfTI version at the start of a file, and whether its voxels lie in a second file; None for other files.

    >>> nifti_version(bytes(344) + b"n+1" + bytes(1)) is None
    True
    """
    for order in ("<", ">"):
        size = int(np.frombuffer(head[:4].ljust(4, b"\0"), f"{order}i4")[0])
        if size == HEADER_BYTES[1] and head[344:348] in (b"n+1\0", b"ni1\0"):
            return 1, head[345:346] == b"i"
        if size == HEADER_BYTES[2] and head[4:12] in (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n"):
            return 2, head[5:6] == b"i"
    return None


def as_rows(matrix: Doubles) -> tuple[tuple[float, ...], ...]:
    """A matrix as plain numbers."""
    return tuple(tuple(row) for row in matrix.tolist())


def nibabel_module() -> Any:
    """Nibabel, loaded when first needed; its header classes carry no types."""
    return importlib.import_module("nibabel")


def parse_header(head: bytes, version: int, *, paired: bool, name: str) -> NiftiHeader:
    """The checked content of a header.

    Args:
        head: its bytes.
        version: 1 or 2.
        paired: whether the voxels lie in a second file.
        name: of the file, for messages.

    Raises:
        UnreadableError: cut short, several frames, colour or complex voxels, or impossible numbers; copy the file
            again, or export it as one volume of HU.
        GeometryError: no spacing, or an orientation that is none; repair the header.
    """
    nibabel = nibabel_module()
    if len(head) < HEADER_BYTES[version]:
        raise UnreadableError(f"{name!r} is cut short inside its header; copy or download it again.")
    kind = nibabel.Nifti1Header if version == 1 else nibabel.Nifti2Header
    header = kind(head, check=False)
    warnings: list[str] = []
    shape = _shape(header, name)
    code = int(header["datatype"])
    if code not in _NUMBERS:
        raise UnreadableError(
            f"{name!r} holds colour, complex or otherwise unusual voxels (NIfTI datatype {code}); "
            "a CT in HU has one real number a voxel."
        )
    dtype = nibabel.nifti1.data_type_codes.dtype[code].newbyteorder(header.endianness)
    least = 0 if paired else HEADER_BYTES[version]
    offset = float(header["vox_offset"])
    if not (least <= offset <= MAX_OFFSET_BYTES and offset.is_integer()):
        raise UnreadableError(
            f"The header of {name!r} puts the voxels at byte {offset:g}, which is impossible; the file is damaged."
        )
    slope, intercept = _scaling(header, name, warnings)
    _note_intent(header, warnings)
    affine, orientation, orientations = _affine(header, shape, name, warnings)
    unit = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7)
    if unit is not None:
        to_mm = np.diag([unit, unit, unit, 1.0])
        affine = to_mm @ affine
        if orientations.other_world is not None:
            other = to_mm @ np.asarray(orientations.other_world) @ np.linalg.inv(to_mm)
            orientations = replace(orientations, other_world=as_rows(other))
        warnings.append(f"Positions in the file are in units of {unit:g} mm; they were converted to mm.")
    slice_axis = (int(header["dim_info"]) >> 4 & 3) - 1
    return NiftiHeader(
        shape=shape,
        dtype=dtype,
        offset=int(offset),
        slope=slope,
        intercept=intercept,
        affine_ras=affine,
        orientation=orientation,
        orientations=orientations,
        slice_axis=slice_axis if slice_axis >= 0 else None,
        warnings=tuple(warnings),
    )


def _shape(header: Any, name: str) -> tuple[int, int, int]:
    count = int(header["dim"][0])
    if not 1 <= count <= 7:
        raise UnreadableError(f"The header of {name!r} declares {count} axes; the file is damaged.")
    dims = [int(n) for n in header["dim"][1 : count + 1]]
    if min(dims) < 1:
        raise UnreadableError(f"The header of {name!r} declares an axis of {min(dims)} voxels; the file is damaged.")
    if any(n != 1 for n in dims[3:]):
        raise UnreadableError(
            f"{name!r} has {len(dims)} axes ({' x '.join(map(str, dims))}); "
            "give one volume: split the frames into files of their own first."
        )
    width, height, depth = [*dims, 1, 1][:3]
    return width, height, depth


def _scaling(header: Any, name: str, warnings: list[str]) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 or NaN means none of both, as the format says."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0.0 or np.isnan(slope):
        if np.isfinite(intercept) and intercept != 0.0:
            warnings.append(
                f"The header has an intercept of {intercept:g} beside a slope of {slope:g}, which means no scaling; it "
                "was not applied."
            )
        return 1.0, 0.0
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise UnreadableError(f"{name!r} has a scaling that is not finite; repair its header.")
    return slope, intercept


def _note_intent(header: Any, warnings: list[str]) -> None:
    intent = int(header["intent_code"])
    if intent == _LABELS or intent in _STATISTICS:
        kind = "labels of a segmentation" if intent == _LABELS else "values of a statistic"
        warnings.append(f"The header declares the voxels {kind} (intent {intent}), not HU.")


def _affine(
    header: Any, shape: tuple[int, int, int], name: str, warnings: list[str]
) -> tuple[Doubles, str, Orientations]:
    """The matrix from file indices to RAS in the file's unit, its origin, and how the file states positions."""
    sform_code, qform_code = (_orientation_code(header, form, warnings) for form in ("sform", "qform"))
    sform = header.get_sform().astype(np.float64) if sform_code > 0 else None
    qform = _qform(header, name, warnings, needed=sform is None) if qform_code > 0 else None
    if sform is not None and qform is not None and not _is_invertible(sform):
        warnings.append("The file's sform is zero, singular or not finite; its qform was used.")
        sform = None
    if sform is not None:
        apart = 0.0 if qform is None else largest_shift_mm(sform, qform, shape)
        other = None
        # Positions of single precision differ by rounding alone.
        if qform is not None and apart > POSITION_TOLERANCE_MM:
            warnings.append(
                f"The file's two orientations (qform and sform) differ by up to {apart:.3g} mm; the sform was used."
            )
            if _is_invertible(sform):
                other = as_rows(qform @ np.linalg.inv(sform))
        return sform, "sform", Orientations(sform_code, 0 if qform is None else qform_code, other)
    if qform is not None:
        return qform, "qform", Orientations(0, qform_code)
    warnings.append(
        "The file holds no orientation and position; its axes were taken as right, anterior, superior from 0."
    )
    return np.diag([*_pixdim(header, name, warnings), 1.0]), "spacing", Orientations(0, 0)


def _orientation_code(header: Any, form: str, warnings: list[str]) -> int:
    """The code of the sform or qform; one that does not exist counts as aligned coordinates, with a warning."""
    code = int(header[f"{form}_code"])
    if code in _ORIENTATION_CODES:
        return code
    warnings.append(
        f"The file's {form} has the code {code}, which does not exist; it was taken as {_ALIGNED} (aligned)."
    )
    return _ALIGNED


def _is_invertible(affine: Doubles) -> bool:
    """Whether an orientation gives every voxel a place of its own."""
    if not np.all(np.isfinite(affine)):
        return False
    lengths = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    return bool(lengths.min() > 0 and abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-3)


def _pixdim(header: Any, name: str, warnings: list[str]) -> list[float]:
    """Spacing along the file's axes; a negative one is taken as positive, with a warning."""
    pixdim = [float(s) for s in header["pixdim"][1:4]]
    if not all(np.isfinite(s) and s != 0.0 for s in pixdim):
        raise GeometryError(
            f"{name!r} declares voxel spacings of {', '.join(f'{s:g}' for s in pixdim)} mm; repair its header."
        )
    if min(pixdim) < 0:
        warnings.append("A negative voxel spacing was taken as positive.")
    return [abs(s) for s in pixdim]


def _qform(header: Any, name: str, warnings: list[str], *, needed: bool) -> Doubles | None:
    """The qform's matrix; None when it is damaged and not `needed`."""
    notes: list[str] = []
    try:
        repaired = header.copy()
        repaired["pixdim"][1:4] = _pixdim(header, name, notes)
        # 0 means 1 in files of old writers, and only the sign counts.
        repaired["pixdim"][0] = -1.0 if float(header["pixdim"][0]) < 0 else 1.0
        matrix = np.asarray(repaired.get_qform(), dtype=np.float64)
        if not np.all(np.isfinite(matrix)):
            raise ValueError("not finite")
    except (GeometryError, ValueError, ArithmeticError) as error:
        if not needed:
            warnings.append("The file's qform is damaged; its sform was used.")
            return None
        if isinstance(error, GeometryError):
            raise
        raise GeometryError(
            f"{name!r} has an orientation (qform) that is not a rotation; repair its header."
        ) from error
    warnings.extend(notes)
    return matrix
