"""NRRD and MetaImage: read through SimpleITK (the itk extra), written directly, so that slabs stream.

Both keep LPS coordinates, as DICOM does.

Source: https://teem.sourceforge.net/nrrd/format.html and https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from thinslice.about import __version__
from thinslice.errors import MissingExtraError, UnreadableError
from thinslice.file_grid import (
    affine_in_file_order,
    ambiguity_warning,
    check_spacing,
    choose_axes,
    geometry_from_affine,
    tilt_degrees,
)
from thinslice.io.gzip_stream import Form, most_plain_bytes
from thinslice.io.hu_collector import MAX_VOXELS, HuCollector
from thinslice.io.padding import padding_below_window
from thinslice.io.settings import OnFault, tilt_remedy
from thinslice.io.slabs import FileSlabWriter
from thinslice.io.voxel_section import TextHeader, VoxelSection
from thinslice.system.faults import shortage
from thinslice.system.resources import require_memory
from thinslice.typing import Doubles
from thinslice.volume import Provenance, Volume

_SIZE_DIGITS = 15
"""Digits of a size in a header that is written before the size is known."""

# SimpleITK's numbers of scalar types.
_DTYPES = {0: "i1", 1: "u1", 2: "i2", 3: "u2", 4: "i4", 5: "u4", 6: "i8", 7: "u8", 8: "f4", 9: "f8"}

_UNPLACED = {
    "nrrd": re.compile(rb"^\s*space directions\s*:", re.IGNORECASE | re.MULTILINE),
    "metaimage": re.compile(
        rb"^\s*(TransformMatrix|Rotation|Orientation|Offset|Position|Origin)\s*=",
        re.IGNORECASE | re.MULTILINE,
    ),
}

_PLACE_FIELDS = (
    ("Offset", "Position", "Origin"),
    ("TransformMatrix", "Orientation", "Rotation"),
    ("ElementSpacing", "ElementSize"),
)
"""Fields of a MetaImage that place its voxels, each with the names that ITK reads in its place.

