"""`thinslice upscale FOLDER OUT --all`: every eligible series of a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thinslice.cli.console import Console, duration

if TYPE_CHECKING:
    from thinslice.commands.batch import BatchJob


def upscale_all(job: BatchJob, console: Console) -> None:
    """Run a batch and print its summary.

    Raises:
        PartlyDoneError: some series were refused or failed; the summary holds the reasons.
        InputError: nothing could be done.
        ThinsliceError: as `thinslice.commands.batch.run_batch`.
    """
    from thinslice.commands.batch import run_batch
    from thinslice.errors import InputError, PartlyDoneError

    rows: list[str] = []
    try:
        with console.work() as work:
            summary = run_batch(job, notify=console.note, begins=work.begin, phase=work.phase, finished=rows.append)
    except KeyboardInterrupt:
        console.note(f"interrupted after {len(rows)} series; the same command continues")
        raise
    if not summary.series and not summary.unreadable:
        raise InputError(f"There is no CT series below {str(job.folder)!r}; name the folder that holds the studies.")
    table = job.out / "summary.csv"
    if not console.quiet:
        print(f"series       {summary.line()}")
        print(f"took         {duration(summary.seconds)}")
        print(f"output       {job.out}")
        print(f"summary      {table}")
        print(summary.notice)
    bad = summary.counts["refused"] + summary.counts["failed"]
    if summary.exit_code == PartlyDoneError.exit_code and bad == 0:
        raise PartlyDoneError(
            f"{summary.unreadable} damaged or closed file(s) belong to no known series, so that a series may be "
            "missing; 'thinslice inspect' names them. All series that were found are done or skipped."
        )
    if summary.exit_code == PartlyDoneError.exit_code:
        raise PartlyDoneError(f"{bad} series could not be upscaled; {str(table)!r} holds the reason of each.")
    if summary.exit_code != 0:
        raise InputError(
            f"No CT series below {str(job.folder)!r} could be upscaled; {str(table)!r} holds the reason of each, and "
            "'thinslice inspect' lists what is there."
        )
