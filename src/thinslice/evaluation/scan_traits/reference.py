"""Traits of the scans that the embedded networks were trained on: a small file that comes with the package.

`python trials/scan_check.py reference FOLDER --out src/thinslice/evaluation/scan_traits/training_set.json` measures
it anew, from the thin training volumes.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict

from thinslice.evaluation.scan_traits.traits import ScanTraits


class ReferenceScan(BaseModel):
    """Thick slices simulated from one training volume.

    Attributes:
        case: name of the volume, of a public collection.
        traits: of its thick slices.
        gain_db: model -> factor -> gain over interpolation on thicker slices (`thinslice.experiments.thicker`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    case: str
    traits: ScanTraits
    gain_db: dict[str, dict[int, float]] = {}


class TrainingSet(BaseModel):
    """Traits of all training scans.

    Attributes:
        format: name and version of this form.
        command: what made the file.
        weights: model -> SHA-256 of the weights whose gains were measured.
        scans: the scans, several slice distances of each volume.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["thinslice-training-set-1"] = "thinslice-training-set-1"
    command: str
    weights: dict[str, str] = {}
    scans: tuple[ReferenceScan, ...]

    def usual(self, trait: str) -> tuple[float, float] | None:
        """Lowest and highest value of a trait; None where no scan has it."""
        values = [value for scan in self.scans if (value := getattr(scan.traits, trait)) is not None]
        return (min(values), max(values)) if values else None

    def gains_db(self, sha256: str | None, factor: int) -> tuple[float, float] | None:
        """Lowest and highest gain of a network on the training scans' own thicker slices; None for other weights."""
        names = [name for name, digest in self.weights.items() if digest == sha256]
        values = [scan.gain_db[name][factor] for scan in self.scans for name in names if factor in scan.gain_db[name]]
        return (min(values), max(values)) if values else None


@lru_cache(maxsize=1)
def training_set() -> TrainingSet:
    """The file that comes with the package."""
    text = files("thinslice.evaluation.scan_traits").joinpath("training_set.json").read_text(encoding="utf-8")
    return TrainingSet.model_validate_json(text)
