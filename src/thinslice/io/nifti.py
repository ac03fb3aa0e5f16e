"""NIfTI-1 and NIfTI-2, plain or gzip, single file or .hdr/.img pair.

The header is read with nibabel; voxels are streamed, so that a hostile file is refused before it takes memory.

Source: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h (the format's definition, in its comments).
"""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from thinslice.about import __version__
from thinslice.errors import GeometryError, UnreadableError
from thinslice.geometry import LPS_TO_RAS, POSITION_TOLERANCE_MM, Geometry
from thinslice.io.file_grid import (
    affine_in_file_order,
    ambiguity_warning,
    check_affine,
    choose_axes,
    geometry_from_affine,
    largest_shift_mm,
)
from thinslice.io.gzip_stream import check_end, open_plain, read_into
from thinslice.io.hu_collector import HuCollector
from thinslice.io.slabs import FileSlabWriter
from thinslice.typing import Doubles
from thinslice.volume import Provenance, Volume

HEADER_BYTES = {1: 348, 2: 540}
"""Size of the header of each version, which is also its first field."""

MAX_OFFSET_BYTES = 64 << 20
"""Header extensions before the voxels may be this long."""

_NUMBERS = frozenset({2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280})
"""Datatype codes of plain numbers up to 64 bits; the others are bits, colours, complex and 128-bit numbers."""

_SCANNER_ANATOMICAL = 1
"""Orientation code in written files: coordinates of the scanner."""

_MM_PER_UNIT = {1: 1000.0, 3: 1e-3}
"""Spatial units other than mm (metre, micrometre); an unknown one counts as mm."""


