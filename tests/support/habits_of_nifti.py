"""NIfTI files as programs write them."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt

from support.volume_habit import AFFINE, RAW, SHAPE, VolumeHabit, hu

HABITS: dict[str, VolumeHabit] = {}

NO_NIFTI_2 = "it reads NIfTI-1 alone"
NO_PLACE = "without a place every reader has an origin and axes of its own; ours are those of the format's first method"
NO_UNITS = "it takes every unit as mm"


def _nifti(
    name: str,
    data: npt.NDArray[Any] | None = None,
    *,
    affine: npt.NDArray[Any] = AFFINE,
    kind: Any = nibabel.Nifti1Image,
    suffix: str = ".nii",
    edit: Callable[[Any], None] | None = None,
    endian: str = "<",
    **facts: Any,
) -> None:
    def write(folder: Path) -> Path:
        values = hu() if data is None else data
        header = kind.header_class(endianness=endian)
        header.set_data_dtype(values.dtype.newbyteorder(endian))
        image = kind(values, affine, header)
        path = folder / f"case{suffix}"
        nibabel.save(image, path)
        if edit is None:
            return path
        # Fields that nibabel computes anew when it saves are changed in the bytes.
        plain = path.read_bytes()
        packed = plain[:2] == b"\x1f\x8b"
        plain = gzip.decompress(plain) if packed else plain
        binary = kind.header_class.from_fileobj(io.BytesIO(plain))
        size = binary.template_dtype.itemsize
        edit(binary)
        plain = binary.binaryblock + plain[size:]
        path.write_bytes(gzip.compress(plain) if packed else plain)
        return path

    HABITS[f"nifti_{name}"] = VolumeHabit(write, **facts)


def _fields(**values: Any) -> Callable[[Any], None]:
    def edit(header: Any) -> None:
        for name, value in values.items():
            header[name] = value

    return edit


for _dtype in ("i2", "i4", "i8", "f4", "f8"):
    for _endian in "<>":
        _nifti(f"{_dtype}_{'big' if _endian == '>' else 'little'}", hu(_dtype), endian=_endian)
_nifti("u2_raw", RAW)
_nifti("u4_raw", RAW.astype("u4"))
_nifti("u2_with_intercept", RAW, edit=_fields(scl_slope=1.0, scl_inter=-1024.0))
_nifti("u2_with_intercept_big", RAW, endian=">", edit=_fields(scl_slope=1.0, scl_inter=-1024.0))
_nifti("u1_of_a_window", np.clip((hu() + 1000) // 6, 0, 255).astype("u1"))
_nifti("i1_scaled", ((hu() + 1000) // 16 - 20).astype("i1"), edit=_fields(scl_slope=16.0, scl_inter=-680.0))
_nifti("slope_0", edit=_fields(scl_slope=0.0, scl_inter=0.0))
_nifti("slope_nan", edit=_fields(scl_slope=np.nan, scl_inter=np.nan))
_nifti("slope_1_intercept_nan", edit=_fields(scl_slope=1.0, scl_inter=np.nan), refused="not finite")
_nifti("slope_of_a_tenth", (hu() * 10).astype("i2"), edit=_fields(scl_slope=0.1, scl_inter=0.0))
_nifti("negative_slope", (-hu()).astype("i2"), edit=_fields(scl_slope=-1.0, scl_inter=0.0))
_nifti("one_frame", hu()[..., None])
_nifti("one_frame_of_five_axes", hu()[..., None, None])
_nifti("many_frames", np.stack([hu(), hu()], axis=-1), refused="split the frames")
_nifti("vectors", hu()[..., None, None].repeat(3, axis=-1), refused="axes")
_nifti("colours", np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]), refused="colour")
_nifti("complex_numbers", hu("c8"), refused="complex")
_nifti("version_2", kind=nibabel.Nifti2Image, simpleitk=NO_NIFTI_2)
_nifti("version_2_gz", kind=nibabel.Nifti2Image, suffix=".nii.gz", simpleitk=NO_NIFTI_2)
_nifti("pair", kind=nibabel.Nifti1Pair, suffix=".hdr")
_nifti("version_2_pair", kind=nibabel.Nifti2Pair, suffix=".hdr", simpleitk=NO_NIFTI_2)
_nifti("gz", suffix=".nii.gz")
_nifti("analyze", kind=nibabel.Spm99AnalyzeImage, suffix=".img", refused="not NIfTI")
_nifti("neurological", affine=AFFINE * [[-1], [1], [1], [1]])
_nifti("upside_down", affine=AFFINE * [1, 1, -1, 1])
_nifti("all_axes_backwards", affine=AFFINE * [-1, -1, -1, 1])
_nifti("coronal", hu().transpose(0, 2, 1), affine=AFFINE[:, [0, 2, 1, 3]])
_nifti("sagittal", hu().transpose(2, 0, 1), affine=AFFINE[:, [2, 0, 1, 3]])
_turn = np.array([[0.96, -0.28, 0, 0], [0.28, 0.96, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
_nifti("turned", affine=_turn @ AFFINE)


def _qform_alone(affine: npt.NDArray[Any]) -> Callable[[Any], None]:
    def edit(header: Any) -> None:
        header.set_qform(affine, 1)
        header["sform_code"] = 0

    return edit


_flipped = AFFINE * [[-1], [1], [1], [1]]
_nifti("qform_alone", edit=_qform_alone(AFFINE))
_nifti("qform_alone_of_negative_determinant", affine=_flipped, edit=_qform_alone(_flipped))
_nifti("qform_alone_turned", affine=_turn @ AFFINE, edit=_qform_alone(_turn @ AFFINE))
_nifti("sform_alone", edit=_fields(qform_code=0))
_nifti(
    "neither_form",
    edit=_fields(sform_code=0, qform_code=0),
    warns="no orientation",
    simpleitk=NO_PLACE,
    nibabel=NO_PLACE,
)
_nifti("pixdim_0_of_zero", edit=lambda header: header["pixdim"].__setitem__(0, 0.0))
_nifti(
    "metres",
    affine=np.diag([1e-3, 1e-3, 1e-3, 1]) @ AFFINE,
    edit=_fields(xyzt_units=1),
    warns="units of 1000 mm",
    nibabel=NO_UNITS,
)
_nifti(
    "micrometres",
    affine=np.diag([1e3, 1e3, 1e3, 1]) @ AFFINE,
    edit=_fields(xyzt_units=3),
    warns="units of 0.001 mm",
    nibabel=NO_UNITS,
)
_nifti("units_unknown", edit=_fields(xyzt_units=0))
_nifti("units_with_seconds", edit=_fields(xyzt_units=2 | 8))
_nifti("toffset_and_cal", edit=_fields(toffset=3.0, cal_max=80.0, cal_min=-20.0, slice_code=1))
_nifti("dim_7_filled_with_0", edit=lambda header: header["dim"].__setitem__(slice(4, 8), 0))
_nifti(
    "float_with_nan",
    np.where(hu("f4") == -1000, np.nan, hu("f4")).astype("f4"),
    warns="not finite",
    simpleitk="it makes 0 of NaN",
    nibabel="it keeps NaN",
)


def _extension(folder: Path) -> Path:
    image = nibabel.Nifti1Image(hu(), AFFINE)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"a note " * 100))
    nibabel.save(image, folder / "case.nii")
    return folder / "case.nii"


HABITS["nifti_extension"] = VolumeHabit(_extension)
