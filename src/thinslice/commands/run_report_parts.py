"""Parts of the report of one run: files, network, seconds, uncertainty, texture, machine."""

from __future__ import annotations

import os
import platform
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(ge=0), AfterValidator(lambda value: round(value, 4))]
"""A time as a report holds it, to 0.1 ms: digits beyond mean nothing, and may by chance be those of a date of birth."""

Mebibytes = Annotated[float, Field(ge=0), AfterValidator(lambda value: round(value, 1))]
"""Memory as a report holds it."""


class Frozen(BaseModel):
    """What no part of a report allows: a change after it was made, a key that is not known, infinity and NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class FileReport(Frozen):
    """Input or output of a run.

    Attributes:
        format: "dicom", "nifti", "nrrd" or "metaimage".
        kind: "folder", "file", "files" or "archive"; no name, as it may hold a patient's.
        slices: along the depth.
        matrix: (height, width) in pixels.
        orientation: "axial", "coronal", "sagittal" or "oblique"; None where it is not known.
        series_number: of a DICOM series.
        description: of a DICOM series, without words that may identify the patient.
        kernel: of a DICOM series.
        voxels_sha256: of the source's HU and grid as they were read (`voxel_digest`); None for the result, and in a run
            without a report file.
    """

    format: str
    kind: str
    slices: int = Field(ge=1)
    matrix: tuple[int, int] | None = None
    orientation: str | None = None
    series_number: int | None = None
    description: str | None = None
    kernel: str | None = None
    voxels_sha256: str | None = None


class ModelReport(Frozen):
    """The network: its name, version, and the SHA-256 of its weights (None for one without weights)."""

    name: str
    version: str
    sha256: str | None = None


class SecondsReport(Frozen):
    """Wall-clock seconds by phase; phases overlap where slabs stream, so `total` need not be their sum."""

    read: Seconds
    network: Seconds
    write: Seconds
    total: Seconds


class DeviationReport(Frozen):
    """Standard deviations written beside the result, summed up over voxels that are not air.

    Attributes:
        format: "nifti", "nrrd" or "metaimage"; no name, as it may hold a patient's.
        source: "learned", the network's own head, or "ensemble", the spread of estimates over mirrored inputs.
        calibrated: whether the calibration was measured on patients that the network was not trained on.
        mean_hu, median_hu, p95_hu: mean, median and 95th percentile; None where everything is air.
        multipliers: nominal level in percent -> half width of its interval in standard deviations.
        scale: factors of the map for the noise of this scan, in "air", "lung" and "soft" tissue; None where it cannot
            be measured, and the map has the level of the scans it was calibrated on.
    """

    format: str
    source: str
    calibrated: bool
    mean_hu: float | None = Field(default=None, ge=0)
    median_hu: float | None = Field(default=None, ge=0)
    p95_hu: float | None = Field(default=None, ge=0)
    multipliers: dict[str, float] = Field(default_factory=dict)
    scale: dict[str, float] | None = None


class TextureReport(Frozen):
    """Synthetic noise in the result.

    Attributes:
        seed: of the noise.
        thick_noise_hu: standard deviation of the source's noise in even soft tissue.
        thin_noise_hu: the same of a thin reconstruction, by the averaging law.
        blur_slices: width of the noise's blur along z that the source shows: standard deviation in thin slices.
        map_factor_soft, map_factor_lung: factors by which the uncertainty map was set to that noise.
    """

    seed: int = Field(ge=0)
    thick_noise_hu: float = Field(ge=0)
    thin_noise_hu: float = Field(ge=0)
    blur_slices: float = Field(ge=0)
    map_factor_soft: float = Field(ge=0)
    map_factor_lung: float = Field(ge=0)


class MachineReport(Frozen):
    """Machine on which the times were measured.

    Attributes:
        system: operating system and processor architecture.
        processors: processors this process may use.
        threads: number of threads for the network, None for the library's own choice.
        python: its version.
    """

    system: str
    processors: int
    threads: int | None = None
    python: str

    @classmethod
    def here(cls, *, threads: int | None = None) -> MachineReport:
        """This machine."""
        affinity = getattr(os, "sched_getaffinity", None)
        processors = len(affinity(0)) if affinity else (os.cpu_count() or 1)
        system = f"{platform.system()} {platform.machine()}"
        return cls(system=system, processors=processors, threads=threads, python=platform.python_version())
