"""The guard: what a network must keep of the phantom's nodules to be embedded.

A network that renders a faint nodule as a denser one, or a small one as a smaller one, misleads whoever measures it,
however good its PSNR is. The limits are judged on thick slices of 5 mm that become slices of 1 mm, over the whole
phantom; other slices and a cropped phantom are measured but not judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

FACTOR = 5
"""Thin slices per thick interval at which nodules are judged: 5 mm to 1 mm."""


@dataclass(frozen=True)
class Limit:
    """A range for the mean of one measure over nodules of one kind and diameter.

    Attributes:
        kind: of the nodules, "solid" or "ground glass".
        diameter_mm: of the nodules.
        measure: key of the phantom's summary.
        low, high: percent, both inclusive; None for no upper limit.
    """

    kind: str
    diameter_mm: float
    measure: str
    low: float
    high: float | None = None

    def holds(self, value: float) -> bool:
        """Whether a mean lies within the limit.

        >>> Limit("solid", 5.0, "volume_percent", 80.0).holds(79.9)
        False
        """
        return self.low <= value and (self.high is None or value <= self.high)


LIMITS = (
    Limit("ground glass", 8.0, "contrast_percent", 95.0, 105.0),
    Limit("ground glass", 10.0, "contrast_percent", 95.0, 105.0),
    Limit("solid", 5.0, "volume_percent", 80.0),
)
"""The limits of every embedded network. The truth's own 1 mm slices give 98, 100 and 84 %."""


def verdicts(phantoms: Sequence[Mapping[str, Any]], *, whole: bool = True) -> list[dict[str, Any]]:
    """The guard's verdict on every method.

    Args:
        phantoms: rows of `thinslice.experiments.clinical_check.phantoms.phantom_results`, of any factors.
        whole: whether the phantom was not cropped; a crop is not judged, because it holds too few nodules.

    Returns:
        For each method at `FACTOR`, truth and thick slices left out: `method`, `verdict` ("pass" or "FAIL"), and
        `limits`, each with its values and the measured `percent` and `verdict`; empty where nothing can be judged.
    """
    if not whole:
        return []
    return [_verdict(row) for row in phantoms if row["factor"] == FACTOR and row["method"] not in ("truth", "thick")]


def broken(checked: Mapping[str, Any], methods: Sequence[str]) -> list[str]:
    """Those of the methods that the guard does not pass, because they break a limit or were not judged.

    Args:
        checked: of `thinslice.experiments.clinical_check.run.check`.
        methods: labels.
    """
    passed = {entry["method"] for entry in checked["guard"] if entry["verdict"] == "pass"}
    return [label for label in methods if label not in passed]


def _verdict(row: Mapping[str, Any]) -> dict[str, Any]:
    groups = {(group["kind"], group["diameter_mm"]): group for group in row["nodule_summary"]}
    judged = []
    for limit in LIMITS:
        group = groups.get((limit.kind, limit.diameter_mm))
        percent = None if group is None else group[limit.measure]["mean"]
        held = percent is not None and limit.holds(percent)
        judged.append({**asdict(limit), "percent": percent, "verdict": "pass" if held else "FAIL"})
    whole = "pass" if all(entry["verdict"] == "pass" for entry in judged) else "FAIL"
    return {"method": row["method"], "verdict": whole, "limits": judged}