@dataclass(frozen=True)
class _Layout:
    """The checked content of a header."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int
    slope: float
    intercept: float
    affine_ras: Doubles
    orientation: str
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


@dataclass(frozen=True)
class _Opened:
    """A NIfTI file by its header: everything but the voxels."""

    path: Path
    voxel_path: Path
    layout: _Layout
    geometry: Geometry
    provenance: Provenance

    def check_size(self, most_bytes: int) -> None:
        """Refuse a file that cannot hold more than `most_bytes` when its header declares more."""
        layout = self.layout
        if layout.offset + math.prod(layout.shape) * layout.dtype.itemsize > most_bytes:
            raise UnreadableError(
                f"{self.voxel_path.name!r} cannot hold the {' x '.join(map(str, layout.shape))} voxels its header "
                "declares; it is cut short or damaged; copy or download it again."
            )


def scan_nifti(path: str | Path, *, axis: int | None = None) -> tuple[Geometry, Provenance]:
    """The grid and the provenance of a NIfTI file, from the header alone.

    Warnings that depend on voxels (values that are not finite, unit intensity, a stream damaged in its middle) are
    missing.

    Raises:
        UnreadableError, GeometryError, UsageError: as `read_nifti`.
    """
    opened = _open(path, axis)
    with open_plain(opened.voxel_path) as (_, most, _):
        opened.check_size(most)
    return opened.geometry, opened.provenance


def _open(path: str | Path, axis: int | None) -> _Opened:
    path = header_path(Path(path))
    with open_plain(path) as (stream, _, _):
        head = stream.read(HEADER_BYTES[2])
        version = nifti_version(head)
        if version is None:
            raise UnreadableError(f"{path.name!r} is not NIfTI; give a .nii or .nii.gz file.")
        layout = _read_layout(head[: HEADER_BYTES[version[0]]], version[0], paired=version[1], name=path.name)
    spacing = check_affine(layout.affine_ras, path.name)
    axes, ambiguous = choose_axes(spacing.tolist(), axis=axis, slice_axis=layout.slice_axis)
    details: dict[str, Any] = {"orientation_from": layout.orientation}
    warnings = layout.warnings
    if ambiguous:
        details["axis_ambiguous"] = True
        warnings = (*warnings, ambiguity_warning(axes))
    return _Opened(
        path=path,
        voxel_path=_voxel_path(path) if version[1] else path,
        layout=layout,
        geometry=geometry_from_affine(LPS_TO_RAS @ layout.affine_ras, layout.shape, axes),
        provenance=Provenance(format="nifti", file_axes=axes, warnings=warnings, details=details),
    )


def read_nifti(path: str | Path, *, axis: int | None = None) -> Volume:
    """Read a NIfTI volume.

    The sform gives the world coordinates if it is set, else the qform, else the spacing alone (with a warning). The
    depth axis is the one with the largest spacing. Where that is not clear and `axis` is None, it is the file's slice
    axis, else its last; then `provenance.details["axis_ambiguous"]` is True. Values that look like unit
    intensity are left as they are (`details["unit_range"]`); values that are not finite become air and are counted
    (`details["not_finite"]`).

    Args:
        path: .nii or .hdr/.img, gzip or not; the content decides, not the name.
        axis: the file's axis (0, 1 or 2) across the slices.

    Returns:
        HU (depth, height, width), int16 where exact, else float32. NIfTI does not hold the slice thickness: it is
        None.

    Raises:
        UnreadableError: no NIfTI, cut short, several frames, colour or complex voxels, more data than declared, or
            an impossible header; copy the file again, or export it as one volume of HU.
        GeometryError: sheared axes, or an orientation or spacing that is not finite, or zero; repair the header, or
            resample to an upright grid.
        ResourceError: the memory does not hold it; nothing was taken. Close other programs.
        UsageError: `axis` is not 0, 1 or 2; name one of these.
    """
    opened = _open(path, axis)
    layout, axes, path, voxel_path = opened.layout, opened.provenance.file_axes, opened.path, opened.voxel_path
    with open_plain(voxel_path) as (stream, most, compressed):
        opened.check_size(most)
        shape_zyx = (layout.shape[2], layout.shape[1], layout.shape[0])
        collector = HuCollector(shape_zyx, axes, layout.dtype, layout.slope, layout.intercept, path.name)
        _skip(stream, layout.offset, voxel_path)
        buffer = bytearray()
        for block in collector.blocks():
            planes, rows = (part.stop - part.start for part in block)
            size = planes * rows * shape_zyx[2] * layout.dtype.itemsize
            if len(buffer) < size:
                buffer = bytearray(size)
            read_into(stream, memoryview(buffer)[:size], voxel_path)
            stored = np.frombuffer(buffer, layout.dtype, count=size // layout.dtype.itemsize)
            collector.add(block, stored.reshape(planes, rows, shape_zyx[2]))
        if compressed:
            check_end(stream, voxel_path)

    hu, notes, unit_range = collector.finish()
    source = opened.provenance
    details = {**source.details, "unit_range": True} if unit_range else dict(source.details)
    if collector.replaced:
        details["not_finite"] = collector.replaced
    return Volume(hu, opened.geometry, replace(source, warnings=(*source.warnings, *notes), details=details))


class NiftiSlabWriter(FileSlabWriter):
    """Streams a volume into .nii or, by its name, .nii.gz.

    The sform holds the exact matrix; the qform holds it too where a quaternion of 32-bit numbers represents it to
    0.001 mm, and is unset elsewhere. Both carry code 1 (scanner).
    """

    @property
    def compressed(self) -> bool:
        """Whether the name ends in .gz."""
        return self.path.suffix.lower() == ".gz"

    @property
    def header_compressed(self) -> bool:
        """NIfTI compresses the whole file."""
        return self.compressed

    def header(self) -> bytes:
        """Header and the four bytes for "no extension"."""
        nibabel = _nibabel()
        affine, shape = affine_in_file_order(self.geometry, self.axes, world="RAS")
        # NIfTI-1 counts voxels along an axis with 16 bits.
        kind = nibabel.Nifti1Header if max(shape) <= np.iinfo(np.int16).max else nibabel.Nifti2Header
        header = kind(endianness="<")
        header.set_data_dtype(self.dtype)
        header.set_data_shape(shape)
        header.set_xyzt_units("mm")
        header.set_slope_inter(1.0, 0.0)
        header["descrip"] = f"thinslice {__version__}; research only".encode()
        header["vox_offset"] = header["sizeof_hdr"] + 4
        header["magic"] = header.single_magic
        header.set_sform(affine, code=_SCANNER_ANATOMICAL)
        header.set_qform(affine, code=_SCANNER_ANATOMICAL, strip_shears=True)
        # Close to half a turn, a quaternion of 32-bit numbers is off by up to 0.5 mm at the edge of a body: a second
        # orientation that contradicts the first is worse than none.
        if largest_shift_mm(affine, header.get_qform().astype(np.float64), shape) > POSITION_TOLERANCE_MM:
            header["qform_code"] = 0
        return bytes(header.binaryblock) + bytes(4)


def _nibabel() -> Any:
    """Nibabel, loaded when first needed; its header classes carry no types."""
    return importlib.import_module("nibabel")


def header_path(path: Path) -> Path:
    """The header's file of a pair for its voxels' file; any other path as it is."""
    for image, header in ((".img.gz", ".hdr.gz"), (".img", ".hdr")):
        if path.name.lower().endswith(image):
            other = path.with_name(path.name[: -len(image)] + header)
            if other.exists():
                return other
    return path


def _voxel_path(header: Path) -> Path:
    """The voxels' file of a pair: .img or .img.gz beside the header."""
    stem = header.name.removesuffix(".gz").removesuffix(".hdr")
    for suffix in (".img", ".img.gz"):
        other = header.with_name(stem + suffix)
        if other.is_file():
            return other
    raise UnreadableError(
        f"{header.name!r} is the header of a pair, and its .img is not beside it; put both in one folder."
    )


