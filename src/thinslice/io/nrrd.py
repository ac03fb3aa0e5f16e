"""NRRD and MetaImage: read through SimpleITK (the itk extra), written directly, so that slabs stream.

Both keep LPS coordinates, as DICOM does.

Source: https://teem.sourceforge.net/nrrd/format.html and https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from thinslice.about import __version__
from thinslice.errors import MissingExtraError, UnreadableError
from thinslice.io.file_grid import (
    affine_in_file_order,
    ambiguity_warning,
    check_affine,
    choose_axes,
    geometry_from_affine,
)
from thinslice.io.gzip_stream import MAX_RATIO, readable
from thinslice.io.hu_collector import MAX_VOXELS, HuCollector
from thinslice.io.slabs import FileSlabWriter
from thinslice.system.resources import require_memory
from thinslice.typing import Doubles
from thinslice.volume import Provenance, Volume

MAX_TEXT_HEADER_BYTES = 1 << 20
"""Largest text header; a longer one is no header."""

_DETACHED = {
    "nrrd": re.compile(rb"^\s*data\s?file\s*:\s*(.*?)\s*$", re.IGNORECASE | re.MULTILINE),
    "metaimage": re.compile(rb"^\s*ElementDataFile\s*=\s*(.*?)\s*$", re.IGNORECASE | re.MULTILINE),
}
_UNPLACED = {
    "nrrd": re.compile(rb"^\s*space directions\s*:", re.IGNORECASE | re.MULTILINE),
    "metaimage": re.compile(
        rb"^\s*(TransformMatrix|Rotation|Orientation|Offset|Position|Origin)\s*=",
        re.IGNORECASE | re.MULTILINE,
    ),
}


def read_itk(path: str | Path, *, axis: int | None = None) -> Volume:
    """Read an NRRD or MetaImage volume with SimpleITK.

    Args:
        path: .nrrd, .nhdr, .mha or .mhd; a detached data file must lie in the same folder.
        axis: the file's axis (0, 1 or 2) across the slices; see `thinslice.io.nifti.read_nifti`.

    Returns:
        HU (depth, height, width), int16 where exact, else float32; slice thickness None.

    Raises:
        MissingExtraError: SimpleITK is not installed; install the itk extra.
        UnreadableError: damaged, several frames or components, or a data file elsewhere; export one volume.
        GeometryError: sheared axes, or orientation or spacing that is not finite, or zero; repair the header, or
            resample to an upright grid.
        ResourceError: the memory does not hold it; close other programs.
        UsageError: `axis` is not 0, 1 or 2; name one of these.
    """
    path = Path(path)
    kind, stored_bytes, placed = _check_header(path)
    itk = _simple_itk()
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    # ITK prints warnings with the whole path to the terminal; those of thinslice are errors and provenance.
    shown = itk.ProcessObject.GetGlobalWarningDisplay()
    itk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        reader.ReadImageInformation()
        _check_size(reader, stored_bytes, path)
        image = reader.Execute()
    except RuntimeError as error:
        raise UnreadableError(
            f"{path.name!r} is damaged or of a kind that SimpleITK does not read; export it again."
        ) from error
    finally:
        itk.ProcessObject.SetGlobalWarningDisplay(shown)
    if image.GetDimension() == 4:
        image = image[:, :, :, 0]

    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    spacing = check_affine(affine, path.name)
    axes, ambiguous = choose_axes(spacing.tolist(), axis=axis)
    geometry = geometry_from_affine(affine, image.GetSize(), axes)

    stored = itk.GetArrayViewFromImage(image)
    depth, height, width = stored.shape
    collector = HuCollector((depth, height, width), axes, stored.dtype, 1.0, 0.0, path.name)
    for block in collector.blocks():
        collector.add(block, stored[block])
    hu, notes, unit_range = collector.finish()

    details: dict[str, Any] = {}
    warnings = list(notes)
    if not placed:
        warnings.append(
            "The file holds no orientation and position; its axes were taken as left, posterior, superior from 0."
        )
    if ambiguous:
        details["axis_ambiguous"] = True
        warnings.append(ambiguity_warning(axes))
    if unit_range:
        details["unit_range"] = True
    if collector.replaced:
        details["not_finite"] = collector.replaced
    provenance = Provenance(format=kind, file_axes=axes, warnings=tuple(warnings), details=details)
    return Volume(hu, geometry, provenance)


class NrrdSlabWriter(FileSlabWriter):
    """Streams a volume into one .nrrd: a text header, then gzip."""

    @property
    def compressed(self) -> bool:
        """The voxels, not the header, are gzip."""
        return True

    def header(self) -> bytes:
        """The text before the voxels."""
        affine, shape = affine_in_file_order(self.geometry, self.axes, world="LPS")
        directions = " ".join(_vector(affine[:3, i]) for i in range(3))
        lines = [
            "NRRD0004",
            f"# thinslice {__version__}; research only",
            f"type: {'short' if self.dtype.kind == 'i' else 'float'}",
            "dimension: 3",
            "space: left-posterior-superior",
            f"sizes: {shape[0]} {shape[1]} {shape[2]}",
            f"space directions: {directions}",
            "kinds: domain domain domain",
            "endian: little",
            "encoding: gzip",
            f"space origin: {_vector(affine[:3, 3])}",
        ]
        return ("\n".join(lines) + "\n\n").encode("ascii")


class MetaImageSlabWriter(FileSlabWriter):
    """Streams a volume into .mha, or into .mhd with its voxels in a .raw of the same name."""

    @property
    def voxel_path(self) -> Path | None:
        """The .raw beside an .mhd."""
        return self.path.with_suffix(".raw") if self.path.suffix.lower() == ".mhd" else None

    def header(self) -> bytes:
        """The text before the voxels."""
        affine, shape = affine_in_file_order(self.geometry, self.axes, world="LPS")
        spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
        # One row per axis of the file: the transpose of the direction matrix.
        rows = (affine[:3, :3] / spacing).T.ravel()
        lines = [
            "ObjectType = Image",
            "NDims = 3",
            f"Comment = thinslice {__version__}; research only",
            "BinaryData = True",
            "BinaryDataByteOrderMSB = False",
            "CompressedData = False",
            f"TransformMatrix = {_numbers(rows)}",
            f"Offset = {_numbers(affine[:3, 3])}",
            "CenterOfRotation = 0 0 0",
            f"ElementSpacing = {_numbers(spacing)}",
            f"DimSize = {shape[0]} {shape[1]} {shape[2]}",
            f"ElementType = {'MET_SHORT' if self.dtype.kind == 'i' else 'MET_FLOAT'}",
            f"ElementDataFile = {'LOCAL' if self.voxel_path is None else self.voxel_path.name}",
        ]
        return ("\n".join(lines) + "\n").encode()


def _numbers(values: Doubles) -> str:
    return " ".join(repr(float(v)) for v in values)


def _vector(values: Doubles) -> str:
    return "(" + ",".join(repr(float(v)) for v in values) + ")"


def _simple_itk() -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise MissingExtraError(
            "NRRD and MetaImage are read with SimpleITK; install it: pip install SimpleITK."
        ) from error
    return SimpleITK


def _check_header(path: Path) -> tuple[str, int, bool]:
    """The format, the bytes on disk that hold its voxels, and whether its header places them.

    ITK opens any data file that a header names, so only a name in the header's own folder is accepted.
    """
    with readable(path), path.open("rb") as file:
        head = file.read(MAX_TEXT_HEADER_BYTES)
        size = path.stat().st_size
    kind = "nrrd" if head.startswith(b"NRRD") else "metaimage"
    if kind == "nrrd":
        head = re.split(rb"\r?\n\r?\n", head, maxsplit=1)[0]
    found = _DETACHED[kind].search(head)
    if kind == "metaimage":
        if found is None:
            raise UnreadableError(f"{path.name!r} names no data; the file is cut short or damaged.")
        head = head[: found.end()]
    placed = _UNPLACED[kind].search(head) is not None
    if found is None or found.group(1).upper() == b"LOCAL":
        return kind, size, placed
    name = found.group(1).decode("utf-8", "replace")
    if not name or Path(name).name != name or "\\" in name or name == ".." or "%" in name or name.startswith("LIST"):
        raise UnreadableError(
            f"{path.name!r} keeps its voxels in another folder or in several files; "
            "put everything into one file (.nrrd, .mha) or into one folder."
        )
    voxels = path.with_name(name)
    if not voxels.is_file():
        raise UnreadableError(f"The data file of {path.name!r} is not beside it; put both in one folder.")
    return kind, voxels.stat().st_size, placed


def _check_size(reader: Any, stored_bytes: int, path: Path) -> None:
    """Refuse a header with more voxels than the file can hold, before ITK takes memory for them."""
    size = [int(n) for n in reader.GetSize()]
    frames = size[3:]
    if reader.GetNumberOfComponents() != 1 or len(size) not in (3, 4) or any(n != 1 for n in frames):
        raise UnreadableError(
            f"{path.name!r} is not one volume of one number a voxel (size {' x '.join(map(str, size))}, "
            f"{reader.GetNumberOfComponents()} components); export a single grey volume."
        )
    voxels = size[0] * size[1] * size[2]
    if voxels > MAX_VOXELS or voxels > stored_bytes * MAX_RATIO:
        raise UnreadableError(
            f"{path.name!r} cannot hold the {' x '.join(map(str, size))} voxels its header declares; "
            "the file is damaged or hostile."
        )
    # ITK's voxels (16 bits or more) and the collector's are in memory together for a moment.
    require_memory(4 * voxels, f"to read {path.name!r}")
