"""Scoring protocols as data: window, voxels that count, and definition of SSIM.

Published numbers differ in all three, so a number compares only with those of its own protocol.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU

Similarity = Literal["axial", "three planes", "volume"]
"""Definitions of SSIM: of axial planes; the mean of that of axial, coronal and sagittal planes, each with a Gaussian
window; or of the volume, with a uniform window of 7 voxels."""

NETWORK_WINDOW_HU = (WINDOW_MIN_HU, WINDOW_MAX_HU)


@dataclass(frozen=True)
class Rule:
    """A scoring protocol.

    Attributes:
        name: name on the command line, in tables and in JSON.
        window_hu: HU that become 0 and 1; values outside are clamped.
        edge_slices: thin slices left out at each end, at every factor.
        box: "whole", or "lungs" for the bounding box of the lungs of the reference.
        similarity: definition of SSIM.
        compares_with: published numbers beside which its scores may stand.
        clinical: whether the measures of `thinslice.evaluation.clinical.measures` belong to it.
    """

    name: str
    window_hu: tuple[float, float]
    edge_slices: int
    box: Literal["whole", "lungs"]
    similarity: Similarity
    compares_with: str
    clinical: bool = False

    @property
    def scores_like(self) -> tuple[object, ...]:
        """Equal for protocols of equal PSNR and SSIM."""
        return self.window_hu, self.edge_slices, self.box, self.similarity


_PAPER = "Yu et al. (RPLHR-CT, MICCAI 2022) and networks scored by their released code"

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            Rule("rplhr", NETWORK_WINDOW_HU, 5, "whole", "axial", _PAPER),
            Rule("clinical", NETWORK_WINDOW_HU, 5, "whole", "axial", _PAPER, clinical=True),
            Rule("volume", NETWORK_WINDOW_HU, 0, "whole", "three planes", "MSS-CT (npj Digital Medicine, 2026)"),
            # The released code of ACVTT leaves out 5 slices at each end (`not_eval_border`), as RPLHR-CT's does.
            Rule("skimage", NETWORK_WINDOW_HU, 5, "whole", "volume", "ACVTT (arXiv 2509.20242)"),
            Rule("lung", (-1000.0, 200.0), 0, "lungs", "axial", "SCTE"),
        )
    }
)
"""All protocols by name."""
