"""MetaImage and NRRD files as programs write them."""

from __future__ import annotations

import bz2
import gzip
import zlib
from pathlib import Path
from typing import Any

from support.volume_habit import RAW, VolumeHabit, hu

HABITS: dict[str, VolumeHabit] = {}

NO_SIZE = "it fails on compressed voxels without CompressedDataSize, and gives what lay in memory"

# MetaImage.

MHA = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "-30 -40 -50",
    "CenterOfRotation": "0 0 0",
    "AnatomicalOrientation": "RAI",
    "ElementSpacing": "0.7 0.8 5",
    "DimSize": "10 9 6",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}


def _meta(
    name: str,
    voxels: bytes | None = None,
    *,
    fields: dict[str, str | None] | None = None,
    suffix: str = ".mha",
    **facts: Any,
) -> None:
    def write(folder: Path) -> Path:
        stored = hu().transpose(2, 1, 0).astype("<i2").tobytes() if voxels is None else voxels
        lines = {**MHA, **(fields or {})}
        lines["ElementDataFile"] = lines.pop("ElementDataFile")  # what follows it are voxels
        head = "".join(f"{key} = {value}\n" for key, value in lines.items() if value is not None).encode()
        path = folder / f"case{suffix}"
        if lines["ElementDataFile"] == "LOCAL":
            path.write_bytes(head + stored)
        else:
            path.write_bytes(head)
            (folder / "voxels.raw").write_bytes(stored)
        return path

    HABITS[f"metaimage_{name}"] = VolumeHabit(write, **facts)


def _plain(dtype: str) -> bytes:
    return hu(dtype).transpose(2, 1, 0).tobytes()


for _type, _code in (
    ("MET_USHORT", "<u2"),
    ("MET_INT", "<i4"),
    ("MET_UINT", "<u4"),
    ("MET_FLOAT", "<f4"),
    ("MET_DOUBLE", "<f8"),
    ("MET_LONG_LONG", "<i8"),
    ("MET_UCHAR", "<u1"),
    ("MET_CHAR", "<i1"),
):
    _values = (RAW if _code[1] == "u" else hu()).astype(_code)
    _meta(_type.lower(), _values.transpose(2, 1, 0).tobytes(), fields={"ElementType": _type})
_meta("plain")
_meta("msb", _plain(">i2"), fields={"BinaryDataByteOrderMSB": "True"})
_meta("element_msb", _plain(">i2"), fields={"BinaryDataByteOrderMSB": None, "ElementByteOrderMSB": "True"})
_meta("detached", suffix=".mhd", fields={"ElementDataFile": "voxels.raw"})
_meta(
    "detached_behind_a_header",
    bytes(64) + _plain("<i2"),
    suffix=".mhd",
    fields={"HeaderSize": "64", "ElementDataFile": "voxels.raw"},
)
_meta(
    "detached_at_the_end",
    bytes(77) + _plain("<i2"),
    suffix=".mhd",
    fields={"HeaderSize": "-1", "ElementDataFile": "voxels.raw"},
)
_meta(
    "detached_msb",
    _plain(">i2"),
    suffix=".mhd",
    fields={"BinaryDataByteOrderMSB": "True", "ElementDataFile": "voxels.raw"},
)
_meta("compressed", zlib.compress(_plain("<i2")), fields={"CompressedData": "True"}, as_made=True, simpleitk=NO_SIZE)
_meta(
    "compressed_msb",
    zlib.compress(_plain(">i2")),
    fields={"CompressedData": "True", "BinaryDataByteOrderMSB": "True"},
    as_made=True,
    simpleitk=NO_SIZE,
)
_meta("element_size_besides_spacing", fields={"ElementSize": "1 1 1"})
_meta("element_size_alone", fields={"ElementSpacing": None, "ElementSize": "0.7 0.8 5"})
_meta("turned", fields={"TransformMatrix": "0.96 0.28 0 -0.28 0.96 0 0 0 1"})
_meta("mirrored", fields={"TransformMatrix": "-1 0 0 0 -1 0 0 0 1"})
_meta(
    "orientation_and_position",
    fields={"TransformMatrix": None, "Offset": None, "Orientation": "1 0 0 0 1 0 0 0 1", "Position": "-30 -40 -50"},
)
_meta("centre_of_rotation", fields={"CenterOfRotation": "5 6 7"})
_meta("anatomical_ras", fields={"AnatomicalOrientation": "RAS"})
_meta("anatomical_unknown", fields={"AnatomicalOrientation": "???"})
_meta("distance_units", fields={"DistanceUnits": "mm"})
_meta("negative_spacing", fields={"ElementSpacing": "0.7 -0.8 5"})
_meta("one_channel", fields={"ElementNumberOfChannels": "1"})
_meta("three_channels", _plain("<i2") * 3, fields={"ElementNumberOfChannels": "3"}, refused="components")
_meta(
    "four_axes_of_one_frame",
    fields={
        "NDims": "4",
        "DimSize": "10 9 6 1",
        "ElementSpacing": "0.7 0.8 5 1",
        "Offset": "-30 -40 -50 0",
        "CenterOfRotation": "0 0 0 0",
        "TransformMatrix": "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1",
    },
)
_meta(
    "slope_of_elements",
    fields={"ElementToIntensityFunctionSlope": "2", "ElementToIntensityFunctionOffset": "10"},
    warns="does not apply",
)
_meta(
    "ascii",
    "\n".join(map(str, hu().transpose(2, 1, 0).ravel())).encode(),
    fields={"BinaryData": "False"},
    refused="SimpleITK does not read",
)


# NRRD.

