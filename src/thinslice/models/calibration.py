"""Calibration of a network's standard deviations, as its card holds it.

Source: multipliers from held-out errors: split conformal prediction with locally weighted residuals, Lei et al., JASA
2018.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thinslice.errors import ModelError

LEVELS = (50, 68, 90, 95)
"""Nominal levels in percent for which a card holds multipliers."""


@dataclass(frozen=True)
class Calibration:
    """Corrections of a head's standard deviations, measured on patients that the network was not trained on.

    Attributes:
        scale: factor of the head's values under which standardised errors have a root mean square of 1.
        multipliers: nominal level in percent -> half-width of the interval in these standard deviations. Errors have
            heavier tails than a Gaussian's, so the values are not 0.67, 0.99, 1.64 and 1.96.
        cases: labels of the volumes it was measured on; empty for a head that was not calibrated.

    >>> Calibration.from_card({"deviation": {"calibration": {"scale": 1.1, "multipliers": {"90": 1.5}}}}).multipliers
    {90: 1.5}
    >>> Calibration.from_card({}).calibrated
    False
    """

    scale: float
    multipliers: dict[int, float]
    cases: tuple[str, ...] = ()

    @property
    def calibrated(self) -> bool:
        """Whether the multipliers come from a card, not from the assumption of a Gaussian."""
        return bool(self.multipliers)

    @classmethod
    def from_card(cls, card: Mapping[str, Any] | None) -> Calibration:
        """Calibration of a model card; scale 1 and no multipliers where the card holds none.

        Raises:
            ModelError: for values that are not positive numbers; calibrate again.
        """
        deviation: Any = (card or {}).get("deviation") or {}
        try:
            values = deviation.get("calibration") or {}
            scale = float(values.get("scale", 1.0))
            multipliers = {int(level): float(value) for level, value in dict(values.get("multipliers") or {}).items()}
            cases = tuple(str(case) for case in values.get("cases") or ())
            sound = all(math.isfinite(value) and value > 0 for value in (scale, *multipliers.values()))
        except (AttributeError, TypeError, ValueError):
            sound = False
        if not sound:
            raise ModelError(
                "The calibration in the model card is damaged; calibrate again (thinslice models calibrate)."
            )
        return cls(scale, multipliers, cases)

    def to_card(self) -> dict[str, Any]:
        """JSON values that `from_card` reads."""
        return {
            "scale": round(self.scale, 5),
            "multipliers": {str(level): round(value, 5) for level, value in self.multipliers.items()},
            "cases": list(self.cases),
        }
