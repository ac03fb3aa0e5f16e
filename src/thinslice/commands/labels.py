"""The segmentation that comes along with an upscaled scan: read, checked against the scan, interpolated, written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from thinslice.errors import UsageError
from thinslice.io.settings import ReadSettings
from thinslice.options import option

if TYPE_CHECKING:
    from thinslice.commands.labels_report import LabelsReport
    from thinslice.geometry import Geometry
    from thinslice.inference.labels import Labels
    from thinslice.volume import Provenance

SUFFIX = "_labels"
"""What the name of the labels' file adds to the name of the thin volume."""


@dataclass(frozen=True)
class ThickLabels:
    """Labels of a thick scan, with axes as those of the scan.

    Attributes:
        values: (depth, height, width) integers.
        grid: of the scan.
    """

    values: Labels
    grid: Geometry


def labels_path(output: Path) -> Path:
    """The file of the labels, beside the thin volume: its name and format, or NIfTI beside a DICOM output.

    >>> [labels_path(Path(name)).name for name in ("thin.nii.gz", "chest_1.0mm", "chest.dcm")]
    ['thin_labels.nii.gz', 'chest_1.0mm_labels.nii.gz', 'chest_labels.nii.gz']
    """
    from thinslice.io.files import ENHANCED_SUFFIX, OUTPUT_SUFFIXES

    lower = output.name.lower()
    for suffix in OUTPUT_SUFFIXES:
        if lower.endswith(suffix):
            return output.with_name(output.name[: -len(suffix)] + SUFFIX + suffix)
    stem = output.name[: -len(ENHANCED_SUFFIX)] if lower.endswith(ENHANCED_SUFFIX) else output.name
    return output.with_name(f"{stem}{SUFFIX}.nii.gz")


def check_labels(path: Path) -> None:
    """Refuse a segmentation that cannot be read as labels, as far as that shows without its voxels.

    Raises:
        UsageError: DICOM, whose segmentations are not read; convert it to NIfTI.
        UnreadableError: no format that is read.
    """
    from thinslice.io.files import sniff

    if path.is_dir() or sniff(path) in ("dicom", "zip"):
        raise UsageError(
            f"{option('labels')} takes NIfTI, NRRD or MetaImage; convert a DICOM segmentation to NIfTI on the grid of "
            "the scan first."
        )


def read_labels(path: Path, scan: Geometry, *, axis: int | None = None) -> ThickLabels:
    """Read a segmentation and check it against its scan.

    Args:
        path: NIfTI, NRRD or MetaImage.
        scan: grid of the thick scan.
        axis: the file's through-plane axis, where its spacings do not show it.

    Raises:
        GeometryError: it does not lie on the grid of the scan.
        InputError: values that are no labels, or a file that cannot be read.
    """
    from thinslice.inference.labels import labels_on
    from thinslice.io.files import read_as

    return ThickLabels(labels_on(read_as(path, ReadSettings(axis=axis)), scan), scan)


def write_labels(
    labels: ThickLabels, path: Path, thin: Geometry, source: Provenance, *, overwrite: bool
) -> LabelsReport:
    """Write the labels on the thin grid, slice by slice; the file appears whole or not at all.

    Args:
        labels: of `read_labels`.
        path: file to write.
        thin: grid of the thin volume.
        source: provenance of the thin volume, whose order of axes the file gets.
        overwrite: replace a file that exists.

    Returns:
        Volumes before and after, over the extent of the thin volume.

    Raises:
        OutputError, ResourceError: it cannot be written.
    """
    from thinslice.commands.labels_report import LabelReport, LabelsReport
    from thinslice.inference.labels import LabelAreas, thin_labels
    from thinslice.io.files import open_writer, output_format

    before, after = LabelAreas(labels.grid), LabelAreas(thin)
    for plane in labels.values:
        before.add(plane)
    highest = float(labels.values.max())
    fits = highest < 2**15
    writer = open_writer(
        path,
        thin,
        replace(source, padding_hu=None),
        dtype="int16" if fits else "float32",
        hu_range=(0.0, highest),
        overwrite=overwrite,
    )
    with writer:
        for plane in thin_labels(labels.values, labels.grid, thin):
            after.add(plane)
            writer.write(plane[None].astype("int16" if fits else "float32"))
    reach_mm = (thin.shape[0] - 1) * thin.spacing_mm[0]
    return LabelsReport(
        format=output_format(path),
        volumes=tuple(
            LabelReport(label=n, thick_ml=round(before.ml(n, reach_mm), 4), thin_ml=round(after.ml(n, reach_mm), 4))
            for n in before.labels
        ),
    )
