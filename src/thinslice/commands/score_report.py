"""Report of `evaluate` on one pair: scores by protocol, curves over the slices, pictures, beside interpolation.

A page by itself, or a folder as `thinslice benchmark` makes it:

OUT/report.html      everything, in one file
OUT/scores.json      every number, for programs
OUT/table.md         the tables
OUT/figures/*.png    each figure by itself
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from thinslice.errors import InputError
from thinslice.evaluation.placed import PlacedThick, index_thick, place_thick
from thinslice.evaluation.protocol import Scores, evaluate_all
from thinslice.evaluation.rules import RULES
from thinslice.evaluation.units import volume_in_hu
from thinslice.experiments.clinical_check.cases import digest_of
from thinslice.experiments.clinical_columns import clinical_table
from thinslice.experiments.document import (
    Document,
    Part,
    Picture,
    Section,
    Table,
    Warnings,
    to_html,
    to_markdown,
    write_files,
)
from thinslice.geometry import Geometry
from thinslice.options import option
from thinslice.pictures import clinical_plots, figures
from thinslice.planning import MAX_FACTOR, MIN_FACTOR
from thinslice.system.atomic import atomic_file, require_place
from thinslice.volume import Volume

ESTIMATE, BASELINE, THICK = "estimate", "cubic", "thick"
"""Names of the columns and lines of a report: files are named after patients, so their names are left out."""


@dataclass(frozen=True)
class ScoredPair:
    """An estimate with its scores, and interpolation of the thick slices with its own.

    Attributes:
        estimate, reference: the thin volumes in HU, on grids that the alignment pairs.
        scores: protocol -> scores of the estimate.
        thick: the source in HU, or None where none was given.
        baseline: its cubic interpolation on the grid of the reference, or None.
        baseline_scores: protocol -> scores of the baseline; empty without one.
        warnings: sentences on what is left out.
    """

    estimate: Volume
    reference: Volume
    scores: Mapping[str, Scores]
    thick: Volume | None = None
    baseline: Volume | None = None
    baseline_scores: Mapping[str, Scores] | None = None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The scores of estimate and baseline, and digests of the voxels."""
        volumes = {ESTIMATE: self.estimate, "reference": self.reference, THICK: self.thick}
        return {
            "schema": "thinslice-scores/1",
            "protocols": {name: scores.to_json() for name, scores in self.scores.items()},
            BASELINE: {name: scores.to_json() for name, scores in (self.baseline_scores or {}).items()},
            "voxels_sha256": {name: digest_of(volume) for name, volume in volumes.items() if volume is not None},
            "warnings": list(self.sentences),
        }

    @property
    def sentences(self) -> tuple[str, ...]:
        """Warnings of the scores and of this pair, each once."""
        return tuple(
            dict.fromkeys([*(text for scores in self.scores.values() for text in scores.warnings), *self.warnings])
        )


def score_pair(
    estimate: Volume,
    reference: Volume,
    scores: Mapping[str, Scores],
    *,
    thick: Volume | None = None,
    align: str = "world",
    intensity: str = "auto",
) -> ScoredPair:
    """Put what was scored beside cubic interpolation of the thick slices, scored alike.

    Args:
        estimate, reference, thick, align, intensity: as given to `evaluate_all`.
        scores: its result.

    Raises:
        InputError: values that are neither HU nor unit values.
    """
    ours, truth = volume_in_hu(estimate, intensity), volume_in_hu(reference, intensity)
    if align == "index":
        ours = Volume(ours.hu, truth.geometry, ours.provenance)
    if thick is None:
        note = f"Without the thick slices there is no interpolation to compare with; give them ({option('thick')})."
        return ScoredPair(ours, truth, scores, warnings=(note,))
    source = volume_in_hu(thick, intensity)
    try:
        if align == "index":
            placed = index_thick(source, truth.geometry)
            source = Volume(source.hu, _thick_grid(placed, truth.geometry), source.provenance)
        baseline = _interpolated(source, truth.geometry)
    except InputError as error:
        return ScoredPair(ours, truth, scores, source, warnings=(f"Interpolation is left out: {error}",))
    theirs = evaluate_all(baseline, truth, tuple(scores), align="world", intensity="hu", thick=source)
    return ScoredPair(ours, truth, scores, source, baseline, theirs)


def _thick_grid(placed: PlacedThick, thin: Geometry) -> Geometry:
    """The grid of thick slices that were placed by index."""
    depth, height, width = thin.spacing_mm
    return replace(thin, shape=placed.hu.shape, spacing_mm=(depth * placed.factor, height, width))


def _interpolated(thick: Volume, thin: Geometry) -> Volume:
    """Cubic interpolation of thick slices at the spacing of a thin grid.

    Raises:
        InputError: the thick slices do not lie on the thin grid, or no factor leads there.
    """
    from thinslice.inference.upscale import upscale

    factor = place_thick(thick, thin).factor
    if not MIN_FACTOR <= factor <= MAX_FACTOR:
        raise InputError(
            f"{factor} thin slices for each thick one; interpolation is made for {MIN_FACTOR} to {MAX_FACTOR}."
        )
    return upscale(thick, model="cubic", factor=factor, device="cpu", intensity="hu")


