"""Command `inspect`: the series of a folder, and which of them can be upscaled. Imports no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from thinslice.cli.console import Console, hush_libraries


def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", show_default=False, help="Folder, file or zip: DICOM, NIfTI, NRRD.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list instead of lines.")] = False,
) -> None:
    """List all series, and which of them can be upscaled.

    Only headers of DICOM and NIfTI are read. Nothing that identifies a patient is printed.

    \b
    thinslice inspect disk/
    thinslice inspect chest.nii.gz --json

    JSON: a list of series, each with series_uid, kind, slices, spacing_mm (depth, height, width), thickness_mm,
    eligible, reasons (why not), factor (to reach 1 mm), warnings, skipped (files left out) and file
    (the name of one that is not DICOM).
    """
    import json

    from thinslice.commands.inspect import survey

    hush_libraries()
    found = survey(path)
    if as_json:
        print(json.dumps([series.to_json() for series in found], indent=2))
        return
    for series in found:
        print(_line(series.to_json()))
    console = Console()
    for series in found:
        for sentence in series.warnings:
            console.warn(f"{series.series_uid or series.file}: {sentence}")
    for name in dict.fromkeys(name for series in found for name in series.skipped):
        console.warn(f"left out: {name}")


def _line(series: dict[str, Any]) -> str:
    spacing = series["spacing_mm"]
    extent = "" if spacing is None else f", {' x '.join('?' if mm is None else f'{mm:.4g}' for mm in spacing)} mm"
    thickness = "" if series["thickness_mm"] is None else f", {series['thickness_mm']:.4g} mm thick"
    verdict = (
        f"eligible, factor {series['factor']} reaches {spacing[0] / series['factor']:.4g} mm"
        if series["eligible"]
        else "not eligible: " + " ".join(series["reasons"])
    )
    name = f"{series['series_uid'] or series['file']}  "
    return f"{name}{series['kind']}, {series['slices']} slices{extent}{thickness}\n    {verdict}"
