"""Settings of reading: which volume of the input, and how faults of its grid are treated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from thinslice.arguments import check_text, check_whole
from thinslice.errors import UsageError
from thinslice.options import option

OnFault = Literal["refuse", "resample"]
"""Treatment of a grid that is not regular: the input is refused, or resampled to a regular grid."""


def tilt_remedy() -> str:
    """What to do about a file whose slices are tilted."""
    return f"pass {option('on_tilt', 'resample')} to shift them upright, or resample it to an upright grid first"


_TREATMENTS = ("refuse", "resample")


@dataclass(frozen=True)
class ReadSettings:
    """Options of reading that travel together.

    Attributes:
        series: which DICOM series, where several are found: its number in `thinslice inspect`, its UID, or a part of
            its UID that no other series has.
        axis: for NIfTI, NRRD and MetaImage, the file's axis across the slices (0, 1 or 2), where the spacing is not
            clear; refused for DICOM.
        on_tilt: treatment of a gantry tilt, in DICOM or in a file's orientation.
        on_spacing: treatment of a spacing that changes between slices of DICOM; refused for formats of one spacing.

    Raises:
        ArgumentTypeError: a value of another type; the message describes what is taken.
        UsageError: a treatment that does not exist, or a series without a name; choose "refuse" or "resample", or name
            the series.
    """

    series: str | None = None
    axis: int | None = None
    on_tilt: OnFault = "refuse"
    on_spacing: OnFault = "refuse"

    def __post_init__(self) -> None:
        if self.axis is not None:
            check_whole("axis", self.axis, "0, 1 or 2, or None")
        if self.series is not None and not check_text("series", self.series, "a number, a UID or a part of it").strip():
            raise UsageError(
                f"{option('series')} is blank; give the number of a series in 'thinslice inspect', or its UID."
            )
        for name, treatment in (("on_tilt", self.on_tilt), ("on_spacing", self.on_spacing)):
            if check_text(name, treatment, "a name") not in _TREATMENTS:
                raise UsageError(f"{option(name)} is {treatment!r}; choose one of {', '.join(_TREATMENTS)}.")