ITK takes a default where one is missing."""

_FIELDS = frozenset(
    ("ObjectType", "ObjectSubType", "NDims", "Comment", "Name", "ID", "ParentID", "TransformType", "BinaryData",
     "BinaryDataByteOrderMSB", "ElementByteOrderMSB", "CompressedData", "CompressedDataSize", "CompressionLevel",
     "TransformMatrix", "Rotation", "Orientation", "Offset", "Position", "Origin", "CenterOfRotation",
     "AnatomicalOrientation", "DistanceUnits", "AcquisitionDate", "ElementSpacing", "DimSize", "HeaderSize",
     "HeaderSizePerSlice", "Modality", "SequenceID", "ElementMin", "ElementMax", "ElementNumberOfChannels",
     "ElementSize", "ElementNBits", "ElementToIntensityFunctionSlope", "ElementToIntensityFunctionOffset",
     "ElementType", "ElementDataFile", "Color")
)  # fmt: skip
"""Fields of a MetaImage."""


def read_itk(path: str | Path, *, axis: int | None = None, on_tilt: OnFault = "refuse") -> Volume:
    """Read an NRRD or MetaImage volume with SimpleITK.

    Args:
        path: .nrrd, .nhdr, .mha or .mhd; a detached data file must lie in the same folder.
        axis: the file's axis (0, 1 or 2) across the slices; see `thinslice.io.nifti.read_nifti`.
        on_tilt: as in `thinslice.io.settings.ReadSettings`; slices that are sheared otherwise are refused.

    Returns:
        HU (depth, height, width), int16 where exact, else float32; slice thickness None.

    Raises:
        MissingExtraError: SimpleITK is not installed; install the itk extra.
        UnreadableError: damaged, several frames or components, or a data file elsewhere; export one volume.
        GeometryError: a tilt that `on_tilt` refuses, axes that are sheared otherwise, or orientation or spacing that is
            not finite, or zero; have the tilt removed, repair the header, or resample to an upright grid.
        ResourceError: the memory does not hold it; close other programs.
        UsageError: `axis` is not 0, 1 or 2; name one of these.
    """
    path = Path(path)
    header = TextHeader.read(path)
    voxels = header.data_path()
    placed = _UNPLACED[header.kind].search(header.text) is not None
    itk = _simple_itk()
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    with _quiet(itk), _explained(path):
        reader.ReadImageInformation()
    if header.kind == "metaimage":
        _check_places(header)
    size = _checked_size(reader, voxels.stat().st_size, path)

    affine = np.eye(4)
    affine[:3, :3] = _spatial(reader.GetDirection()) * np.asarray(reader.GetSpacing()[:3])
    affine[:3, 3] = reader.GetOrigin()[:3]
    axes, ambiguous = choose_axes(check_spacing(affine, path.name).tolist(), axis=axis)
    tilt = tilt_degrees(affine, axes, path.name, remedy=tilt_remedy() if on_tilt == "refuse" else "")

    shape_zyx = (size[2], size[1], size[0])
    # A vector of one component, such as an axis of one frame becomes, is a number.
    pixel_id = reader.GetPixelIDValue()
    is_vector = itk.sitkVectorInt8 <= pixel_id <= itk.sitkVectorFloat64
    dtype = np.dtype(_DTYPES.get(pixel_id - itk.sitkVectorInt8 if is_vector else pixel_id, "O"))
    section = VoxelSection.of(header, dtype)
    warnings: list[str] = []
    if section is not None:
        collector = HuCollector(shape_zyx, axes, dtype, 1.0, 0.0, path.name)
        warnings += section.fill(collector, shape_zyx)
    else:
        # ITK's voxels (16 bits or more) and the collector's are in memory together for a moment.
        require_memory(4 * size[0] * size[1] * size[2], f"to read {path.name!r}")
        with _quiet(itk), _explained(path):
            image = reader.Execute()
        stored = itk.GetArrayViewFromImage(image).reshape(shape_zyx)
        collector = HuCollector(shape_zyx, axes, stored.dtype, 1.0, 0.0, path.name)
        for block in collector.blocks():
            collector.add(block, stored[block])
    hu, notes, unit_range = collector.finish()

    details: dict[str, Any] = {}
    warnings += notes
    if header.kind == "metaimage" and _is_scaled(header):
        warnings.append(
            "The header states a scaling (ElementToIntensityFunction), which SimpleITK does not apply; neither was it "
            "applied here: compare the HU."
        )
    if not placed:
        warnings.append(
            "The file holds no orientation and position; its axes were taken as left, posterior, superior from 0."
        )
    elif header.kind == "metaimage":
        absent = [names[0] for names in _PLACE_FIELDS if not header.value(*names)]
        if absent:
            warnings.append(f"The header holds no {' and no '.join(absent)}, so a default was taken; check the place.")
    misspelt = [name for name in header.fields() if header.kind == "metaimage" and _is_misspelt(name)]
    if misspelt:
        warnings.append(
            f"{len(misspelt)} field(s) of the header have a name that is almost one of the format (such as "
            f"{misspelt[0]!r}), so the header may be damaged; check the place of the volume."
        )
    if ambiguous:
        details["axis_ambiguous"] = True
        warnings.append(ambiguity_warning(axes))
    if unit_range:
        details["unit_range"] = True
    if collector.replaced:
        details["not_finite"] = collector.replaced
    padding_hu = padding_below_window(hu)
    if tilt:
        from thinslice.io.upright import upright_file  # here, as it imports scipy, which reading itself does not need

        made = upright_file(hu, affine, axes, padding_hu, degrees=tilt)
        hu, geometry = made.hu, made.geometry
        warnings.append(made.note)
        details["resampled"] = [made.note]
    else:
        geometry = geometry_from_affine(affine, size, axes)
    provenance = Provenance(
        format=header.kind,
        file_axes=axes,
        padding_hu=padding_hu,
        warnings=tuple(warnings),
        details=details,
    )
    return Volume(hu, geometry, provenance)


class NrrdSlabWriter(FileSlabWriter):
    """Streams a volume into one .nrrd: a text header, then gzip."""

    @property
    def packing(self) -> Form | None:
        """The voxels, not the header, are gzip."""
        return "gzip"

    def header(self, section_bytes: int = 0, voxel_name: str = "") -> bytes:
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
    """Streams a volume into .mha, or into .mhd with its voxels in a .zraw that is named by its content.

    Voxels are zlib, which ends in a checksum.
    """

    @property
    def packing(self) -> Form | None:
        """The voxels are zlib."""
        return "zlib"

    @property
    def is_pair(self) -> bool:
        """Whether the name asks for .mhd."""
        return self.path.suffix.lower() == ".mhd"

    def header(self, section_bytes: int = 0, voxel_name: str = "") -> bytes:
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
            "CompressedData = True",
            f"CompressedDataSize = {section_bytes:0{_SIZE_DIGITS}d}",
            f"TransformMatrix = {_numbers(rows)}",
            f"Offset = {_numbers(affine[:3, 3])}",
            "CenterOfRotation = 0 0 0",
            f"ElementSpacing = {_numbers(spacing)}",
            f"DimSize = {shape[0]} {shape[1]} {shape[2]}",
            f"ElementType = {'MET_SHORT' if self.dtype.kind == 'i' else 'MET_FLOAT'}",
            f"ElementDataFile = {voxel_name or 'LOCAL'}",
        ]
        return ("\n".join(lines) + "\n").encode()


def _check_places(header: TextHeader) -> None:
    """Refuse a MetaImage whose place is stated by something that is no number: ITK reads 0 there."""
    for names in _PLACE_FIELDS:
        try:
            [float(number) for number in header.value(*names).split()]
        except ValueError as error:
            raise UnreadableError(
                f"{header.path.name!r} states {names[0]} by something that is no number; repair its header, or get the "
                "file again."
            ) from error


def _is_scaled(header: TextHeader) -> bool:
    """Whether a MetaImage states a slope other than 1 or an offset other than 0."""
    usual = {"ElementToIntensityFunctionSlope": 1.0, "ElementToIntensityFunctionOffset": 0.0}
    for name, plain in usual.items():
        stated = header.value(name)
        try:
            if stated and float(stated) != plain:
                return True
        except ValueError:
            return True
    return False


def _is_misspelt(name: str) -> bool:
    """Whether a field of a MetaImage is none of the format, but almost one; writers may add names of their own.

    >>> _is_misspelt("CompreSsedData"), _is_misspelt("CompressedData"), _is_misspelt("Kernel")
    (True, False, False)
    """
    return name not in _FIELDS and bool(get_close_matches(name, _FIELDS, n=1, cutoff=0.85))


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


@contextmanager
def _quiet(itk: Any) -> Iterator[None]:
    """Keep ITK from printing warnings with whole paths; those of thinslice are errors and provenance."""
    shown = itk.ProcessObject.GetGlobalWarningDisplay()
    itk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        itk.ProcessObject.SetGlobalWarningDisplay(shown)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        short = shortage(error)
        if short is not None:
            raise short from error
        raise UnreadableError(
            f"{path.name!r} is damaged or of a kind that SimpleITK does not read; export it again."
        ) from error


def _spatial(direction: tuple[float, ...]) -> Doubles:
    """The first three axes of a direction matrix of three or four."""
    side = math.isqrt(len(direction))
    return np.reshape(direction, (side, side))[:3, :3]


def _checked_size(reader: Any, stored_bytes: int, path: Path) -> tuple[int, int, int]:
    """Voxels along the file's axes; a header with more than the file can hold is refused before memory is taken."""
    size = [int(n) for n in reader.GetSize()]
    frames = size[3:]
    if reader.GetNumberOfComponents() != 1 or len(size) not in (3, 4) or any(n != 1 for n in frames):
        raise UnreadableError(
            f"{path.name!r} is not one volume of one number a voxel (size {' x '.join(map(str, size))}, "
            f"{reader.GetNumberOfComponents()} components); export a single grey volume."
        )
    voxels = size[0] * size[1] * size[2]
    if voxels > MAX_VOXELS or voxels > most_plain_bytes(stored_bytes):
        raise UnreadableError(
            f"{path.name!r} cannot hold the {' x '.join(map(str, size))} voxels its header declares; "
            "the file is damaged or hostile."
        )
    return size[0], size[1], size[2]
