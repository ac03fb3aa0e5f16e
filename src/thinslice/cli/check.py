"""Command `check`: is a network any good on this scan?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinslice.cli import options
from thinslice.cli.console import Console, hush_libraries

if TYPE_CHECKING:
    from thinslice.commands.check_report import CheckReport


def check_scan(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="SCAN", show_default=False, help="The thick scan: a DICOM folder or zip, NIfTI, NRRD or MetaImage."
        ),
    ],
    model: options.Model = "default",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    series: options.Series = None,
    axis: options.Axis = None,
    on_tilt: options.OnTilt = options.OnFaultName.REFUSE,
    on_spacing: options.OnSpacing = options.OnFaultName.REFUSE,
    device: options.Device = "auto",
    backend: options.Backend = options.BackendName.AUTO,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Check whether a network is any good on a thick scan, from the scan alone.

    The scan's slices are averaged to thicker ones, and the network must bring them back better than interpolation does:
    PSNR, HU by tissue, edges and noise are compared with the scan. What is unusual beside the training scans is named:
    values that are not HU, slices that are thicker or thinner than the header states, repeated, interpolated or
    missing slices, noise, sharpening, metal. Only a part of the scan goes through the network, so a check takes much
    less time than upscaling.

    \b
    thinslice check chest_5mm/
    thinslice check thick.nii.gz --model best --json
    thinslice check thick.nii.gz --quiet && thinslice upscale thick.nii.gz thin.nii.gz

    Exit codes: 0 good; 9 look closely; 10 not for this network. A good verdict is no promise: nobody has seen the true
    thin slices. --quiet prints nothing, for pipelines that need the code alone.
    """
    import json

    from thinslice.commands.check import check
    from thinslice.io.files import read_as
    from thinslice.io.settings import ReadSettings

    hush_libraries()
    console = Console(quiet=quiet)
    reading = ReadSettings(series=series, axis=axis, on_tilt=on_tilt.value, on_spacing=on_spacing.value)
    with console.work() as work:
        work.phase("reading", 0.0)
        scan = read_as(path, reading)
        report = check(scan, model=model, device=device, backend=backend.value, threads=threads, phase=work.phase)
    for sentence in scan.provenance.warnings:
        console.warn(sentence)
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
    elif not quiet:
        print("\n".join(lines(report)))
    raise typer.Exit(report.exit_code)


ROWS = (
    ("noise in soft tissue", "noise_hu", "HU"),
    ("whiteness of the noise", "noise_whiteness", ""),
    ("noise shared by neighbours", "neighbour_correlation", ""),
    ("thickness / distance, by header", "header_thickness", ""),
    ("thickness / distance, measured", "measured_thickness", ""),
    ("distance / header's, in a chest", "apparent_distance", ""),
    ("largest jump between slices", "jump", ""),
    ("overshoot of edges in plane", "overshoot", ""),
    ("lowest even level", "lowest_level_hu", "HU"),
    ("distance of pixels", "pixel_mm", "mm"),
    ("soft tissue", "soft_share", ""),
    ("fat and soft tissue near them", "familiar_share", ""),
    ("bone or contrast", "dense_share", ""),
)
"""Name, trait and unit of the rows of the table."""


def lines(report: CheckReport) -> list[str]:
    """The report as text: verdict, other findings, the network on thicker slices, traits beside the usual ones."""
    text = [report.sentence, *(f"also: {finding.sentence}" for finding in report.findings[1:]), ""]
    for test in report.tests:
        usual = report.training_gain_db.get(test.factor)
        beside = [] if usual is None else [f"{usual[0]:+.1f} to {usual[1]:+.1f} dB on training scans"]
        if test.factor in report.card_gain_db:
            beside.append(f"{report.card_gain_db[test.factor]:+.1f} dB on thin slices, by the model card")
        text += [
            f"own slices averaged by {test.factor}: {test.gain_db:+.1f} dB over interpolation"
            + (f" ({'; '.join(beside)})" if beside else ""),
            f"  {'':18} {'PSNR':>7} {'noise':>9} {'edges':>9}  bias in HU",
        ]
        rows = ((report.model, test.network), ("cubic", test.cubic), ("cubic-consistent", test.cubic_consistent))
        for name, score in rows:
            bias = ", ".join(f"{tissue} {round(value, 1) + 0.0:+.1f}" for tissue, value in score.bias_hu.items())
            text.append(
                f"  {name:18.18} {score.psnr:7.2f} {_number(score.noise_hu, 'HU'):>9} "
                f"{_number(score.edge_rise_mm, 'mm'):>9}  {bias}"
            )
        text.append(
            f"  {'the scan':18} {'':7} {_number(test.scan_noise_hu, 'HU'):>9} "
            f"{_number(test.scan_edge_rise_mm, 'mm'):>9}"
        )
    text += ["", f"{'trait':34} {'this scan':>10}  training scans"]
    from thinslice.commands.check_report import outside

    beyond = outside(report.traits, report.usual)
    for name, trait, unit in ROWS:
        value, usual = getattr(report.traits, trait), report.usual.get(trait)
        span = "" if usual is None else f"{usual[0]:.4g} to {usual[1]:.4g} {unit}".rstrip()
        mark = "  outside" if trait in beyond else ""
        text.append(f"{name:34} {'not found' if value is None else f'{value:.4g}':>10}  {span}{mark}")
    return [*text, "", report.notice]


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.1f} {unit}"