def to_document(pair: ScoredPair) -> Document:
    """The report as a document."""
    grid = pair.reference.geometry
    slices, rows, columns = grid.shape
    by_label = {ESTIMATE: pair.scores, BASELINE: pair.baseline_scores or {}}
    heads = ("protocol", "volume", "PSNR (dB)", "SSIM", "slices", "window (HU)")
    lines = [
        _cells(protocol, label, by_label[label][protocol])
        for protocol in pair.scores
        for label in by_label
        if protocol in by_label[label]
    ]
    compares = tuple(
        f"{protocol}: comparable with {RULES[protocol].compares_with}, on the same data and split."
        for protocol in pair.scores
    )
    parts: list[Part] = [
        Warnings(pair.sentences),
        Section("Scores", (Table(heads, lines),), compares),
        *_pictures(pair),
    ]
    clinical = {
        label: [scores["clinical"].clinical]
        for label, scores in by_label.items()
        if "clinical" in scores and scores["clinical"].clinical is not None
    }
    if clinical:
        parts.append(Section("Clinical measures", (Table(*clinical_table(clinical)),), (_CLINICAL_NOTE,)))
    facts = [(f"voxels of {name}, SHA-256", digest) for name, digest in pair.to_json()["voxels_sha256"].items()]
    parts.append(Section("Provenance", (Table((), facts),)))
    return Document(
        title="Score of a thin volume",
        lead=f"{slices} x {rows} x {columns} voxels, slices {grid.spacing_mm[0]:.3g} mm apart, against the true ones.",
        parts=tuple(parts),
    )


_CLINICAL_NOTE = (
    "In HU without clamping; tissue is the class of the thick slice, or, without thick slices, not measured here. "
    "LAA-950: share of the lungs below -950 HU, estimate less truth."
)


def _cells(protocol: str, label: str, scores: Scores) -> list[str]:
    psnr = "infinite (identical)" if scores.identical else f"{scores.psnr:.2f}"
    low, high = scores.window_hu
    return [protocol, label, psnr, f"{scores.ssim:.4f}", str(scores.slices_scored), f"{low:g} to {high:g}"]


def _pictures(pair: ScoredPair) -> list[Picture]:
    """SSIM slice by slice, and the volumes side by side with maps of their errors."""
    protocol, scores = next(iter(pair.scores.items()))
    curves = {ESTIMATE: scores, **({BASELINE: pair.baseline_scores[protocol]} if pair.baseline_scores else {})}
    lines = {
        label: clinical_plots.Curve(_slice_numbers(each), list(each.ssim_per_slice)) for label, each in curves.items()
    }
    drawn = clinical_plots.curves_figure(
        {"SSIM by slice": lines},
        across="thin slice of the part that both volumes cover",
        upwards="SSIM",
        note=f"Protocol {protocol}.",
    )
    panels = {THICK: pair.thick, BASELINE: pair.baseline, ESTIMATE: pair.estimate}
    shown = {label: volume for label, volume in panels.items() if volume is not None}
    where = "Midway between two thick slices, and through the middle of the body"
    return [
        Picture("slices", "SSIM by slice", f"SSIM of each slice under protocol {protocol}.", drawn),
        Picture(
            "comparison",
            "Side by side",
            f"{where}; the absolute error is in the last row and the truth at the right.",
            figures.comparison(shown, pair.reference),
            dark=True,
        ),
    ]


def _slice_numbers(scores: Scores) -> list[int]:
    """Thin slices that `ssim_per_slice` is of: those of the box, less what its window leaves out at both ends."""
    start, stop = scores.box[0]
    margin = (stop - start - len(scores.ssim_per_slice)) // 2
    return list(range(start + margin, start + margin + len(scores.ssim_per_slice)))


def check_place(place: Path, *, overwrite: bool) -> None:
    """Refuse a place of the report before anything is scored.

    Args:
        place: FILE.html, or a folder.
        overwrite: whether existing results are replaced.

    Raises:
        OutputError: it exists and holds something, its folder is missing, or nothing may be written there.
    """
    require_place(place, overwrite=overwrite, folder=place.suffix.lower() != ".html")


def write_report(pair: ScoredPair, place: Path, *, overwrite: bool = False) -> None:
    """Write the report as one page, or as a folder.

    Args:
        pair: what was scored.
        place: FILE.html for one page, otherwise a folder.
        overwrite: replace what exists.

    Raises:
        OutputExistsError: it exists and `overwrite` is false.
        OutputError, ResourceError: it cannot be written.
    """
    check_place(place, overwrite=overwrite)
    document = to_document(pair)
    page = to_html(document)
    if place.suffix.lower() == ".html":
        with atomic_file(place, overwrite=overwrite) as partial:
            partial.write_text(page, encoding="utf-8")
        return
    texts = {
        "report.html": page,
        "table.md": to_markdown(document),
        "scores.json": json.dumps(pair.to_json(), indent=1, allow_nan=False) + "\n",
    }
    write_files(place, texts, document.pictures)
