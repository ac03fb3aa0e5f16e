"""Agreement of two segmentations of one scan: Dice and volume, label by label.

Source: Dice, Ecology 26 (1945): twice the common voxels over the sum of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Labels = npt.NDArray[Any]
"""(depth, height, width) whole numbers; 0 is no label."""


def label_agreement(
    estimate: Labels, reference: Labels, voxel_mm3: float, wanted: Mapping[str, int] | None = None
) -> dict[str, dict[str, float | None]]:
    """Dice and volumes of each label.

    Args:
        estimate, reference: labels on one grid.
        voxel_mm3: volume of a voxel.
        wanted: name -> label; None or empty for all labels of the reference, called by their numbers.

    Returns:
        Name -> `dice` (None where neither has the label), `reference_ml`, `estimate_ml`, `volume_percent` (of the
        estimate less that of the reference, over the latter; None where the reference lacks the label).

    >>> truth = np.array([[[1, 1, 0, 2]]]); found = np.array([[[1, 0, 0, 0]]])
    >>> label_agreement(found, truth, 1000.0)["1"]
    {'dice': 0.6666666666666666, 'reference_ml': 2.0, 'estimate_ml': 1.0, 'volume_percent': -50.0}
    """
    names = wanted or {str(int(label)): int(label) for label in np.unique(reference) if label != 0}
    agreed: dict[str, dict[str, float | None]] = {}
    for name, label in names.items():
        own, known = estimate == label, reference == label
        counts = int(np.count_nonzero(own)), int(np.count_nonzero(known))
        both = int(np.count_nonzero(own & known))
        agreed[name] = {
            "dice": 2.0 * both / sum(counts) if sum(counts) else None,
            "reference_ml": counts[1] * voxel_mm3 / 1000.0,
            "estimate_ml": counts[0] * voxel_mm3 / 1000.0,
            "volume_percent": 100.0 * (counts[0] - counts[1]) / counts[1] if counts[1] else None,
        }
    return agreed
