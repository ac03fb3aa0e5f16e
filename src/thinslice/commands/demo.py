"""Demonstration: a synthetic chest from thick DICOM slices to a scored thin volume, or a scan of the user."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thinslice.commands.outputs import check_distinct, check_place, check_sources
from thinslice.commands.upscale import UpscaleJob, run_upscale
from thinslice.errors import OutputError, UsageError
from thinslice.evaluation.protocol import Scores
from thinslice.inference.settings import UpscaleSettings
from thinslice.io.settings import ReadSettings
from thinslice.options import option
from thinslice.typing import Notify, PhaseProgress
from thinslice.volume import Volume

if TYPE_CHECKING:
    from thinslice.commands.run_report import RunReport

SEED = 7
"""Seed of the phantom, so that every demo shows the same chest."""

FACTOR = 5
"""5 mm to 1 mm, the paper's case."""

BASELINES = ("linear", "cubic", "cubic-consistent")
"""Interpolations that are shown beside the network."""

FILES = frozenset(
    {
        "thick",
        "thin",
        "thin.nii.gz",
        "truth.nii.gz",
        "comparison.png",
        "preview.png",
        "report.html",
        "report.json",
        "scores.json",
    }
)
"""Names that a demo may make; only a folder of these is ever replaced."""


@dataclass(frozen=True)
class DemoResult:
    """What a demo made.

    Attributes:
        lines: for the user: the files, the scores, and where to look first.
        report: of the upscaling.
    """

    lines: tuple[str, ...]
    report: RunReport


def run_demo(
    source: Path | None,
    out: Path,
    *,
    settings: UpscaleSettings | None = None,
    reading: ReadSettings | None = None,
    overwrite: bool = False,
    notify: Notify | None = None,
    phase: PhaseProgress | None = None,
) -> DemoResult:
    """A folder that demonstrates thinslice, and lines that describe it.

    Without a source: a phantom's thick DICOM series (`thick`), the thin series made from it (`thin`, `thin.nii.gz`),
    its truth, scores beside interpolation, a picture of thick, estimates and truth, a preview and the report. With a
    source: the thin volume, as DICOM too where the source is DICOM, the preview and the report.

    Args:
        source: a scan to upscale, or None for the phantom.
        out: the folder, made as a whole or not at all.
        settings: options of the run; the defaults unless given.
        reading: which volume of the source, and how faults of its grid are treated.
        overwrite: replace a folder that an earlier demo made.
        notify: called with one plain line before each step.
        phase: called with the share of each phase of upscaling.

    Raises:
        UsageError: options of reading without a source, or a folder that holds the source; choose others.
        OutputExistsError: the folder exists and `overwrite` is false.
        OutputError: the folder holds files that no demo made, or cannot be written; choose another one.
        ThinsliceError: as `thinslice.commands.upscale.run_upscale`.
    """
    from thinslice.system.atomic import atomic_directory

    settings = UpscaleSettings() if settings is None else settings
    reading = ReadSettings() if reading is None else reading
    if source is None and (reading != ReadSettings() or _changes_target(settings)):
        raise UsageError(
            "The synthetic chest is upscaled from 5 mm to 1 mm and scored by its only truth, from which synthetic "
            "noise would stray; options of input, spacing and texture need an INPUT: thinslice demo INPUT."
        )
    if source is not None:
        check_distinct([out], [source])
        check_sources([source])
    check_place(out, overwrite=overwrite, folder=True)
    if overwrite:
        _refuse_foreign(out)
    with atomic_directory(out, overwrite=overwrite) as folder:
        result = (
            _phantom(folder, settings, notify, phase)
            if source is None
            else _own_scan(source, folder, settings, reading, notify, phase)
        )
    return DemoResult((*result.lines, f"Everything is in {out}; open report.html first."), result.report)


def _changes_target(settings: UpscaleSettings) -> bool:
    usual = UpscaleSettings()
    return (settings.factor or FACTOR, settings.spacing_mm, settings.intensity, settings.profile, settings.texture) != (
        FACTOR,
        usual.spacing_mm,
        usual.intensity,
        usual.profile,
        usual.texture,
    )


