"""Scores of weights for their card: on simulated thick slices and on real pairs, beside interpolation.

Every volume runs through all steps of `upscale` (windows, stitching, rounding to integer HU), as a user's scan does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from thinslice.data.simulate import simulate_thick
from thinslice.errors import NotEligibleError
from thinslice.evaluation.protocol import evaluate
from thinslice.inference.upscale import collect, upscale_slabs
from thinslice.models import checkpoint
from thinslice.profile import SliceProfile
from thinslice.volume import Volume

BASELINES = ("cubic", "cubic-consistent")
"""Interpolation, and interpolation that averages back to the thick slices: weights must score better."""


@dataclass(frozen=True)
class Score:
    """One row: a model on a case at a factor, protocol `rplhr`.

    Attributes:
        case: label chosen by the caller; nothing that identifies a patient.
        factor: thin slices per thick interval.
        model: name of the model.
        psnr: dB.
        ssim: mean over axial slices.
        consistency_rms_hu: the output averaged back against the thick slices, RMS HU.
        slices_scored: thin slices that the score counts.
        network_s: seconds in the network.
    """

    case: str
    factor: int
    model: str
    psnr: float
    ssim: float
    consistency_rms_hu: float | None
    slices_scored: int
    network_s: float


def score_simulated(
    model: str | Path, thin: Volume, *, case: str, factors: Sequence[int] = range(2, 9), profile: str = "mean"
) -> Iterable[Score]:
    """Score a model and the baselines on thick slices simulated from a thin volume.

    Args:
        model: a name of the catalog, or a weights file.
        thin: the truth; never one that the weights were trained on.
        case: label of the rows.
        factors: scored in turn; one that leaves fewer than 11 thin slices is skipped.
        profile: how thick slices are simulated (`thinslice.profile.SIMULATED`).

    Yields:
        A row for each factor and model, the baselines first.
    """
    for factor in factors:
        try:
            thick, reference = simulate_thick(thin, SliceProfile.named(profile, factor), whole_hu=True)
        except NotEligibleError:
            continue
        if reference.geometry.shape[0] >= 11:
            yield from _rows(model, thick, reference, case, factor)


def score_pair(model: str | Path, thick: Volume, thin: Volume, *, case: str) -> Iterable[Score]:
    """Score a model and the baselines on a real pair, aligned by position.

    Args:
        model: a name of the catalog, or a weights file.
        thick: the thick reconstruction.
        thin: the thin one of the same acquisition.
        case: label of the rows.

    Yields:
        A row for each model, the baselines first.
    """
    factor = round(thick.geometry.spacing_mm[0] / thin.geometry.spacing_mm[0])
    yield from _rows(model, thick, thin, case, factor)


def write_into_card(weights: Path, rows: Sequence[Score], *, note: str = "") -> None:
    """Write scores into the card of a weights file, replacing earlier ones.

    Args:
        weights: a weights file of ours; replaced atomically.
        rows: scores.
        note: a sentence on the measurement.

    Raises:
        CheckpointError: when `weights` is not a weights file of ours.
        OutputError: when it cannot be replaced.
    """
    kept = [{k: _rounded(v) for k, v in asdict(row).items() if k != "network_s"} for row in rows]
    scores = {"protocol": "rplhr", "note": note, "rows": kept}
    checkpoint.update_card(weights, lambda card: {**card, "scores": scores})


def table(rows: Sequence[Score]) -> list[str]:
    """Rows as aligned text, with the gain in dB over the first baseline of the same case and factor.

    >>> table([Score("a", 5, "cubic", 30.0, 0.9, None, 20, 0.1), Score("a", 5, "net", 32.5, 0.95, 0.3, 20, 1.0)])[2]
    'a                      5  net                 32.50   +2.50  0.9500     0.30'
    """
    lines = [f"{'case':20} {'r':>3}  {'model':18} {'PSNR':>6}  {'gain':>6}  {'SSIM':>6}  {'RMS HU':>7}"]
    base = {(row.case, row.factor): row.psnr for row in reversed(rows)}
    for row in rows:
        gain = row.psnr - base[row.case, row.factor]
        back = "" if row.consistency_rms_hu is None else f"{row.consistency_rms_hu:7.2f}"
        lines.append(
            f"{row.case:20} {row.factor:3d}  {row.model:18} {row.psnr:6.2f}  {gain:+6.2f}  {row.ssim:6.4f}  {back}"
        )
    return lines


def _rows(model: str | Path, thick: Volume, reference: Volume, case: str, factor: int) -> Iterable[Score]:
    for name in (*BASELINES, model):
        stream = upscale_slabs(thick, model=name, factor=factor, backend="torch")
        scores = evaluate(collect(stream), reference)
        yield Score(
            case=case,
            factor=factor,
            model=stream.prepared.model_name,
            psnr=scores.psnr,
            ssim=scores.ssim,
            consistency_rms_hu=stream.result.consistency_rms_hu,
            slices_scored=scores.slices_scored,
            network_s=stream.result.network_s,
        )


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
