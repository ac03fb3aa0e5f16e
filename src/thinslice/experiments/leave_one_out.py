"""A training on few pairs, scored by leaving one patient out in turn, and its weights.

    for each patient that is left out:  train on the others ─> score on this patient, beside the start
    train on all ─> weights, whose card gets the scores and a calibration of the standard deviations

With three pairs none can be set aside for good. The networks that are scored saw one pair less than the one that is
kept, so the scores are a little too low rather than too high.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from thinslice.data.cache import CachedPair, cached_pairs, pairs_folder
from thinslice.data.manifest import open_dataset
from thinslice.errors import UsageError
from thinslice.evaluation.protocol import evaluate
from thinslice.experiments.calibration.run import PatientErrors, fitted, measure_pair
from thinslice.inference.upscale import upscale
from thinslice.models import checkpoint
from thinslice.models.load import load_model
from thinslice.options import option
from thinslice.recipes import TrainRecipe, overridden
from thinslice.recipes.slice_profile import MeasuredProfile, read_slice_profile
from thinslice.system.atomic import atomic_file
from thinslice.training.export import PROFILE_FILE
from thinslice.training.fit import LogLine, fit
from thinslice.training.setup import initial_weights
from thinslice.training.sources import training_cases
from thinslice.training.validate import as_volumes
from thinslice.typing import Notify

ADVISED = 3
"""Patients below which a score means little."""

RESULTS = "leave-one-out.json"


@dataclass(frozen=True)
class LeftOut:
    """Scores on the pairs of one patient, of networks that were not trained on him; protocol `rplhr`, dB.

    Attributes:
        cases: names of the pairs.
        cubic: cubic interpolation.
        start: the network that training started from; None where it started from random weights.
        start_with_profile: the same with the slice profile measured on the other pairs; None where none was measured.
        trained: the network trained on the other pairs.
    """

    cases: tuple[str, ...]
    cubic: float
    start: float | None
    start_with_profile: float | None
    trained: float

    @property
    def best_before(self) -> float:
        """The best score without training."""
        return max(value for value in (self.cubic, self.start, self.start_with_profile) if value is not None)

    @property
    def gain(self) -> float:
        """What training gave."""
        return self.trained - self.best_before


def train_leaving_out(
    recipe: TrainRecipe,
    out: Path,
    *,
    leave_out: int,
    data_root: Path,
    device: str = "auto",
    threads: int | None = None,
    places: Sequence[Path] = (),
    report: Callable[[LogLine], None] | None = None,
    notify: Notify | None = None,
) -> tuple[Path, list[LeftOut]]:
    """Train on the pairs of all patients but one, for some patients in turn, and score on the one; then train on all.

    Args:
        recipe: recipe of the run, on pairs.
        out: folder of the run. Trainings that leave a patient out lie in folders `without-1` and so on inside it; after
            an interruption the same call continues.
        leave_out: how many patients are left out, the first ones; a number above that of the patients means all.
        data_root, device, threads, places, report, notify: as for `thinslice.training.fit.fit`.

    Returns:
        The weights file of the training on all pairs, and the scores.

    Raises:
        UsageError: a recipe without pairs, fewer than two patients, or several processes; the message names what to do.
        ThinsliceError: as `thinslice.training.fit.fit`.
    """
    if recipe.dataset is None:
        raise UsageError("Patients are left out of pairs; this recipe trains on thin volumes alone.")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("Patients are left out by one process; start it without torchrun, or leave none out.")
    note = notify or (lambda line: None)
    train = partial(
        fit, data_root=data_root, device=device, threads=threads, places=places, report=report, notify=notify
    )
    place = data_root / recipe.dataset.root
    cases = training_cases(open_dataset(place), recipe.dataset)
    names = list(dict.fromkeys(case.patient for case in cases))
    if len(names) < 2:
        raise UsageError(
            f"Split {recipe.dataset.split!r} holds pairs of {len(names)} patient, and leaving one out needs two; add "
            f"pairs ({ADVISED} patients or more are advised), or train without a score ({option('leave_out', 0)})."
        )
    if len(names) < ADVISED:
        note(f"{len(names)} patients: their score means little; {ADVISED} or more are advised.")
    start = initial_weights(recipe, places)
    left_out, errors = [], []
    for number, name in enumerate(names[:leave_out], start=1):
        note(f"Patient {number} of {min(leave_out, len(names))} is left out.")
        folder = out / f"without-{number}"
        without = overridden(recipe, {"dataset.without": [*recipe.dataset.without, name]})
        weights = train(without, folder)
        assert weights is not None  # without a time limit it trains to the end
        pairs = cached_pairs([case for case in cases if case.patient == name], pairs_folder())
        scores, found = _scored(recipe, start, weights, folder, pairs, device, f"patient {number}")
        note(_line(scores))
        left_out.append(scores)
        errors += found
    note("Training on all pairs.")
    weights = train(recipe, out)
    assert weights is not None
    _write(weights, out, left_out, errors)
    return weights, left_out


def table(left_out: Sequence[LeftOut]) -> list[str]:
    """Scores as aligned text, and a sentence on whether the training pays.

    >>> rows = [LeftOut(("a",), 30.0, 31.0, 31.25, 31.75), LeftOut(("b",), 29.0, 30.5, 30.5, 30.75)]
    >>> print("\\n".join(table(rows)))
    left out              cubic  start  with profile  trained   gain
    a                     30.00  31.00         31.25    31.75  +0.50
    b                     29.00  30.50         30.50    30.75  +0.25
    Trained on pairs of other patients, the network is +0.38 dB better than the start, on 2 of 2 patients.
    """
    lines = [f"{'left out':20} {'cubic':>6} {'start':>6}  {'with profile':>12}  {'trained':>7}  {'gain':>5}"]
    lines += [_line(row) for row in left_out]
    gains = [row.gain for row in left_out]
    better = sum(gain > 0 for gain in gains)
    if mean(gains) > 0:
        lines.append(
            f"Trained on pairs of other patients, the network is {mean(gains):+.2f} dB better than the start, on "
            f"{better} of {len(gains)} patients."
        )
    else:
        lines.append(
            f"Training on these pairs does not pay ({mean(gains):+.2f} dB): use the start with the slice profile of "
            f"the pairs ({option('profile', PROFILE_FILE)}), or add pairs."
        )
    return lines


def _line(row: LeftOut) -> str:
    def cell(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    return (
        f"{', '.join(row.cases)[:20]:20} {row.cubic:6.2f} {cell(row.start):>6}  {cell(row.start_with_profile):>12}  "
        f"{row.trained:7.2f}  {row.gain:+5.2f}"
    )


def _scored(
    recipe: TrainRecipe,
    start: Path | None,
    weights: Path,
    folder: Path,
    pairs: Sequence[CachedPair],
    device: str,
    label: str,
) -> tuple[LeftOut, list[PatientErrors]]:
    """Scores on the pairs of one patient, and the errors beside their standard deviations where a head gives them."""
    volumes = [as_volumes(pair, recipe.validation.plane) for pair in pairs]
    factor = pairs[0].factor
    profile = read_slice_profile(folder / PROFILE_FILE) if (folder / PROFILE_FILE).is_file() else None

    def score(model: str, measured: MeasuredProfile | None = None) -> float:
        values = []
        for thick, thin in volumes:
            # The reference arithmetic, as in validation.
            made = upscale(thick, model=model, factor=factor, profile=measured, device=device, backend="torch")
            values.append(float(evaluate(made, thin).psnr))
        return mean(values)

    scores = LeftOut(
        cases=tuple(pair.case_id for pair in pairs),
        cubic=score("cubic"),
        start=None if start is None else score(str(start)),
        start_with_profile=None if start is None or profile is None else score(str(start), profile),
        trained=score(str(weights), profile),
    )
    model = load_model(weights)
    if not model.has_deviation:
        return scores, []
    return scores, [
        measure_pair(model, thick, thin, case=label, device=device, backend="torch", profile=profile)
        for thick, thin in volumes
    ]


def _write(weights: Path, out: Path, left_out: Sequence[LeftOut], errors: Sequence[PatientErrors]) -> None:
    """Write the scores beside the weights and into their card, and the calibration into the card."""
    rows = [{key: _rounded(value) for key, value in asdict(row).items()} for row in left_out]
    scores = {"protocol": "rplhr", "patients": rows, "gain": round(mean(row.gain for row in left_out), 4)}
    with atomic_file(out / RESULTS, overwrite=True) as part:
        part.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")

    def changed(card: dict[str, Any]) -> dict[str, Any]:
        card = {**card, "leave_one_out": scores}
        if errors:
            calibration = {**fitted(errors).to_card(), "note": "Found on pairs that were left out of the training."}
            card["deviation"] = {**(card.get("deviation") or {}), "calibration": calibration}
        return card

    checkpoint.update_card(weights, changed)


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
