"""Reading and writing by format: the content decides when reading, the name of the output when writing."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from thinslice.arguments import check_bool, check_path, check_paths, check_text, check_whole
from thinslice.errors import (
    ArgumentTypeError,
    GeometryError,
    InputError,
    SeriesChoiceError,
    UnreadableError,
    UsageError,
    warn,
)
from thinslice.io.settings import OnFault, ReadSettings
from thinslice.options import option
from thinslice.planning.memory import SLAB_BYTES
from thinslice.volume import Provenance, Volume, check_volume

if TYPE_CHECKING:
    from thinslice.geometry import Geometry
    from thinslice.io.slabs import SlabWriter

OUTPUT_SUFFIXES = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".nrrd": "nrrd",
    ".mha": "metaimage",
    ".mhd": "metaimage",
}
"""Names of output files; a name without a suffix is a DICOM folder."""

ENHANCED_SUFFIX = ".dcm"
"""Suffix of a DICOM output of one file, an enhanced multi-frame CT, which has to be asked for."""

FORMATS = ("dicom", "dicom-enhanced", "nifti", "nrrd", "metaimage")
"""Values of --format."""

ACCEPTED = (
    "a DICOM folder, files or archive (zip, tar); NIfTI (.nii, .nii.gz); or, with the itk extra, NRRD and MetaImage"
)
"""Inputs of `read`, for messages."""

_FILE_LIKE = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}$")
"""A suffix that names a kind of file (.dcm, .npy), not part of a folder's name (.5mm, .2)."""

_META_KEYS = re.compile(rb"\s*(ObjectType|ObjectSubType|NDims|Comment|TransformType|Name|ID|ParentID|BinaryData)\s*=")


def read(
    path: str | Path | Sequence[str | Path],
    *,
    series: str | int | None = None,
    series_uid: str | None = None,
    axis: int | None = None,
    on_tilt: OnFault = "refuse",
    on_spacing: OnFault = "refuse",
) -> Volume:
    """Read a CT volume; its content, not its name, decides the format.

    Args:
        path: a DICOM folder, archive (zip, tar, gzip), file or sequence of files; a NIfTI file; an NRRD or MetaImage
            file (itk extra).
        series: which DICOM series, where several are found; as in `ReadSettings`.
        series_uid: the same by its UID alone.
        axis: as in `ReadSettings`.
        on_tilt: as in `ReadSettings`.
        on_spacing: as in `ReadSettings`.

    Returns:
        HU (depth, height, width) on its grid.

    Warns:
        ThinsliceWarning: for each sentence of the result's `provenance.warnings`.

    Raises:
        ArgumentTypeError: an argument of another type, such as an array; make a volume of it with `Volume.from_array`.
        UsageError: `series` beside `series_uid`, or a value that does not exist; give one that does.
        ThinsliceError: as `read_as`.
    """
    if series is not None and series_uid is not None:
        raise UsageError("series and series_uid both name the series; give one of them.")
    if series is not None and not isinstance(series, str):
        series = str(check_whole("series", series, "a number, a UID or a part of it"))
    if series_uid is not None:
        check_text("series_uid", series_uid, "a UID or a part of it")
    wanted = series_uid if series is None else series
    volume = read_as(path, ReadSettings(wanted, axis, on_tilt, on_spacing))
    warn(volume.provenance.warnings)
    return volume


