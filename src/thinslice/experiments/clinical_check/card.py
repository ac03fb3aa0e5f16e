"""The clinical check in a model card: the few numbers that a user of the network needs, without tables of others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thinslice.experiments.clinical_check.run import TRUTH
from thinslice.models import checkpoint

NOTE = (
    "Of `thinslice models check`: percent of lung below -950 and -910 HU, Perc15 in HU, noise power in percent of the "
    "truth's in bands of frequency, percent of radiomic features with a concordance of 0.85 or more."
)


def card_entry(checked: Mapping[str, Any], method: str) -> dict[str, Any]:
    """The entry `clinical` of a method's card.

    Args:
        checked: of `thinslice.experiments.clinical_check.run.check`.
        method: label of the method.

    Returns:
        `note`; `cases`, each with `case`, `factor`, `profile`, `laa950_percent`, `laa910_percent`, `perc15_hu` (each
        `model` and `truth`), `noise_percent`, `noise_power_percent` (`in_plane`, `along_z`), `radiomics_percent`
        (`lung`, `soft`) and `worst_bias_hu` by class, null for what was not measured; `guard`, the verdict with its
        limits, null where it was not judged.
    """
    rows = {(row["case"], row["factor"], row["method"]): row for row in checked["results"]}
    profiles = {(case["label"], case["factor"]): case["profile"] for case in checked["cases"]}
    cases = []
    for (case, factor), profile in profiles.items():
        own, truth = rows.get((case, factor, method)), rows.get((case, factor, TRUTH))
        if own is not None and truth is not None:
            cases.append({"case": case, "factor": factor, "profile": profile, **_case(own, truth)})
    judged = next((entry for entry in checked["guard"] if entry["method"] == method), None)
    return {"note": NOTE, "cases": cases, "guard": judged and _guard(judged)}


def write_into_card(weights: Path, checked: Mapping[str, Any], method: str) -> None:
    """Write the entry `clinical` into the card of a weights file, replacing an earlier one.

    Args:
        weights: a weights file of ours; replaced atomically.
        checked: of `thinslice.experiments.clinical_check.run.check`.
        method: label of the weights in it.

    Raises:
        CheckpointError: `weights` is not a weights file of ours.
        OutputError: it cannot be replaced.
    """
    entry = card_entry(checked, method)
    checkpoint.update_card(weights, lambda card: {**card, "clinical": entry})


def _case(own: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, Any]:
    lungs = own["lung"], truth["lung"]
    densities = {
        key: None if None in lungs else {"model": _rounded(lungs[0][key]), "truth": _rounded(lungs[1][key])}
        for key in ("laa950_percent", "laa910_percent", "perc15_hu")
    }
    noises = own["noise"]["sd_hu"], truth["noise"]["sd_hu"]
    percent, agreed = own["noise_power"]["percent"], own["radiomics"]
    return {
        **densities,
        "noise_percent": _rounded(100.0 * noises[0] / noises[1]) if noises[0] is not None and noises[1] else None,
        "noise_power_percent": percent and {key: [_rounded(band) for band in percent[key]] for key in percent},
        "radiomics_percent": agreed
        and {tissue: part and _rounded(part["concordant_percent"]) for tissue, part in agreed.items()},
        "worst_bias_hu": {
            name: _rounded(max((entry["bias_hu"], entry["worst_offset_hu"] or 0.0), key=abs))
            for name, entry in own["bias_by_thick"].items()
            if entry["verdict"] != "too few"
        },
    }


def _guard(judged: Mapping[str, Any]) -> dict[str, Any]:
    limits = [{**limit, "percent": _rounded(limit["percent"])} for limit in judged["limits"]]
    return {"verdict": judged["verdict"], "limits": limits}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
