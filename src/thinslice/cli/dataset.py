"""Commands `dataset verify`, `analyse` and `mini`: check, measure and make data sets of thick and thin volumes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinslice.cli.console import Console, hush_libraries

if TYPE_CHECKING:
    from thinslice.data.verify import CaseCheck


class Release(StrEnum):
    """Values of --expect."""

    FULL = "full"
    TINY = "tiny"


class Profile(StrEnum):
    """Values of --profile."""

    MEAN = "mean"
    GAUSSIAN = "gaussian"
    TRAPEZOID = "trapezoid"
    SUBSAMPLE = "subsample"


class Axis(StrEnum):
    """Values of --axis."""

    DEPTH = "depth"
    HEIGHT = "height"
    WIDTH = "width"


Root = Annotated[
    Path, typer.Argument(metavar="ROOT", show_default=False, help="Folder of the data set, or its manifest.csv.")
]
Jobs = Annotated[
    int, typer.Option("--jobs", metavar="NUMBER", help="Cases processed in parallel; about 1 GB of memory each.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print only the result and errors.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]


def verify(
    root: Root,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Check only this split, such as val.")
    ] = None,
    expect: Annotated[
        Release | None,
        typer.Option("--expect", help="Also list the cases of the full or tiny release that ROOT lacks."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    jobs: Jobs = 2,
    quiet: Quiet = False,
) -> None:
    """Check every pair of a data set.

    A pair must exist, be readable, of the right shape, finite, in range and aligned. All cases are checked, and faults
    are listed by case. Exit code 0 without faults, 3 otherwise.

    \b
    thinslice dataset verify rplhr/ --expect full
    thinslice dataset verify rplhr/ --split val --json > val.json

    A pair is aligned when thick slice k correlates best with the mean of thin slices 5 k - 2 .. 5 k + 2. `shift` is the
    offset of the best correlation in thin slices, `corr` the correlation at 5 k.
    """
    import json

    from thinslice.data.manifest import open_dataset
    from thinslice.data.verify import verify as verify_dataset
    from thinslice.errors import InputError

    hush_libraries()
    console = Console(quiet=quiet)
    dataset = open_dataset(root)
    with console.progress("cases") as progress:
        release = None if expect is None else expect.value
        found = verify_dataset(dataset, split=split, expect=release, jobs=jobs, progress=progress)
    if as_json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        print(f"{'case':<16} {'split':<8} {'thick':<14} {'thin':<15} {'values':<18} {'shift':>5} {'corr':>7}  verdict")
        for check in found.checks:
            print(_line(check))
        for fault in found.faults:
            print(f"{fault.kind}: {fault.message}")
    if not found.ok:
        about = f" and {len(found.faults)} about the set as a whole" if found.faults else ""
        raise InputError(
            f"{found.bad} of {len(found.checks)} cases have faults{about}; repair them, fetch them again, or take them "
            "out of the data set."
        )
    console.note(f"{len(found.checks)} cases, no faults.")


def analyse(
    root: Root,
    split: Annotated[
        list[str] | None,
        typer.Option("--split", metavar="NAME", help="Measure only this split; may be given several times."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Folder for CSV (by case), JSON and the figure.")
    ] = None,
    jobs: Jobs = 2,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Measure Match, Near and Far: the paper's Fig. 1.

    PSNR and SSIM of thick slice k against thin slice 5 k (Match), 5 k +- 1 (Near) and 5 k +- 2 (Far): mean and standard
    deviation over the cases of each split. Where Match is not the best, thick and thin slices are shifted against each
    other.

    \b
    thinslice dataset analyse rplhr/ --out figure-1/
    thinslice dataset analyse rplhr/ --split val

    A case that cannot be read is left out and reported, and the exit code is 8.
    """
    from thinslice.data.manifest import open_dataset
    from thinslice.errors import PartlyDoneError
    from thinslice.evaluation import match_near_far

    hush_libraries()
    console = Console(quiet=quiet)
    if out is not None:
        match_near_far.refuse_existing(out, overwrite=overwrite)
    dataset = open_dataset(root)
    with console.progress("cases") as progress:
        measured = match_near_far.analyse(dataset, splits=split, jobs=jobs, progress=progress)
    print("\n".join(match_near_far.table(measured)))
    if out is not None:
        match_near_far.save(measured, out, overwrite=overwrite)
        console.note(f"Wrote {', '.join(match_near_far.FILES)}.")
    for sentence in measured.left_out:
        console.warn(f"left out: {sentence}")
    if measured.left_out:
        raise PartlyDoneError(
            f"{len(measured.left_out)} of {len(dataset.cases)} cases were left out; `thinslice dataset verify` "
            "lists their faults."
        )


