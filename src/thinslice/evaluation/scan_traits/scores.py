"""Scores of a network and of interpolation on a scan's own thicker slices."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class MethodScore(BaseModel):
    """One method on the scan's thicker slices.

    Attributes:
        psnr: dB, window [-1024, 2048] HU.
        bias_hu: tissue of the thicker slice -> mean error; tissues of fewer than 2000 voxels are left out.
        edge_rise_mm: median 10-90 % rise of edges across the slices; None where there are too few.
        noise_hu: standard deviation in even soft tissue; None where there is too little.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    psnr: float
    bias_hu: dict[str, float]
    edge_rise_mm: float | None
    noise_hu: float | None


class ThickerTest(BaseModel):
    """Methods on the scan's slices averaged by one factor.

    Attributes:
        factor: slices in a thicker one.
        gain_db: PSNR of the network less that of the better interpolation.
        distance_mm: distance of the thicker slices.
        scan_edge_rise_mm, scan_noise_hu: of the scan itself.
        network, cubic, cubic_consistent: scores of the methods.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: int
    gain_db: float
    distance_mm: float
    scan_edge_rise_mm: float | None
    scan_noise_hu: float | None
    network: MethodScore
    cubic: MethodScore
    cubic_consistent: MethodScore