def read_as(path: str | Path | Sequence[str | Path], settings: ReadSettings) -> Volume:
    """Read a CT volume with settings; `read` takes them one by one.

    Args:
        path: as for `read`.
        settings: which volume, and how faults of its grid are treated.

    Returns:
        HU (depth, height, width) on its grid.

    Raises:
        UnreadableError: nothing there, or no format that is read; check the path.
        MissingExtraError: NRRD or MetaImage without the itk extra; install it.
        GeometryError: positions or orientation do not make a volume; the message gives the repair.
        SeriesChoiceError: several series; name one with `series`.
        ResourceError: the memory does not hold it; close other programs, or use a machine with more.
        UsageError: `axis` is not 0, 1 or 2; name one of these. Or a series of a file of one volume; name none.
    """
    paths = check_paths("path", path, "a path or several of one series; thinslice.Volume.from_array takes an array")
    if not paths:
        raise UnreadableError(f"The list of files is empty; give {ACCEPTED}.")
    for each in paths:
        try:
            present = each.exists()
        except OSError:
            present = False
        if not present:
            raise UnreadableError(f"There is nothing at {each.name!r}; check the path.")
    kind = "dicom files" if len(paths) > 1 or paths[0].is_dir() else sniff(paths[0])
    _check_applies(kind, settings)
    if kind == "nifti":
        from thinslice.io.nifti import read_nifti

        return read_nifti(paths[0], axis=settings.axis, on_tilt=settings.on_tilt)
    if kind in ("nrrd", "metaimage"):
        from thinslice.io.nrrd import read_itk

        return read_itk(paths[0], axis=settings.axis, on_tilt=settings.on_tilt)
    if kind == "dicom":
        return _read_one_dicom_file(paths[0], settings)
    from thinslice.io.dicom.read import read_dicom

    return read_dicom(paths, series_uid=settings.series, settings=settings)


def _check_applies(kind: str, settings: ReadSettings) -> None:
    """Refuse an option of reading that has no meaning for a format: whoever gave it expects an effect."""
    name = {"nifti": "NIfTI", "nrrd": "NRRD", "metaimage": "MetaImage"}.get(kind)
    if name is not None:
        if (settings.series or "1") != "1":
            raise UsageError(f"A {name} file holds one volume and no series to choose; leave {option('series')} out.")
        if settings.on_spacing != "refuse":
            raise UsageError(
                f"A {name} file states one distance for all its slices, so there is no change of spacing to resample; "
                f"leave {option('on_spacing', settings.on_spacing)} out."
            )
    elif settings.axis is not None:
        raise UsageError(
            f"DICOM states the plane of every slice, so there is no axis to choose; leave {option('axis')} out."
        )


def sniff(path: Path) -> str:
    """The format of one file by its content: "dicom", "nifti", "nrrd", "metaimage", or "zip" for any archive.

    Archives are zip and tar, also packed by gzip, bzip2 or xz, and a single DICOM file that is packed so.

    Raises:
        UnreadableError: empty, not permitted, or no format that is read; give another file.
    """
    from thinslice.io.dicom.files.archives import archive_kind
    from thinslice.io.dicom.files.file_form import looks_like_dicom
    from thinslice.io.gzip_stream import GZIP_MAGIC, open_plain, readable
    from thinslice.io.nifti import header_path
    from thinslice.io.nifti_header import nifti_version

    with readable(path):
        if not path.is_file():
            raise UnreadableError(f"{path.name!r} is not a regular file; give {ACCEPTED}.")
        with path.open("rb") as file:
            head = file.read(1024)
    if not head:
        raise UnreadableError(f"{path.name!r} is empty; give {ACCEPTED}.")
    if head[128:132] == b"DICM":
        return "dicom"
    kind = archive_kind(head)
    if kind is not None and kind != "gzip":
        return "zip"
    packed = head.startswith(GZIP_MAGIC)
    if packed:
        with open_plain(path) as (stream, _, _):
            head = stream.read(1024)
    # An .img of a pair begins with its voxels, and its header lies beside it.
    if nifti_version(head) is not None or header_path(path) != path:
        return "nifti"
    if packed:
        if archive_kind(head) is not None or looks_like_dicom(head):
            return "zip"
        raise UnreadableError(f"{path.name!r} is gzip, but its content is not NIfTI or DICOM; give {ACCEPTED}.")
    if head.startswith(b"NRRD000"):
        return "nrrd"
    if _META_KEYS.match(head):
        return "metaimage"
    # Old files without the 128-byte preamble begin with their first element.
    if looks_like_dicom(head) and len(head) >= 128:
        return "dicom"
    raise UnreadableError(f"{path.name!r} is not a format that thinslice reads; give {ACCEPTED}.")