def mini(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", show_default=False, help="Folder of thin volumes (NIfTI)."),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", show_default=False, help="Folder of the new data set.")],
    train: Annotated[
        list[str] | None,
        typer.Option("--train", metavar="PATTERN", help="Files for train; default: the remaining ones."),
    ] = None,
    val: Annotated[
        list[str] | None,
        typer.Option("--val", metavar="PATTERN", help="Files for val; default: one, chosen by the seed."),
    ] = None,
    test: Annotated[
        list[str] | None, typer.Option("--test", metavar="PATTERN", help="Files for test; default: one, by the seed.")
    ] = None,
    cases: Annotated[
        tuple[int, int, int], typer.Option("--cases", metavar="TRAIN VAL TEST", help="Cases in each split.")
    ] = (12, 4, 4),
    size: Annotated[
        tuple[int, int], typer.Option("--size", metavar="HEIGHT WIDTH", help="Pixels of a slab's planes.")
    ] = (96, 96),
    thick_depth: Annotated[
        int,
        typer.Option(
            "--thick-depth", metavar="NUMBER", help="Thick slices N of a slab; it has 5 (N - 1) + 1 thin ones."
        ),
    ] = 12,
    axis: Annotated[
        list[Axis] | None,
        typer.Option("--axis", help="Source axes that serve as the through-plane axis in train; default: all three."),
    ] = None,
    profile: Annotated[
        Profile, typer.Option("--profile", help="Slice profile of the simulated thick slices.")
    ] = Profile.MEAN,
    noise: Annotated[
        float, typer.Option("--noise", metavar="HU", help="Standard deviation of noise added to thick slices.")
    ] = 0.0,
    seed: Annotated[
        int, typer.Option("--seed", metavar="NUMBER", help="Seed; the same seed gives the same bytes.")
    ] = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Make a small set in the released layout.

    \b
    thinslice dataset mini thin-chests/ mini/
    thinslice dataset mini thin-chests/ mini/ --test 'ward-b/*' --cases 20 5 5 --size 128 128

    One file is one patient and lies in one split. Cases are slabs of a volume; in train, an in-plane axis may serve as
    the through-plane axis. manifest.csv in OUT lists patient, slab and axis of each case. If a patient has several
    files, put them into one split with --train, --val, --test (shell patterns of the path within SOURCE, quoted; each
    may be given several times).
    """
    from thinslice.data.mini import AXES, MiniRecipe, make_mini

    hush_libraries()
    console = Console(quiet=quiet)
    patterns = {"train": train, "val": val, "test": test}
    recipe = MiniRecipe(
        cases=dict(zip(patterns, cases, strict=True)),
        patterns={name: globs for name, globs in patterns.items() if globs},
        size=size,
        thick_depth=thick_depth,
        axes=tuple(a.value for a in axis) if axis else AXES,
        profile=profile.value,
        noise_hu=noise,
        seed=seed,
    )
    with console.progress("cases") as progress:
        made = make_mini(source, out, recipe, overwrite=overwrite, progress=progress)
    for sentence in made.left_out:
        console.warn(sentence)
    for split, patients in made.patients.items():
        print(f"{split}: {made.cases[split]} cases of {len(patients)} patient{'' if len(patients) == 1 else 's'}")


def measure_slice_profile(
    thick: Annotated[Path, typer.Argument(metavar="THICK", show_default=False, help="Thick reconstruction.")],
    thin: Annotated[
        Path, typer.Argument(metavar="THIN", show_default=False, help="Thin reconstruction of the same acquisition.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.json", help="Write the profile, for upscale --profile.")
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Measure a scanner's slice profile on a real pair.

    \b
    thinslice dataset profile chest_5mm/ chest_1mm/ --out profile.json
    thinslice upscale other_5mm/ other_1mm/ --profile profile.json

    THICK and THIN are two reconstructions of one acquisition with one field of view, matrix and kernel. The profile is
    the weight of thin slices in a thick one over their distance, fitted by least squares. Printed beside it: its
    residual, and the residual of a box as wide as the slice thickness in the header, which upscale assumes otherwise.
    """
    from thinslice.data.measured_profile import measure_profile
    from thinslice.io.files import read

    hush_libraries()
    measured = measure_profile(read(thick), read(thin))
    if out is not None:
        measured.write(out, overwrite=overwrite)
    if quiet:
        return
    peak = max(measured.weights)
    print("distance (mm)  weight")
    for offset, weight in zip(measured.offsets_mm, measured.weights, strict=True):
        print(f"{offset:13.2f}  {weight:6.4f}  {'#' * round(40 * weight / peak)}".rstrip())
    header = "unknown" if measured.thick_thickness_mm is None else f"{measured.thick_thickness_mm:.4g} mm"
    print(f"width      {measured.width_mm:.2f} mm (box of the same standard deviation; header: {header})")
    print(f"centre     {measured.centre_mm:+.2f} mm from the slice's position")
    print(f"residual   {measured.residual_rms_hu:.1f} HU RMS; box of the header {measured.box_residual_rms_hu:.1f} HU")
    print(f"voxels     {measured.voxels}")


def _line(check: CaseCheck) -> str:
    shapes = ["-" if s is None else "x".join(map(str, s)) for s in (check.thick_shape, check.thin_shape)]
    values = "-" if check.low is None or check.high is None else f"{check.low:.4g} to {check.high:.4g}"
    shift = "-" if check.shift is None else str(check.shift)
    correlation = "-" if check.correlation is None else f"{check.correlation:.4f}"
    verdict = " ".join(f"{fault.kind.upper()}: {fault.message}" for fault in check.faults) or "good"
    case = f"{check.case_id:<16} {check.split:<8} {shapes[0]:<14} {shapes[1]:<15} {values:<18}"
    return f"{case} {shift:>5} {correlation:>7}  {verdict}"
