"""Part of a run's report about the labels that came along."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class LabelReport(BaseModel):
    """Volume of one label, areas between slices being linear, over the extent of the thin volume.

    Attributes:
        label: its number.
        thick_ml, thin_ml: in the segmentation, and on the thin grid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    label: int
    thick_ml: float = Field(ge=0)
    thin_ml: float = Field(ge=0)

    @property
    def change_percent(self) -> float:
        """The thin volume less the thick one, in percent of it; 0 for a label without volume.

        >>> LabelReport(label=3, thick_ml=2.0, thin_ml=2.01).change_percent
        0.5
        """
        return round(100.0 * (self.thin_ml - self.thick_ml) / self.thick_ml, 4) if self.thick_ml else 0.0


class LabelsReport(BaseModel):
    """Labels written beside the result.

    Attributes:
        format: "nifti", "nrrd" or "metaimage"; no name, as it may hold a patient's.
        volumes: by label.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: str
    volumes: tuple[LabelReport, ...] = ()

    @property
    def largest_change_percent(self) -> float:
        """The largest change of a label's volume, either way."""
        return max((abs(entry.change_percent) for entry in self.volumes), default=0.0)
