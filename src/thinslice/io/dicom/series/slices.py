"""One CT image of a series: its place, its pixel format, and what it shares with the other slices of its volume."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from thinslice.geometry import orientation_name
from thinslice.io.dicom.files.header import SliceHeader
from thinslice.io.dicom.files.pixel_format import PixelError, PixelFormat, pixel_format
from thinslice.io.dicom.files.pixels import check_complete
from thinslice.io.dicom.files.values import integer, number, numbers, text
from thinslice.io.dicom.series.plane import ImagePlane, along_normal, sound_cosines
from thinslice.io.dicom.series.stacking import SAME_POSITION_MM

ORIENTATION_TOLERANCE = 1e-3
"""Cosines that differ by less are one orientation, written with few decimals: 0.2 mm at the edge of the plane."""

PIXEL_SPACING_TOLERANCE_MM = 1e-3
"""Pixel spacings that differ by less are one, written with few decimals (0.7813, 0.78125): 0.5 mm over 512 pixels."""

COLOURS = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
"""Values of PhotometricInterpretation."""

FARTHEST_MM = 1e5
"""Largest coordinate of a position; no scanner's room is larger than 100 m."""


@dataclass(frozen=True)
class Slice:
    """One file of a CT series, with its place and pixel format.

    Attributes:
        header: the file.
        plane: its place, or None where the header holds none.
        form: the storage of its pixels, or None when `problem` is set.
        instance: InstanceNumber.
        problem: why its pixels cannot be read, or "".
        matrix: (Rows, Columns), None where missing.
        colour: PhotometricInterpretation.
        pixel_spacing_mm: (height, width), or None where missing.
        height_mm: distance along the normal; 0 without a plane.
    """

    header: SliceHeader
    plane: ImagePlane | None
    form: PixelFormat | None
    instance: int | None
    problem: str
    matrix: tuple[int | None, int | None]
    colour: str
    pixel_spacing_mm: tuple[float, float] | None
    height_mm: float


def slice_of(header: SliceHeader) -> Slice:
    """The slice that a CT image is."""
    dataset = header.dataset
    form, problem = None, ""
    try:
        form = pixel_format(dataset)
        check_complete(header, form)
    except PixelError as error:
        form, problem = None, str(error)
    position = numbers(dataset, "ImagePositionPatient", 3)
    cosines = numbers(dataset, "ImageOrientationPatient", 6)
    instance = integer(dataset, "InstanceNumber")
    plane = None
    if position and cosines and sound_cosines(cosines) and max(map(abs, position)) <= FARTHEST_MM:
        thickness, between = number(dataset, "SliceThickness"), number(dataset, "SpacingBetweenSlices")
        plane = ImagePlane(
            position_mm=(position[0], position[1], position[2]),
            row_cosines=(cosines[0], cosines[1], cosines[2]),
            column_cosines=(cosines[3], cosines[4], cosines[5]),
            thickness_mm=thickness if thickness and thickness > 0 else None,
            # Some scanners write it negative, for the direction of travel.
            between_mm=abs(between) if between else None,
            instance=instance,
        )
    spacing = numbers(dataset, "PixelSpacing", 2)
    return Slice(
        header=header,
        plane=plane,
        form=form,
        instance=instance,
        problem=problem,
        matrix=(integer(dataset, "Rows"), integer(dataset, "Columns")),
        colour=text(dataset, "PhotometricInterpretation").upper(),
        pixel_spacing_mm=None if spacing is None else (spacing[0], spacing[1]),
        height_mm=along_normal(plane) if plane else 0.0,
    )


def difference(usual: Slice, other: Slice) -> str:
    """What keeps a slice out of the volume of the usual one, positions aside; "" where nothing does.

    Examples:
        "another matrix (16 x 16 beside 32 x 32)", "no usable ImagePositionPatient or ImageOrientationPatient"
    """
    if usual.matrix != other.matrix:
        return f"another matrix ({_matrix(other)} beside {_matrix(usual)})"
    if usual.colour != other.colour:
        return f"another PhotometricInterpretation ({_colour(other)} beside {_colour(usual)})"
    if (usual.plane is None) != (other.plane is None):
        return f"{'no' if other.plane is None else 'a'} usable ImagePositionPatient or ImageOrientationPatient"
    if not _close(usual.pixel_spacing_mm, other.pixel_spacing_mm, PIXEL_SPACING_TOLERANCE_MM):
        return f"another PixelSpacing ({_spacing(other)} beside {_spacing(usual)})"
    if usual.plane is not None and other.plane is not None:
        ours, theirs = (plane.row_cosines + plane.column_cosines for plane in (usual.plane, other.plane))
        if not _close(ours, theirs, ORIENTATION_TOLERANCE):
            return "another ImageOrientationPatient"
    return ""


def forms_of(piece: Slice) -> dict[str, str]:
    """The attributes that `difference` compares, by name, as a list of parts shows them."""
    cosines = () if piece.plane is None else (*piece.plane.row_cosines, *piece.plane.column_cosines)
    plane = orientation_of(piece) or "unknown"
    return {
        "matrix": _matrix(piece),
        "PhotometricInterpretation": _colour(piece),
        "PixelSpacing": _spacing(piece),
        "orientation": f"{plane} ({', '.join(f'{value:.3g}' for value in cosines)})" if cosines else plane,
    }


def by_position(slices: Iterable[Slice]) -> list[list[Slice]]:
    """Slices in depth order, those at the same position together; the readable copy first."""
    positions: list[list[Slice]] = []
    for piece in sorted(slices, key=lambda piece: (piece.height_mm, piece.header.file.name)):
        if positions and piece.height_mm - positions[-1][0].height_mm <= SAME_POSITION_MM:
            positions[-1].append(piece)
        else:
            positions.append([piece])
    for copies in positions:
        copies.sort(key=lambda piece: bool(piece.problem))
    return positions


def orientation_of(piece: Slice) -> str | None:
    """Plane of a slice, as `thinslice.geometry.orientation_name`; None without one."""
    if piece.plane is None:
        return None
    (a, b, c), (d, e, f) = piece.plane.row_cosines, piece.plane.column_cosines
    return orientation_name((b * f - c * e, c * d - a * f, a * e - b * d))


def _close(one: tuple[float, ...] | None, other: tuple[float, ...] | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


def _matrix(piece: Slice) -> str:
    return " x ".join("?" if count is None else str(count) for count in piece.matrix)


def _colour(piece: Slice) -> str:
    """PhotometricInterpretation, where it is one: a damaged header may have any text there."""
    return piece.colour if piece.colour in COLOURS else "an unknown one"


def _spacing(piece: Slice) -> str:
    return "none" if piece.pixel_spacing_mm is None else " x ".join(f"{mm:g}" for mm in piece.pixel_spacing_mm) + " mm"