def write(
    volume: Volume,
    path: str | Path,
    *,
    format: str | None = None,
    overwrite: bool = False,
    deidentify: bool = False,
) -> None:
    """Write a volume in the format that the name of the output asks for.

    Args:
        volume: HU on its grid.
        path: ends in .nii, .nii.gz, .nrrd, .mha or .mhd; without a suffix it is a DICOM folder, which needs a volume
            that came from DICOM.
        format: one of `FORMATS`; "dicom-enhanced" writes one enhanced multi-frame file, whose name ends in .dcm. None
            takes the format that the name asks for.
        overwrite: replace an existing output, once the new one is complete.
        deidentify: leave the patient's identity out of DICOM (PS3.15, Annex E, basic profile); other formats never hold
            it.

    Raises:
        UsageError: an unknown suffix, one that `format` contradicts, or a DICOM folder for a volume that did not come
            from DICOM; choose another name.
        ArgumentTypeError: no `Volume`; make one with `Volume.from_array`. Or another argument of another type.
        OutputExistsError: it exists and `overwrite` is False; overwrite it, or choose another name.
        OutputError: it cannot be written there; choose another place.
        ResourceError: the disk is full; free some space.
    """
    target: object = path
    if isinstance(target, Volume):
        raise ArgumentTypeError("write takes a volume first and then a path; swap the two.")
    volume = check_volume("volume", volume)
    if format is not None:
        check_text("format", format, f"one of {', '.join(FORMATS)}, or None")
    check_bool("overwrite", overwrite)
    check_bool("deidentify", deidentify)
    writer = open_writer(
        check_path("path", path),
        volume.geometry,
        volume.provenance,
        dtype=volume.hu.dtype,
        hu_range=(float(volume.hu.min()), float(volume.hu.max())),
        overwrite=overwrite,
        deidentify=deidentify,
        declared=format,
    )
    write_slabs(writer, volume.hu)
    for sentence in writer.warnings:
        warnings.warn(sentence, UserWarning, stacklevel=2)


def open_writer(
    path: str | Path,
    geometry: Geometry,
    provenance: Provenance,
    *,
    dtype: npt.DTypeLike = np.int16,
    hu_range: tuple[float, float],
    overwrite: bool = False,
    declared: str | None = None,
    deidentify: bool = False,
) -> SlabWriter:
    """A writer for this output, to be used in a `with` block.

    Args:
        path: .nii, .nii.gz, .nrrd, .mha or .mhd; a name without a suffix is a DICOM folder.
        geometry: of the whole volume to come.
        provenance: the file keeps its axis order (`file_axes`); DICOM also needs its headers and derivation.
        dtype: int16 or float32, as the slabs will be. An int16 file that cannot hold `hu_range` becomes float32.
        hu_range: the lowest and highest HU to come.
        overwrite: replace an existing output, once the new one is complete.
        declared: the value of --format, or None.
        deidentify: leave the patient's identity out of DICOM; other formats never hold it.

    Raises:
        UsageError: an unknown suffix, one that contradicts `declared`, or a DICOM output of a source that is not
            DICOM; choose another name.
        GeometryError: the spacing in the plane is unknown, and the format cannot express that; write a DICOM series.

    On entering the `with` block: OutputExistsError, OutputError, ResourceError (disk short).
    """
    kind = output_format(path, declared)
    place = Path(path)
    if kind in ("dicom", "dicom-enhanced"):
        if not provenance.headers:
            raise UsageError(
                f"A DICOM series cannot be made from a source that is not DICOM ({provenance.format}): there is "
                "no patient or study to derive it from; name an output that ends in .nii.gz."
            )
        if deidentify:
            from thinslice.io.dicom.derived.deidentify import deidentified

            provenance = replace(provenance, headers=deidentified(provenance.headers))
        if kind == "dicom-enhanced":
            from thinslice.io.dicom.derived.enhanced import EnhancedSlabWriter

            return EnhancedSlabWriter(place, geometry, provenance, hu_range=hu_range, overwrite=overwrite)
        from thinslice.io.dicom.derived.single_frame import DicomSlabWriter

        return DicomSlabWriter(place, geometry, provenance, hu_range=hu_range, overwrite=overwrite)
    if None in geometry.spacing_mm:
        raise GeometryError(
            "The spacing of the pixels is not known (PixelSpacing is missing), and a file of this format has to state "
            "it; write a DICOM series, or export the source again with PixelSpacing."
        )
    if kind == "nifti":
        from thinslice.io.nifti import NiftiSlabWriter

        return NiftiSlabWriter(place, geometry, provenance, dtype=dtype, hu_range=hu_range, overwrite=overwrite)
    from thinslice.io.nrrd import MetaImageSlabWriter, NrrdSlabWriter

    if kind == "nrrd":
        return NrrdSlabWriter(place, geometry, provenance, dtype=dtype, hu_range=hu_range, overwrite=overwrite)
    return MetaImageSlabWriter(place, geometry, provenance, dtype=dtype, hu_range=hu_range, overwrite=overwrite)