NRRD = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "10 9 6",
    "space directions": "(0.7,0,0) (0,0.8,0) (0,0,5)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(-30,-40,-50)",
}

BEFORE_ALL = ("type", "dimension", "space", "space dimension")
"""Fields that the format wants before all others."""


def _nrrd(
    name: str,
    voxels: bytes | None = None,
    *,
    fields: dict[str, str | None] | None = None,
    magic: str = "NRRD0005",
    suffix: str = ".nrrd",
    tail: str = "",
    **facts: Any,
) -> None:
    def write(folder: Path) -> Path:
        stored = _plain("<i2") if voxels is None else voxels
        lines = {**NRRD, **(fields or {})}
        lines = {key: lines[key] for key in sorted(lines, key=lambda key: key not in BEFORE_ALL)}
        head = magic + "\n" + "".join(f"{key}: {value}\n" for key, value in lines.items() if value is not None) + tail
        path = folder / f"case{suffix}"
        detached = lines.get("data file")
        if detached:
            (folder / detached).write_bytes(stored)
        path.write_bytes(head.encode() + (b"\n" if not detached else b"") + (b"" if detached else stored))
        return path

    HABITS[f"nrrd_{name}"] = VolumeHabit(write, **facts)


_nrrd("plain")
for _space in (
    "right-anterior-superior",
    "RAS",
    "left-anterior-superior",
    "LAS",
    "LPS",
    "3D-right-handed",
    "scanner-xyz",
):
    _nrrd(f"space_{_space}", fields={"space": _space})
_nrrd("space_dimension_alone", fields={"space": None, "space dimension": "3"})
_nrrd(
    "without_space",
    fields={"space": None, "space directions": None, "space origin": None, "spacings": "0.7 0.8 5"},
    warns="no orientation",
)
_nrrd(
    "without_space_and_axis_mins",
    fields={
        "space": None,
        "space directions": None,
        "space origin": None,
        "spacings": "0.7 0.8 5",
        "axis mins": "-30 -40 -50",
    },
    warns="no orientation",
)
_nrrd("gzip", gzip.compress(_plain("<i2")), fields={"encoding": "gzip"})
_nrrd("gz", gzip.compress(_plain("<i2")), fields={"encoding": "gz"})
_nrrd("bzip2", bz2.compress(_plain("<i2")), fields={"encoding": "bzip2"}, refused="SimpleITK does not read")
_nrrd("ascii", " ".join(map(str, hu().transpose(2, 1, 0).ravel())).encode(), fields={"encoding": "ascii"})
_nrrd("big_endian", _plain(">i2"), fields={"endian": "big"})
for _type in ("signed short", "short int", "int16", "int16_t"):
    _nrrd(f"type_{_type}", fields={"type": _type})
_nrrd("float", _plain("<f4"), fields={"type": "float"})
_nrrd("double_big", _plain(">f8"), fields={"type": "double", "endian": "big"})
_nrrd("unsigned_short", RAW.transpose(2, 1, 0).tobytes(), fields={"type": "ushort"})
_nrrd("int", _plain("<i4"), fields={"type": "int"})
_nrrd(
    "old_magic",
    magic="NRRD0001",
    fields={"space": None, "space directions": None, "space origin": None, "kinds": None, "spacings": "0.7 0.8 5"},
    warns="no orientation",
)
_nrrd("detached", suffix=".nhdr", fields={"data file": "case.raw"})
_nrrd(
    "detached_gzip",
    gzip.compress(_plain("<i2")),
    suffix=".nhdr",
    fields={"data file": "case.raw.gz", "encoding": "gzip"},
)
_nrrd(
    "detached_behind_bytes",
    bytes(100) + _plain("<i2"),
    suffix=".nhdr",
    fields={"data file": "case.raw", "byte skip": "100"},
)
_nrrd(
    "detached_at_the_end",
    bytes(33) + _plain("<i2"),
    suffix=".nhdr",
    fields={"data file": "case.raw", "byte skip": "-1"},
)
_nrrd(
    "detached_behind_lines",
    b"one\ntwo\n" + _plain("<i2"),
    suffix=".nhdr",
    fields={"data file": "case.raw", "line skip": "2"},
)
_nrrd(
    "four_axes_of_one_frame",
    fields={
        "dimension": "4",
        "sizes": "10 9 6 1",
        "space directions": "(0.7,0,0) (0,0.8,0) (0,0,5) none",
        "kinds": "domain domain domain list",
    },
)
_nrrd(
    "components_first",
    fields={
        "dimension": "4",
        "sizes": "1 10 9 6",
        "space directions": "none (0.7,0,0) (0,0.8,0) (0,0,5)",
        "kinds": "list domain domain domain",
    },
)
_nrrd("turned", fields={"space directions": "(0.672,0.196,0) (-0.224,0.768,0) (0,0,5)"})
_nrrd("coronal", fields={"space directions": "(0.7,0,0) (0,0,-0.8) (0,5,0)"})
_nrrd("measurement_frame", fields={"measurement frame": "(1,0,0) (0,1,0) (0,0,1)"})
_nrrd("space_units", fields={"space units": '"mm" "mm" "mm"'})
_nrrd(
    "space_units_micrometres",
    fields={
        "space units": '"µm" "µm" "µm"',
        "space directions": "(700,0,0) (0,800,0) (0,0,5000)",
        "space origin": "(-30000,-40000,-50000)",
    },
    refused="repair its header",
)
_nrrd("keys_and_comments", tail="# a comment\nModality:=CT\n")
_nrrd("centers_and_thicknesses", fields={"centers": "cell cell cell", "thicknesses": "nan nan 5"})
_nrrd("old_min_and_max", fields={"min": "-1000", "max": "200", "old min": "-1000"})
