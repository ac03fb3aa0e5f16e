"""NIfTI-1 and NIfTI-2, plain or gzip, single file or .hdr/.img pair.

The header is read with nibabel; voxels are streamed, so that a hostile file is refused before it takes memory.

Source: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h (the format's definition, in its comments).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from thinslice.about import __version__
from thinslice.errors import UnreadableError
from thinslice.file_grid import (
    affine_in_file_order,
    ambiguity_warning,
    check_spacing,
    choose_axes,
    geometry_from_affine,
    largest_shift_mm,
    tilt_degrees,
)
from thinslice.geometry import LPS_TO_RAS, POSITION_TOLERANCE_MM, Geometry
from thinslice.io.gzip_stream import Form, check_end, open_plain, read_into
from thinslice.io.hu_collector import HuCollector
from thinslice.io.nifti_header import (
    HEADER_BYTES,
    NiftiHeader,
    Orientations,
    nibabel_module,
    nifti_version,
    parse_header,
)
from thinslice.io.padding import padding_below_window
from thinslice.io.settings import OnFault, tilt_remedy
from thinslice.io.slabs import FileSlabWriter
from thinslice.plausibility import Plausibility, examine
from thinslice.typing import Doubles
from thinslice.volume import Provenance, Volume

SAMPLED_PLANES = 3
"""Planes of a file that `examine_nifti` reads."""

SAMPLED_BYTES = 32 << 20
"""Most bytes that it unpacks to reach them."""


@dataclass(frozen=True)
class _Opened:
    """A NIfTI file by its header: everything but the voxels."""

    path: Path
    voxel_path: Path
    layout: NiftiHeader
    tilt_degrees: float
    provenance: Provenance

    @property
    def affine_lps(self) -> Doubles:
        """File indices to LPS mm."""
        return LPS_TO_RAS @ self.layout.affine_ras

    @property
    def geometry(self) -> Geometry:
        """The grid of the voxels, where it is not tilted."""
        return geometry_from_affine(self.affine_lps, self.layout.shape, self.provenance.file_axes)

    @property
    def voxels_end(self) -> int:
        """Bytes up to the end of the voxels, before compression."""
        return self.layout.offset + math.prod(self.layout.shape) * self.layout.dtype.itemsize

    def check_size(self, most_bytes: int) -> None:
        """Refuse a file that cannot hold more than `most_bytes` when its header declares more."""
        layout = self.layout
        if self.voxels_end > most_bytes:
            raise UnreadableError(
                f"{self.voxel_path.name!r} cannot hold the {' x '.join(map(str, layout.shape))} voxels its header "
                "declares; it is cut short, damaged or hostile; copy or download it again."
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


def examine_nifti(path: str | Path) -> Plausibility:
    """What the values of a NIfTI file look like, from a few planes at its beginning, or spread over it where it can be
    entered anywhere.

    A few planes may lack what the others hold, so a file that seems to be no HU is read whole before it counts as such.

    Raises:
        UnreadableError, GeometryError, ResourceError: as `read_nifti`.
    """
    opened = _open(path, None)
    layout = opened.layout
    width, height, depth = layout.shape
    plane_bytes = width * height * layout.dtype.itemsize
    with open_plain(opened.voxel_path) as (stream, most, compressed):
        opened.check_size(most)
        # Packed bytes are unpacked up to the last plane that is sampled.
        reach = max(1, min(depth, SAMPLED_BYTES // max(1, plane_bytes))) if compressed else depth
        planes = sorted({reach * part // (2 * SAMPLED_PLANES) for part in range(1, 2 * SAMPLED_PLANES, 2)})
        collector = HuCollector(
            (len(planes), height, width), (2, 1, 0), layout.dtype, layout.slope, layout.intercept, opened.path.name
        )
        at = 0
        for row, plane in enumerate(planes):
            start = layout.offset + plane * plane_bytes
            if compressed:
                _skip(stream, start - at, opened.voxel_path)
            else:
                stream.seek(start)
            stored = bytearray(plane_bytes)
            read_into(stream, memoryview(stored), opened.voxel_path)
            at = start + plane_bytes
            values = np.frombuffer(stored, layout.dtype).reshape(1, height, width)
            collector.add((slice(row, row + 1), slice(0, height)), values)
    hu = collector.finish()[0]
    seen = examine(hu, padding=padding_below_window(hu))
    if seen.is_refused or seen.kind == "empty":
        volume = read_nifti(path)
        seen = examine(volume.hu, padding=volume.provenance.padding_hu)
    return seen


def _open(path: str | Path, axis: int | None, on_tilt: OnFault = "refuse") -> _Opened:
    path = header_path(Path(path))
    with open_plain(path) as (stream, _, _):
        head = stream.read(HEADER_BYTES[2])
        version = nifti_version(head)
        if version is None:
            raise UnreadableError(f"{path.name!r} is not NIfTI; give a .nii or .nii.gz file.")
        layout = parse_header(head[: HEADER_BYTES[version[0]]], version[0], paired=version[1], name=path.name)
    spacing = check_spacing(layout.affine_ras, path.name)
    axes, ambiguous = choose_axes(spacing.tolist(), axis=axis, slice_axis=layout.slice_axis)
    tilt = tilt_degrees(layout.affine_ras, axes, path.name, remedy=tilt_remedy() if on_tilt == "refuse" else "")
    orientations = layout.orientations
    if tilt and orientations.other_world is not None:
        # The other orientation is that of the slices before they are shifted, most often the same without its shear.
        orientations = Orientations(orientations.sform_code, 0)
    details: dict[str, Any] = {"orientation_from": layout.orientation, **orientations.as_details()}
    warnings = layout.warnings
    if ambiguous:
        details["axis_ambiguous"] = True
        warnings = (*warnings, ambiguity_warning(axes))
    return _Opened(
        path=path,
        voxel_path=_voxel_path(path) if version[1] else path,
        layout=layout,
        tilt_degrees=tilt,
        provenance=Provenance(format="nifti", file_axes=axes, warnings=warnings, details=details),
    )


def read_nifti(path: str | Path, *, axis: int | None = None, on_tilt: OnFault = "refuse") -> Volume:
    """Read a NIfTI volume.

    The sform gives the world coordinates if it is set, else the qform, else the spacing alone (with a warning). The
    depth axis is the one with the largest spacing. Where that is not clear and `axis` is None, it is the file's slice
    axis, else its last; then `provenance.details["axis_ambiguous"]` is True. Values that look like unit
    intensity are left as they are (`details["unit_range"]`); values that are not finite become air and are counted
    (`details["not_finite"]`).

    Args:
        path: .nii or .hdr/.img, gzip or not; the content decides, not the name.
        axis: the file's axis (0, 1 or 2) across the slices.
        on_tilt: as in `thinslice.io.settings.ReadSettings`; slices that are sheared otherwise are refused.

    Returns:
        HU (depth, height, width), int16 where exact, else float32. NIfTI does not hold the slice thickness: it is
        None.

    Raises:
        UnreadableError: no NIfTI, cut short, several frames, colour or complex voxels, far more data than declared,
            or an impossible header; copy the file again, or export it as one volume of HU.
        GeometryError: a tilt that `on_tilt` refuses, axes that are sheared otherwise, or an orientation or spacing that
            is not finite, or zero; have the tilt removed, repair the header, or resample to an upright grid.
        ResourceError: the memory does not hold it; nothing was taken. Close other programs.
        UsageError: `axis` is not 0, 1 or 2; name one of these.
    """
    opened = _open(path, axis, on_tilt)
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
        trailing = check_end(stream, voxel_path) if compressed else most - opened.voxels_end

    hu, notes, unit_range = collector.finish()
    if trailing:
        notes = (*notes, f"{trailing} bytes follow the voxels in the file; they were ignored.")
    source = opened.provenance
    details = {**source.details, "unit_range": True} if unit_range else dict(source.details)
    if collector.replaced:
        details["not_finite"] = collector.replaced
    padding_hu = padding_below_window(hu)
    if opened.tilt_degrees:
        from thinslice.io.upright import upright_file  # here, as it imports scipy, which reading itself does not need

        made = upright_file(hu, opened.affine_lps, axes, padding_hu, degrees=opened.tilt_degrees)
        hu, geometry = made.hu, made.geometry
        notes, details["resampled"] = (*notes, made.note), [made.note]
    else:
        geometry = opened.geometry
    provenance = replace(source, padding_hu=padding_hu, warnings=(*source.warnings, *notes), details=details)
    return Volume(hu, geometry, provenance)


class NiftiSlabWriter(FileSlabWriter):
    """Streams a volume into .nii or, by its name, .nii.gz.

    The sform holds the exact matrix; the qform holds it too where a quaternion of 32-bit numbers represents it to
    0.001 mm, and is unset elsewhere. Both carry the codes of a source that is NIfTI, else 1 (scanner). Where the two
    orientations of the source differ, so do those of the output, each in its own world.
    """

    @property
    def packing(self) -> Form | None:
        """Gzip where the name ends in .gz."""
        return "gzip" if self.path.suffix.lower() == ".gz" else None

    @property
    def header_compressed(self) -> bool:
        """NIfTI compresses the whole file."""
        return self.packing is not None

    def header(self, section_bytes: int = 0, voxel_name: str = "") -> bytes:
        """Header and the four bytes for "no extension"."""
        nibabel = nibabel_module()
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
        header.set_dim_info(slice=self.axes[0])
        self._state_positions(header, affine, shape)
        return bytes(header.binaryblock) + bytes(4)

    def _state_positions(self, header: Any, affine: Doubles, shape: tuple[int, int, int]) -> None:
        """Set sform and qform, with the codes of the source and, where it had two orientations, with both."""
        stated = Orientations.of_details(self.provenance.details)
        plain = np.diag([*np.sqrt((affine[:3, :3] ** 2).sum(axis=0)), 1.0])
        if stated.sform_code == stated.qform_code == 0 and largest_shift_mm(affine, plain, shape) > 0:
            stated = Orientations()
        other = affine if stated.other_world is None else np.asarray(stated.other_world) @ affine
        header.set_sform(affine, code=stated.sform_code)
        header.set_qform(other, code=stated.qform_code, strip_shears=True)
        # Close to half a turn, a quaternion of 32-bit numbers is off by up to 0.5 mm at the edge of a body: a second
        # orientation that contradicts the first is worse than none.
        apart = largest_shift_mm(other, header.get_qform().astype(np.float64), shape)
        if stated.qform_code and apart > POSITION_TOLERANCE_MM:
            header["qform_code"] = 0
            header["sform_code"] = stated.sform_code or stated.qform_code


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