def _phantom(folder: Path, settings: UpscaleSettings, notify: Notify | None, phase: PhaseProgress | None) -> DemoResult:
    from thinslice.data.phantoms.painting import render
    from thinslice.data.phantoms.thorax import phantom_grid, thick_from, thorax
    from thinslice.evaluation.protocol import evaluate
    from thinslice.inference.upscale import upscale
    from thinslice.io.dicom.derived.synthetic import write_dicom_source
    from thinslice.io.files import read, write
    from thinslice.pictures.drawing import save_png
    from thinslice.pictures.figures import comparison

    if notify is not None:
        notify("computing a synthetic chest (a phantom from formulas, no patient)")
    thick, truth = thick_from(render(thorax(SEED), phantom_grid()), FACTOR)
    write_dicom_source(thick, folder / "thick", seed=SEED)
    write(truth, folder / "truth.nii.gz")
    thin, report = _upscaled(folder / "thick", folder, settings, ReadSettings(), notify, phase, dicom=True)

    thick = read(folder / "thick")
    volumes = {name: upscale(thick, model=name, factor=FACTOR) for name in BASELINES}
    volumes["thinslice" if settings.model == "default" else report.model.name] = thin
    scores = {name: evaluate(volume, truth) for name, volume in volumes.items()}
    values = {name: score.to_json() for name, score in scores.items()}
    (folder / "scores.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    shown = {"thick": thick, **{name: volumes[name] for name in list(volumes)[1:]}}
    save_png(comparison(shown, truth, caption=f"thorax phantom {SEED}, factor {FACTOR}"), folder / "comparison.png")
    lines = (
        f"A synthetic chest: {thick.geometry.shape[0]} slices {thick.geometry.spacing_mm[0]:g} mm apart became "
        f"{thin.geometry.shape[0]} slices {thin.geometry.spacing_mm[0]:g} mm apart.",
        "Against the phantom's truth, by protocol rplhr (higher is better):",
        "",
        *_table(scores),
        "",
        "A phantom is simpler than a patient: these scores do not predict quality on patients.",
        "comparison.png shows thick, estimates and truth; preview.png, thick beside thin.",
    )
    return DemoResult(lines, report)


def _own_scan(
    source: Path,
    folder: Path,
    settings: UpscaleSettings,
    reading: ReadSettings,
    notify: Notify | None,
    phase: PhaseProgress | None,
) -> DemoResult:
    from thinslice.io.files import sniff

    dicom = source.is_dir() or (source.is_file() and sniff(source) in ("dicom", "zip"))
    thin, report = _upscaled(source, folder, settings, reading, notify, phase, dicom=dicom)
    depth = thin.geometry.shape[0]
    made = "thin/ (DICOM) and thin.nii.gz" if dicom else "thin.nii.gz"
    lines = (
        f"Your scan became {depth} slices {thin.geometry.spacing_mm[0]:.4g} mm apart: {made}.",
        "There is no truth to score it against; preview.png shows thick beside thin.",
    )
    return DemoResult(lines, report)


def _upscaled(
    source: Path,
    folder: Path,
    settings: UpscaleSettings,
    reading: ReadSettings,
    notify: Notify | None,
    phase: PhaseProgress | None,
    *,
    dicom: bool,
) -> tuple[Volume, RunReport]:
    """The thin volume, read back from its file, and the report; written with preview as by the command line."""
    from thinslice.io.files import read, write

    output = folder / ("thin" if dicom else "thin.nii.gz")
    job = UpscaleJob(
        source=source,
        output=output,
        settings=settings,
        reading=reading,
        preview=folder / "preview.png",
        report=folder / "report.html",
    )
    report = run_upscale(job, notify=notify, phase=phase)
    report.write(folder / "report.json")
    thin = read(output)
    if dicom:
        write(thin, folder / "thin.nii.gz")
    return thin, report


def _table(scores: dict[str, Scores]) -> Sequence[str]:
    width = max(len(name) for name in scores)
    rows = [f"{'':{width}}  PSNR (dB)    SSIM"]
    rows += [f"{name:{width}}  {score.psnr:9.2f}  {score.ssim:.4f}" for name, score in scores.items()]
    return rows


def _refuse_foreign(out: Path) -> None:
    if out.is_dir() and any(entry.name not in FILES for entry in out.iterdir()):
        raise OutputError(
            f"{out.name!r} holds more than a demo, so it is not replaced; choose another {option('out')}."
        )
