"""What `check` found about a scan. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from thinslice.about import NOTICE, __version__
from thinslice.evaluation.scan_traits.findings import Finding, Verdict
from thinslice.evaluation.scan_traits.scores import ThickerTest
from thinslice.evaluation.scan_traits.traits import ScanTraits

SCHEMA = "thinslice-check/1"
"""Value of `schema`; the number rises when a key changes its meaning."""

EXIT_CODES: dict[Verdict, int] = {"good": 0, "look closely": 9, "not for this network": 10}
"""What the command line returns for each verdict."""


def outside(traits: ScanTraits, usual: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """Traits of a scan that lie outside those of the training scans."""
    values = {trait: getattr(traits, trait) for trait in usual}
    return tuple(
        trait
        for trait, value in values.items()
        if value is not None and not usual[trait][0] <= value <= usual[trait][1]
    )


class CheckReport(BaseModel):
    """What was found about a scan, as JSON.

    Attributes:
        schema_name: `schema` in JSON.
        verdict: "good", "look closely" or "not for this network".
        sentence: the verdict in one sentence.
        exit_code: of the command line.
        findings: what is unusual, the worst first.
        tests: the network and interpolation on the scan's own thicker slices.
        training_gain_db: factor -> lowest and highest gain on the training scans' thicker slices; empty for other
            weights than the embedded ones.
        card_gain_db: factor -> mean gain over interpolation on thin slices in the model card; empty without scores.
        traits: of the scan.
        usual: trait -> lowest and highest value of the training scans.
        model: name of the network.
        model_sha256: of its weights; None for one without.
        notice: uses that are excluded.
        thinslice_version: version of the software.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    schema_name: str = Field(default=SCHEMA, alias="schema")
    verdict: Verdict
    sentence: str
    exit_code: int
    findings: tuple[Finding, ...]
    tests: tuple[ThickerTest, ...]
    training_gain_db: dict[int, tuple[float, float]]
    card_gain_db: dict[int, float]
    traits: ScanTraits
    usual: dict[str, tuple[float, float]]
    model: str
    model_sha256: str | None
    notice: str = NOTICE
    thinslice_version: str = __version__

    def to_json(self) -> dict[str, Any]:
        """JSON values, under the names of the interface."""
        return self.model_dump(mode="json", by_alias=True)
