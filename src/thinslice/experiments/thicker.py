"""A network on a scan's own thicker slices: the only test of quality for which the scan itself is the truth.

Neighbouring slices are averaged to thicker ones, these are upscaled by the network and by interpolation, and both are
compared with the scan. The slices are thicker than those that the network will get, so figures compare with those of
the training scans treated alike, not with scores on thin slices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from thinslice.data.simulate import simulate_thick
from thinslice.evaluation.clinical.edges import find_edges, measure_edges
from thinslice.evaluation.clinical.noise import patch_noise
from thinslice.evaluation.clinical.tissue_bias import inner_thin, tissue_bias
from thinslice.evaluation.metrics import psnr
from thinslice.evaluation.scan_traits.scale import central_part
from thinslice.evaluation.scan_traits.scores import MethodScore, ThickerTest
from thinslice.experiments.scorecard import BASELINES
from thinslice.inference.prepare import prepare
from thinslice.inference.settings import UpscaleSettings
from thinslice.inference.upscale import SlabStream, collect
from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU, WINDOW_WIDTH_HU
from thinslice.models.stored import Stored
from thinslice.profile import SliceProfile
from thinslice.volume import Volume

if TYPE_CHECKING:
    from thinslice.models.base import ThroughPlaneModel

FACTORS = (2, 3)
"""Slices that are averaged to a thicker one."""

MIN_THICKER = 5
"""Thicker slices that a test needs: three between the first and the last."""

PLANE, DEPTH = 160, 64
"""Largest height and width in pixels, and largest number of slices, of the part of the scan that is tested."""


@dataclass(frozen=True)
class _Case:
    thick: Volume
    truth: Volume
    factor: int


def measure_thicker(
    scan: Volume,
    model: ThroughPlaneModel | Stored,
    *,
    factors: tuple[int, ...] = FACTORS,
    device: str = "auto",
    backend: str = "auto",
    threads: int | None = None,
    share: Callable[[float], None] | None = None,
) -> tuple[ThickerTest, ...]:
    """Upscale a scan's own thicker slices; none for a scan of too few slices.

    Args:
        scan: thick scan, (depth, height, width) HU.
        model: the network.
        factors: slices to average, in turn.
        device, backend, threads: as for `thinslice.upscale`.
        share: called with the share of the work that is done, 0 to 1.
    """
    plain = "numpy" if isinstance(model, Stored) else "torch"
    part = central_part(scan, depth=DEPTH, plane=PLANE)
    cases = list(_cases(part, [factor for factor in factors if factor in model.factors]))
    tests = []
    for number, case in enumerate(cases):

        def advance(done: int, total: int, number: int = number) -> None:
            if share is not None:
                share((number + done / max(total, 1)) / len(cases))

        def thin_of(name: str | ThroughPlaneModel | Stored, case: _Case = case, report: Any = None) -> npt.NDArray[Any]:
            settings = UpscaleSettings(
                model=name,
                factor=case.factor,
                # The interpolations are one matrix each, and their scores are those of every other table.
                device=device if report else "cpu",
                backend=backend if report else plain,
                threads=threads,
                intensity="hu",
            )
            # Without the warnings of a run: they would be about slices that the user does not have.
            stream = SlabStream(prepare(case.thick, settings, collect=True), progress=report)
            return collect(stream).hu

        estimates = [thin_of(name) for name in BASELINES]
        estimates.append(thin_of(model, report=advance))
        tests.append(_compared(case, *estimates))
    return tuple(tests)


def _cases(part: Volume, factors: list[int]) -> Iterator[_Case]:
    for factor in factors:
        profile = SliceProfile.mean(factor)
        if len(profile.centres(part.shape[0])) >= MIN_THICKER:
            yield _Case(*simulate_thick(part, profile), factor)


def _compared(
    case: _Case, cubic: npt.NDArray[Any], consistent: npt.NDArray[Any], network: npt.NDArray[Any]
) -> ThickerTest:
    truth, thick, factor = case.truth.hu, case.thick.hu, case.factor
    step_mm = case.truth.geometry.spacing_mm[0]
    inner = inner_thin(len(thick), factor)
    edges = find_edges(truth, step_mm, 2.0 * step_mm, first=inner.start, last=inner.stop)
    kept = slice(inner.start, inner.stop)

    def edge_rise_mm(hu: npt.NDArray[Any]) -> float | None:
        return _rounded(measure_edges(hu, truth, edges)["rise_mm"], 3)

    def noise_hu(hu: npt.NDArray[Any]) -> float | None:
        return _rounded(patch_noise(hu, truth, thick, factor)["sd_hu"], 2)

    def score(hu: npt.NDArray[Any]) -> MethodScore:
        bias = tissue_bias(hu, truth, thick, factor)
        clipped = (np.clip(each[kept], WINDOW_MIN_HU, WINDOW_MAX_HU) for each in (hu, truth))
        return MethodScore(
            psnr=round(min(psnr(*clipped, data_range=WINDOW_WIDTH_HU), 200.0), 3),
            bias_hu={
                name: round(tissue.bias_hu, 2)
                for name, tissue in bias.items()
                if tissue.bias_hu is not None and tissue.verdict != "too few"
            },
            edge_rise_mm=edge_rise_mm(hu),
            noise_hu=noise_hu(hu),
        )

    scores = [score(hu) for hu in (network, cubic, consistent)]
    return ThickerTest(
        factor=factor,
        gain_db=round(scores[0].psnr - max(scores[1].psnr, scores[2].psnr), 3),
        distance_mm=round(case.thick.geometry.spacing_mm[0], 4),
        scan_edge_rise_mm=edge_rise_mm(truth),
        scan_noise_hu=noise_hu(truth),
        network=scores[0],
        cubic=scores[1],
        cubic_consistent=scores[2],
    )


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(float(value), digits)
