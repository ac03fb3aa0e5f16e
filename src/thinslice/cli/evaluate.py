"""Command `evaluate`: scores of an estimated thin volume against the true one."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thinslice.cli.console import Console, hush_libraries, readable

if TYPE_CHECKING:
    from thinslice.evaluation.protocol import Scores


class Protocol(StrEnum):
    """Values of --protocol."""

    RPLHR = "rplhr"
    CLINICAL = "clinical"
    VOLUME = "volume"
    SKIMAGE = "skimage"
    LUNG = "lung"


class Alignment(StrEnum):
    """Values of --align."""

    WORLD = "world"
    INDEX = "index"


class Intensity(StrEnum):
    """Values of --intensity."""

    AUTO = "auto"
    HU = "hu"
    UNIT = "unit"


def evaluate(
    estimate: Annotated[Path, typer.Argument(metavar="ESTIMATE", show_default=False, help="The thin volume to score.")],
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", show_default=False, help="The true thin volume.")],
    protocol: Annotated[
        list[Protocol] | None,
        typer.Option(help="Scoring rule; several may be given. Default: rplhr.", show_default=False),
    ] = None,
    align: Annotated[
        Alignment, typer.Option(help="Pair voxels by position in the patient, or by index for equal shapes.")
    ] = Alignment.WORLD,
    intensity: Annotated[
        Intensity, typer.Option(help="Units of the values; auto takes floats in [0, 1] for unit intensities.")
    ] = Intensity.AUTO,
    thick: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Thick source, for protocol clinical: tissue classes, distance, consistency."
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the scores as JSON; - prints them.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.html|FOLDER", help="Write tables and pictures, beside interpolation where --thick is given."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")] = False,
) -> None:
    """Score a thin volume against the true one.

    Scores can be compared only within one protocol and one data set:

    \b
    rplhr     RPLHR-CT: [-1024, 2048] HU, without 5 slices at each end
    clinical  rplhr, and in HU: bias by tissue, lung density, edges, noise
    volume    MSS-CT: all slices; SSIM of axial, coronal and sagittal planes
    skimage   ACVTT: slices as rplhr, SSIM in three dimensions
    lung      SCTE: [-1000, 200] HU, within the box around the lungs

    \b
    thinslice evaluate estimate.nii.gz truth.nii.gz
    thinslice evaluate estimate/ truth/ --protocol clinical --thick source/ --json scores.json
    thinslice evaluate estimate/ truth/ --thick source/ --report score.html
    thinslice evaluate estimate/ truth/ --protocol rplhr --protocol volume --protocol skimage
    """
    import json

    from thinslice.evaluation.protocol import evaluate_all
    from thinslice.io.files import read

    hush_libraries()
    console = Console()
    if report is not None:
        from thinslice.commands.score_report import check_place

        check_place(report, overwrite=overwrite)
    volumes = read(estimate), read(reference)
    source = None if thick is None else read(thick)
    by_protocol = evaluate_all(
        *volumes,
        [each.value for each in protocol or [Protocol.RPLHR]],
        align=align.value,
        intensity=intensity.value,
        thick=source,
    )
    for sentence in dict.fromkeys(warning for scores in by_protocol.values() for warning in scores.warnings):
        console.warn(sentence)
    measured = {name: scores.to_json() for name, scores in by_protocol.items()}
    text = json.dumps({"protocols": measured} if len(measured) > 1 else next(iter(measured.values())), indent=2) + "\n"
    if json_file is not None and str(json_file) != "-":
        from thinslice.system.atomic import atomic_file

        with atomic_file(json_file, overwrite=overwrite) as partial:
            partial.write_text(text, encoding="utf-8")
    if report is not None:
        from thinslice.commands.score_report import score_pair, write_report

        pair = score_pair(*volumes, by_protocol, thick=source, align=align.value, intensity=intensity.value)
        for sentence in pair.warnings:
            console.warn(sentence)
        write_report(pair, report, overwrite=overwrite)
        console.note(f"Report: {report}")
    if json_file is not None and str(json_file) == "-":
        print(text, end="")
        return
    print("\n\n".join(_as_text(scores) for scores in by_protocol.values()))


def _as_text(scores: Scores) -> str:
    """PSNR and SSIM with the digits of published tables; lists by slice, frequency and feature are only in the JSON."""
    printed = {"psnr", "identical", "ssim", "ssim_per_slice", "warnings", "box"}
    rest = {name: value for name, value in scores.to_json().items() if name not in printed}
    return "\n".join(
        [
            f"psnr: {'infinite (identical)' if scores.identical else f'{scores.psnr:.4f} dB'}",
            f"ssim: {scores.ssim:.4f}",
            *readable(_without_lists(rest)),
        ]
    )


def _without_lists(values: dict[str, Any]) -> dict[str, Any]:
    """The values without spectra and without the concordance of single features.

    >>> _without_lists({"radiomics": {"lung": {"median": 0.9, "concordance": {"mean": 1.0}}}, "psnr": 40.0})
    {'radiomics': {'lung': {'median': 0.9}}, 'psnr': 40.0}
    """
    left_out = ("concordance", "in_plane", "along_z")
    return {
        name: _without_lists(value) if isinstance(value, dict) and name != "percent" else value
        for name, value in values.items()
        if name not in left_out
    }
