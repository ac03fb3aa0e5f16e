"""Command `dataset build`: a paired data set from a hospital's own DICOM."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinslice.cli.console import Console, hush_libraries
from thinslice.errors import InputError, PartlyDoneError, UsageError

if TYPE_CHECKING:
    from thinslice.data.hospital.build import BuildOutcome


def build(
    dicom: Annotated[
        Path, typer.Argument(metavar="DICOM_FOLDER", show_default=False, help="Folder or zip of studies.")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", show_default=False, help="Folder of the data set.")],
    seed: Annotated[int, typer.Option("--seed", metavar="NUMBER", help="Seed of the split of patients.")] = 0,
    fractions: Annotated[
        str, typer.Option("--fractions", metavar="A,B,C", help="Shares of train, val and test.")
    ] = "0.4,0.2,0.4",
    factor: Annotated[
        int | None,
        typer.Option(
            "--factor", metavar="NUMBER", min=2, max=8, help="Take only pairs of this factor; default: any, 2 to 8."
        ),
    ] = None,
    any_kernel: Annotated[
        bool, typer.Option("--any-kernel", help="Pair series of different reconstruction kernels too.")
    ] = False,
    patient_by: Annotated[
        str,
        typer.Option(
            "--patient-by", metavar="id|study", help="Identify patients by PatientID, or take each study as one."
        ),
    ] = "id",
    label: Annotated[str, typer.Option("--label", metavar="TEXT", help="Label of all cases, such as a site.")] = "",
    salt: Annotated[
        Path | None,
        typer.Option("--salt", metavar="FILE", help="Keep the secret key of pseudonyms in FILE, to add studies later."),
    ] = None,
    link: Annotated[
        Path | None,
        typer.Option("--link", metavar="FILE.csv", help="Table of cases and series UIDs, for the hospital only."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only errors.")] = False,
) -> None:
    """Pair thick and thin series of a hospital's studies into a data set to train on.

    \b
    thinslice dataset build archive/ pairs/
    thinslice dataset build archive/ pairs/ --fractions 0.8,0.1,0.1 --salt ~/pairs.key --link ~/pairs-link.csv

    A pair is two CT series of one study: same frame of reference, one acquisition, kernels of one family, the same
    pixels in plane, thin slices (at most 2 mm apart) that divide the thick ones' distance 2 to 8 times, and voxels
    that agree. Both are cut so that thick slice k lies on thin slice factor * k. One pair of each study is taken.

    OUT gets thick/ and thin/ (NIfTI, HU, true geometry), manifest.csv and rejected.csv (rejected series with reasons).
    Patients get pseudonyms; no identifier, date or UID is written. Derived, projected and lossy series and images with
    burnt-in text are never taken. Text in the pixels of a plain CT slice, and faces, are not detected.

    After an interruption the same command continues. Exit code 8: some studies failed; run again to retry them.
    """
    from thinslice.data.hospital.build import PairRules, build_dataset

    hush_libraries()
    console = Console(quiet=quiet)
    if patient_by not in ("id", "study"):
        raise UsageError(f"--patient-by is id or study, not {patient_by[:20]!r}.")
    try:
        shares = [float(share) for share in fractions.split(",")]
    except ValueError:
        raise UsageError("--fractions takes three numbers separated by commas, such as 0.7,0.1,0.2.") from None
    outcome = build_dataset(
        dicom,
        out,
        rules=PairRules(factor, any_kernel, "study" if patient_by == "study" else "id", label),
        seed=seed,
        fractions=shares,
        salt=salt,
        link=link,
        stage=console.progress,
    )
    if not quiet:
        _print_outcome(outcome, console)
    if not outcome.rows:
        raise InputError(
            f"No pair was found in {outcome.studies} stud{'y' if outcome.studies == 1 else 'ies'}; rejected.csv in the "
            "output folder gives the reasons."
        )
    if outcome.failed:
        raise PartlyDoneError(
            f"{outcome.failed} of {outcome.studies} studies failed; rejected.csv gives the reasons. Run the same "
            "command to retry them."
        )


def _print_outcome(outcome: BuildOutcome, console: Console) -> None:
    for sentence in outcome.warnings:
        console.warn(sentence)
    for reason, count in sorted(outcome.left_out.items()):
        console.warn(f"{count} file(s) left out: {reason}.")
    if outcome.kept:
        console.note(f"{outcome.kept} of {outcome.studies} studies were done by an earlier run.")
    for rejection in outcome.rejections:
        series = " with ".join(part for part in (rejection.series, rejection.with_series) if part)
        print(f"not taken  {rejection.study}  {series}{': ' if series else ''}{rejection.reason}")
    cases = Counter(row["split"] for row in outcome.rows)
    patients = {split: len({row["patient"] for row in outcome.rows if row["split"] == split}) for split in cases}
    for split in cases:
        print(f"{split:10} {cases[split]} case(s) of {patients[split]} patient(s)")
