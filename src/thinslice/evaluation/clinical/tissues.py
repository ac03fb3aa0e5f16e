"""Thresholds of the clinical measures: tissue classes, lung, edges, patches of noise."""

from __future__ import annotations

import numpy as np

TISSUES_HU: dict[str, tuple[float, float]] = {
    "air": (-np.inf, -950.0),
    "lung": (-950.0, -500.0),
    "between": (-500.0, -150.0),
    "fat": (-150.0, -30.0),
    "soft": (-30.0, 200.0),
    "bone": (200.0, np.inf),
}
"""HU ranges [from, to) of the classes; `between` are edges of the lung, `bone` includes vessels with contrast."""

EMPHYSEMA_HU = -950.0
"""Lung below this counts for LAA-950."""

LOW_DENSITY_HU = -910.0
"""Lung below this counts for LAA-910."""

LUNG_BELOW_HU = -500.0
"""Voxels below this may be lung; `thinslice.evaluation.clinical.lung_density.find_lung` decides by region."""

LUNG_MIN_AREA = 200
"""Pixels a piece of lung needs in a slice."""

EDGE_STEP_HU = 400.0
"""Least height of a step across slices whose sharpness is measured."""

EDGE_REACH_MM = 8.0
"""How far to either side of a step its two levels are read."""

NOISE_PATCH = 7
"""Extent in pixels of the patches in which the standard deviation of noise is measured."""

SPECTRUM_PATCH = 16
"""Extent in pixels of the patches whose noise power spectrum is measured."""

MAX_UNEVENNESS_HU = 12.0
"""Difference between the halves of a patch above which it holds an edge."""