def write_slabs(writer: SlabWriter, hu: npt.NDArray[Any]) -> None:
    """Write a whole (depth, height, width) array, a few slices at a time.

    Slabs have about `SLAB_BYTES` as float32: 8 MiB are 8 slices of 512 x 512.
    """
    step = max(1, SLAB_BYTES // max(1, hu[:1].size * np.dtype(np.float32).itemsize))
    with writer as opened:
        for start in range(0, len(hu), step):
            opened.write(hu[start : start + step])


def output_format(path: str | Path, declared: str | None = None) -> str:
    """The format that the name of an output asks for: "nifti", "nrrd", "metaimage", "dicom" or "dicom-enhanced".

    Args:
        path: the output's name.
        declared: the value of --format, or None.

    Raises:
        UsageError: a suffix that names no output format, or one that `declared` contradicts; change one of them.

    >>> output_format("thin.nii.gz"), output_format("thin"), output_format("chest_1.0mm")
    ('nifti', 'dicom', 'dicom')
    """
    name = Path(path).name
    if declared is not None and declared not in FORMATS:
        raise UsageError(f"There is no output format {declared!r}; choose one of {', '.join(FORMATS)}.")
    lower = name.lower()
    if declared == "dicom-enhanced":
        if not lower.endswith(ENHANCED_SUFFIX):
            raise UsageError(f"{option('format', declared)} writes one file; end its name in {ENHANCED_SUFFIX}.")
        return declared
    by_name = next((kind for suffix, kind in OUTPUT_SUFFIXES.items() if lower.endswith(suffix)), None)
    if by_name is None:
        suffix = _FILE_LIKE.search(name)
        folder = declared == "dicom" or str(path).endswith(("/", "\\")) or Path(path).is_dir()
        if suffix and not folder:
            raise UsageError(
                f"{suffix.group()!r} is no output format; end the name in {', '.join(OUTPUT_SUFFIXES)}, give a name "
                f"without a suffix for a DICOM folder, or state "
                f"{option('format', 'dicom-enhanced')} for one .dcm file."
            )
        by_name = "dicom"
    if declared is not None and declared != by_name:
        raise UsageError(
            f"{option('format', declared)} contradicts the output's name, which asks for {by_name}; change one of them."
        )
    return by_name


def _read_one_dicom_file(path: Path, settings: ReadSettings) -> Volume:
    """Read one DICOM file; for a single slice, add a hint at the folder of its series."""
    from thinslice.io.dicom.read import read_dicom

    hint = "If it is one slice of a series, give the folder it lies in."
    try:
        volume = read_dicom([path], series_uid=settings.series, settings=settings)
    except SeriesChoiceError:
        raise
    except InputError as error:
        raise type(error)(f"{error} {hint}") from error
    if volume.geometry.shape[0] > 1:
        return volume
    sentences = (*volume.provenance.warnings, f"One DICOM file of one slice was read. {hint}")
    return replace(volume, provenance=replace(volume.provenance, warnings=sentences))
