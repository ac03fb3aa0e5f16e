"""Commands `archive scan`, `plan`, `run`, `work`, `status`, `report` and `export`: a whole archive."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thinslice.cli import options
from thinslice.cli.console import LINE_EVERY_S, Console, duration, hush_libraries

if TYPE_CHECKING:
    from thinslice.archive.place import ArchivePlace
    from thinslice.archive.run import RunState

    Watch = Callable[[RunState], None]

DEFAULT_INDEX = Path("thinslice-archive")

Index = Annotated[
    Path,
    typer.Option(
        "--index",
        metavar="DIR",
        help="Folder of the index: catalogue, plan and queue. On a local disk; its owner alone may read it.",
    ),
]
Processes = Annotated[int | None, typer.Option(metavar="N", min=1, help="Processes; one for each core unless set.")]
Threads = Annotated[int, typer.Option(metavar="N", min=1, help="CPU threads of each process.")]
Scratch = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Local folder for files of s3:// places; a temporary one unless set."),
]
ScratchGib = Annotated[
    float, typer.Option("--scratch-limit", metavar="GIB", min=0.001, help="Scratch space of each process.")
]
KeepFree = Annotated[
    float, typer.Option("--keep-free", metavar="GIB", min=0, help="Space that stays free on the disk of the outputs.")
]


def scan(
    root: Annotated[
        str, typer.Argument(metavar="ROOT", show_default=False, help="Folder of the archive, or s3://BUCKET/PREFIX.")
    ],
    index: Index = DEFAULT_INDEX,
    processes: Processes = None,
    quiet: options.Quiet = False,
) -> None:
    """Index the headers of an archive: its patients, studies and series, and what can be upscaled.

    Headers alone are read, never pixels, by several processes. Nothing in the archive is changed. A scan that was
    interrupted or killed continues where it was, and a second one opens only files that are new or have changed (size,
    time, inode). Damaged files, unreadable folders and links are noted with their reason.

    The catalogue holds names of folders and files, UIDs, and what 'thinslice inspect' shows; patients are digests. Its
    owner alone may read it.

    \b
    thinslice archive scan /data/ct
    thinslice archive scan /data/ct --index /var/ct-index --processes 8
    thinslice archive scan s3://scans/ct
    """
    from thinslice.archive.scan import run_scan

    hush_libraries()
    console = Console(quiet=quiet)
    summary = run_scan(root, _place(index), processes=processes, notify=console.note)
    totals = summary.totals
    if quiet or totals is None:
        return
    print(f"folders      {totals.folders:,}, {summary.unchanged:,} unchanged, {totals.closed:,} that cannot be read")
    print(f"files        {totals.files:,}, {summary.files:,} read now, {totals.left_out:,} that belong to no series")
    print(f"patients     {totals.patients:,} with {totals.studies:,} studies")
    print(f"series       {totals.series:,}, {totals.fit:,} of them can be upscaled to 1 mm")
    print(f"took         {duration(summary.seconds)}")
    print(f"index        {index}")


def plan(
    out: Annotated[
        str,
        typer.Argument(metavar="OUT", show_default=False, help="Folder of the thin series, or s3://BUCKET/PREFIX."),
    ],
    index: Index = DEFAULT_INDEX,
    rules: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Which series, and how. Unless set: all that can be upscaled."),
    ] = None,
    device: options.Device = "auto",
    backend: options.Backend = options.BackendName.AUTO,
    processes: Processes = None,
    threads: Threads = 1,
    overwrite: options.Overwrite = False,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure/--no-measure",
            help="Upscale one series for the estimate where no rates of an earlier run are known.",
        ),
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Choose series by rules, queue them, and estimate time, disk and memory.

    The first rule of the file that fits a series decides; a series that no rule fits is left out. Rules may ask for
    slices, thickness_mm, spacing_mm, kernel, body_part, description, station, manufacturer and scanner. Planning again
    changes what is queued; what is done stays. Times come from rates that were measured: in an earlier run, or now on
    one series, as is stated.

    \b
    thinslice archive plan thin/
    thinslice archive plan thin/ --rules chest.toml
    """
    import json

    from thinslice.archive.plan import PlanOptions, run_plan
    from thinslice.archive.plan_file import plan_values
    from thinslice.archive.report import estimate_lines
    from thinslice.recipes.series_rules import EVERYTHING, read_series_rules
    from thinslice.system.cores import sensible_threads

    hush_libraries()
    console = Console(quiet=quiet)
    chosen = PlanOptions(
        out=out,
        rules=EVERYTHING if rules is None else read_series_rules(rules),
        overwrite=overwrite,
        device=device,
        backend=backend.value,
        threads=threads,
        measure=measure,
    )
    made = run_plan(_place(index), chosen, notify=console.note)
    values = plan_values(made)
    if as_json:
        print(json.dumps(values, indent=2))
        return
    if quiet:
        return
    for name, count in made.chosen.items():
        print(f"{name:12} {count:,} series")
    for reason, count in made.left_out.items():
        print(f"left out     {count:,} series: {reason}")
    count = processes or max(1, sensible_threads() // threads)
    for name, text in estimate_lines(values["estimate"], count):
        print(f"{name:12} {text}")
    print(f"output       {out}")
    print(made.notice)


def run(
    index: Index = DEFAULT_INDEX,
    processes: Processes = None,
    threads: Threads = 1,
    keep_free: KeepFree = 1.0,
    scratch: Scratch = None,
    scratch_limit: ScratchGib = 20.0,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Work on a Ray cluster: HOST:PORT of its head, or 'auto' for the one that this machine is part of.",
        ),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Work on the plan with a pool of processes until every series is done or set aside.

    Each process reads the next series while the network is at work on one. Each result appears once, whole, under its
    final name, whatever is killed; the same command continues. A series that fails is tried again with growing waits,
    and set aside with its reason in the end. The work stops before the disk of the outputs is full.

    With --cluster the processes run on the nodes of a Ray cluster, one for every --threads CPUs and one for each GPU,
    at most --processes of them. Files of the archive and of the outputs lie on a file system that all nodes share, or
    in a store; catalogue and queue stay on this machine, which is a node too.

    \b
    thinslice archive run
    thinslice archive run --processes 4 --threads 2
    thinslice archive run --cluster auto --threads 4
    """
    from thinslice.archive.run import run_plan_locally
    from thinslice.archive.worker import WorkerOptions
    from thinslice.errors import PartlyDoneError

    hush_libraries()
    console = Console(quiet=quiet)
    try:
        with _watching(console) as watch:
            each = WorkerOptions(threads, 1024 * keep_free, scratch, 1024 * scratch_limit)
            if cluster is None:
                state = run_plan_locally(_place(index), processes=processes, options=each, watch=watch)
            else:
                from thinslice.archive.cluster.driver import run_plan_on_cluster

                state = run_plan_on_cluster(_place(index), cluster, workers=processes, options=each, watch=watch)
    except KeyboardInterrupt:
        console.note("interrupted; the same command continues")
        raise
    if not quiet:
        from thinslice.about import NOTICE

        print(f"series       {state.done:,} done, {state.failed:,} set aside")
        print(f"took         {duration(state.seconds)}")
        print(NOTICE)
    if state.failed:
        raise PartlyDoneError(
            f"{state.failed} series were set aside; 'thinslice archive status' and 'report' hold the reason of each."
        )


def work(
    index: Index = DEFAULT_INDEX,
    threads: Annotated[int | None, typer.Option(metavar="N", min=1, help="CPU threads; all cores unless set.")] = None,
    keep_free: KeepFree = 1.0,
    scratch: Scratch = None,
    scratch_limit: ScratchGib = 20.0,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the worker; one at a time has it. Made unless set.")
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Join the work on a plan as one more worker, until nothing is queued.

    Started by hand or by a batch system such as Slurm: all workers share one queue, and no series is done twice. The
    index lies on a local disk, so workers run on the machine that holds it.

    \b
    thinslice archive work --threads 2
    srun --ntasks=4 thinslice archive work --index /local/index --threads 4
    """
    from thinslice.archive.run import join_plan
    from thinslice.archive.worker import WorkerOptions

    hush_libraries()
    chosen = WorkerOptions(threads, 1024 * keep_free, scratch, 1024 * scratch_limit)
    taken = join_plan(_place(index), options=chosen, name=name)
    if not quiet:
        print(f"series       {taken:,} taken by this worker; nothing is queued any more")


def status(
    index: Index = DEFAULT_INDEX,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how far an archive is: catalogue, plan, jobs, and what was set aside.

    \b
    thinslice archive status
    thinslice archive status --json

    JSON: schema, thinslice_version, notice, catalogue (counts, left_out_by_reason), plan (rules, chosen, left_out,
    estimate), jobs (queued, running, done, failed), at_work (series_uid, worker, phase, share, seconds) and set_aside
    (series_uid, rule, reason, exit_code, failures, losses). Nothing in it names a patient, a folder or a file.
    """
    import json

    from thinslice.archive.status import status_of

    values = status_of(_place(index))
    if as_json:
        print(json.dumps(values, indent=2))
        return
    totals: dict[str, Any] = values["catalogue"]
    complete = "" if totals["complete"] else " (the scan is not complete)"
    print(
        f"catalogue    {totals['files']:,} files, {totals['series']:,} series, "
        f"{totals['fit']:,} can be upscaled{complete}"
    )
    if values["jobs"] is None:
        print("plan         none yet; 'thinslice archive plan OUT' makes one")
        return
    print("jobs         " + ", ".join(f"{count:,} {state}" for state, count in values["jobs"].items()))
    for job in values["at_work"]:
        print(
            f"at work      {job['series_uid']}: {job['phase'] or 'beginning'} {100 * job['share']:.0f} % "
            f"({job['worker']})"
        )
    for job in values["set_aside"]:
        print(f"set aside    {job['series_uid']}: {job['reason']}")


def report(
    path: Annotated[
        Path, typer.Argument(metavar="FILE.html", show_default=False, help="Report to write: .html, .md or .json.")
    ],
    index: Index = DEFAULT_INDEX,
    overwrite: options.Overwrite = False,
) -> None:
    """Write a report: what the archive holds, what is planned and done, and why the rest is not.

    \b
    thinslice archive report archive.html
    """
    from thinslice.archive.report import write_report

    write_report(_place(index), path, overwrite=overwrite)
    print(f"report       {path}")


def export(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", show_default=False, help="Table to write: .csv, or .parquet by pyarrow.")
    ],
    index: Index = DEFAULT_INDEX,
    overwrite: options.Overwrite = False,
) -> None:
    """Write a table of all series with what became of each; it names no patient, folder or file.

    \b
    thinslice archive export series.csv
    thinslice archive export series.parquet
    """
    from thinslice.archive.export import export as export_table

    rows = export_table(_place(index), path, overwrite=overwrite)
    print(f"table        {path}, {rows:,} series")


def _place(index: Path) -> ArchivePlace:
    from thinslice.archive.place import ArchivePlace

    return ArchivePlace(index)


@contextmanager
def _watching(console: Console) -> Iterator[Watch | None]:
    """A callback for the state of a run: a bar on a terminal, plain lines elsewhere, None if quiet."""
    if console.quiet:
        yield None
    elif sys.stderr.isatty():
        with console.progress("series") as advance:
            yield lambda state: None if advance is None else advance(state.done + state.failed, state.total)
    else:
        yield _lines(console)


def _lines(console: Console) -> Watch:
    """A line when series have ended, at most one in `LINE_EVERY_S` seconds, and the last one."""
    printed_s, printed_ended = -LINE_EVERY_S, -1

    def watch(state: RunState) -> None:
        nonlocal printed_s, printed_ended
        now, ended = time.monotonic(), state.done + state.failed
        if ended == printed_ended or (now - printed_s < LINE_EVERY_S and state.left):
            return
        printed_s, printed_ended = now, ended
        left = f", about {duration(state.left_s)} left" if state.left_s is not None and state.left else ""
        aside = f", {state.failed} of them set aside" if state.failed else ""
        console.note(f"{ended} of {state.total} series{aside}{left}")

    return watch