def _skip(stream: Any, count: int, path: Path) -> None:
    while count > 0:
        piece = bytearray(min(count, 1 << 20))
        read_into(stream, memoryview(piece), path)
        count -= len(piece)


def _read_layout(head: bytes, version: int, *, paired: bool, name: str) -> _Layout:
    nibabel = _nibabel()
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
    slope, intercept = _scaling(header, name)
    affine, orientation = _affine(header, shape, name, warnings)
    unit = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7)
    if unit is not None:
        affine = np.diag([unit, unit, unit, 1.0]) @ affine
        warnings.append(f"Positions in the file are in units of {unit:g} mm; they were converted to mm.")
    slice_axis = (int(header["dim_info"]) >> 4 & 3) - 1
    return _Layout(
        shape=shape,
        dtype=dtype,
        offset=int(offset),
        slope=slope,
        intercept=intercept,
        affine_ras=affine,
        orientation=orientation,
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


def _scaling(header: Any, name: str) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 or NaN means none, as the format says."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0.0 or np.isnan(slope):
        return 1.0, 0.0
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise UnreadableError(f"{name!r} has a scaling that is not finite; repair its header.")
    return slope, intercept


def _affine(header: Any, shape: tuple[int, int, int], name: str, warnings: list[str]) -> tuple[Doubles, str]:
    """The matrix from file indices to RAS in the file's unit, and its origin: "sform", "qform" or "spacing"."""
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    sform = header.get_sform().astype(np.float64) if sform_code > 0 else None
    qform = _qform(header, name, warnings, needed=sform is None) if qform_code > 0 else None
    if sform is not None:
        if qform is not None and np.all(np.isfinite(sform)):
            apart = largest_shift_mm(sform, qform, shape)
            # Positions of single precision differ by rounding alone; `not <=` also catches NaN.
            if not apart <= POSITION_TOLERANCE_MM:
                warnings.append(
                    f"The file's two orientations (qform and sform) differ by up to {apart:.3g} mm; the sform was used."
                )
        return sform, "sform"
    if qform is not None:
        return qform, "qform"
    warnings.append(
        "The file holds no orientation and position; its axes were taken as right, anterior, superior from 0."
    )
    return np.diag([*_pixdim(header, name, warnings), 1.0]), "spacing"


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
