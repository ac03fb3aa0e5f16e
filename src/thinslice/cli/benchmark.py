"""Commands `benchmark` and `leaderboard`: scores of methods on a data set, and a table of kept scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinslice.cli.console import Console, hush_libraries
from thinslice.cli.data_folder import data_folder

if TYPE_CHECKING:
    from thinslice.experiments.benchmark.case_runner import Failure


def benchmark(
    suite: Annotated[
        Path, typer.Argument(metavar="SUITE.toml", show_default=False, help="Suite: methods, cases, protocols.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Folder of the results; default: benchmarks/NAME.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FOLDER",
            help="Folder that holds the data sets; default: here, beside the suite, or THINSLICE_SHARED.",
        ),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="Device: auto, cpu, cuda, cuda:N or mps.")
    ] = "auto",
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="NUMBER", min=1, help="CPU threads; default: all cores.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="NUMBER", min=1, help="Score only the first NUMBER cases, to try a suite."),
    ] = None,
    leaderboard: Annotated[
        Path | None,
        typer.Option("--leaderboard", metavar="FILE.json", help="Add the rows to this file; created when missing."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the table and errors.")] = False,
) -> None:
    """Score methods on the cases of a data set: table, tests, figures, one report.

    A suite names a data set and split, protocols, and methods: catalog names, weights files, or training recipes whose
    network is trained first. A suite with degradations is a domain-gap experiment: each network is trained on paired
    thick slices and on each kind of simulated ones, and tested on real pairs.

    Each finished result is kept at once. After an interruption the same command continues and ends with the same
    scores. A method or case that fails is reported, the others continue, and the exit code is 8.

    \b
    thinslice benchmark suites/rplhr.toml --data /data
    thinslice benchmark suites/domain-gap.toml --data /data
    thinslice benchmark suites/mini.toml --limit 2 --out trial
    thinslice leaderboard leaderboard.json

    A data set is a folder in the released layout, or a folder with a manifest.csv (thinslice dataset build).
    """
    import sys

    from thinslice.experiments.benchmark import render
    from thinslice.experiments.benchmark.leaderboard import add_to_leaderboard
    from thinslice.experiments.benchmark.run import run_suite
    from thinslice.experiments.benchmark.table import caveats, rows_of
    from thinslice.experiments.domain_gap import report
    from thinslice.experiments.domain_gap.run import run_gap
    from thinslice.experiments.domain_gap.table import gap_caveats, gap_rows
    from thinslice.recipes import GapSuite, read_any_suite

    hush_libraries()
    console = Console(quiet=quiet)
    chosen = read_any_suite(suite)
    if limit is not None:
        chosen = chosen.model_copy(update={"limit": limit})
    folder = out or Path("benchmarks") / chosen.name
    data = data_folder(data, [chosen.dataset.root], suite.parent)
    with console.progress(chosen.name) as progress:
        if isinstance(chosen, GapSuite):
            gap = run_gap(
                chosen, folder, data_root=data, device=device, threads=threads, progress=progress, notify=console.note
            )
            results, failures = gap.sets, gap.failures
        else:
            result = run_suite(
                chosen, folder, data_root=data, device=device, threads=threads, progress=progress, notify=console.note
            )
            results, failures = (result,), result.failures
    for one in results:
        if leaderboard is not None:
            add_to_leaderboard(leaderboard, one, data_root=data)
        if isinstance(chosen, GapSuite):
            lines = [report.HEADS, *map(report.cells, gap_rows(chosen, one))]
            sentences = gap_caveats(chosen, one)
        else:
            lines = [render.HEADS, *map(render.cells, rows_of(one))]
            sentences = caveats(one)
        if len(results) > 1:
            print(f"{one.dataset}, {one.suite.dataset.split or 'all'}")
        print("\n".join(_aligned(lines)))
        sys.stdout.flush()
        for sentence in sentences:
            console.warn(sentence)
    console.note(f"report: {folder / 'report.html'}")
    _raise_for(failures)


def _raise_for(failures: Sequence[Failure]) -> None:
    """Raise an error that names the first failure, if there are any.

    Raises:
        PartlyDoneError: when there are failures; mend them and run the command again.
    """
    from thinslice.errors import PartlyDoneError

    if failures:
        first = failures[0]
        at = " on case ".join(part for part in (first.label, first.case_id) if part)
        raise PartlyDoneError(
            f"{len(failures)} of the suite's methods or results failed, the first: {at}: {first.reason} The rest is "
            "complete; correct this and run the same command again."
        )


def leaderboard(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.json", show_default=False, help="Leaderboard that benchmark wrote.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the state of each row.")] = False,
) -> None:
    """Show a leaderboard: rows by data and protocol, the best PSNR first.

    Each row is compared with the files on disk: STALE where its data, weights or recipe have changed since, UNCHECKED
    where they cannot be found. Only rows under one heading may be compared.

    \b
    thinslice benchmark suites/mini.toml --leaderboard leaderboard.json
    thinslice leaderboard leaderboard.json
    """
    import json

    from thinslice.experiments.benchmark.leaderboard import read_leaderboard, rendering_warning, standing, to_markdown

    board, folder = read_leaderboard(file), file.resolve().parent
    warning = rendering_warning(file)
    if warning is not None:
        Console().warn(warning)
    if as_json:
        values = board.model_dump(mode="json", by_alias=True)
        seen: dict[str, str] = {}
        for row, entry in zip(values["rows"], board.rows, strict=True):
            now = standing(entry, folder, seen=seen)
            row["state"], row["why"] = now.status, list(now.why)
        print(json.dumps(values, indent=2))
        return
    print(to_markdown(board, folder), end="")


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells, each column as wide as its widest cell.

    >>> _aligned([("method", "PSNR"), ("a", "33.100")])
    ['method  PSNR', 'a       33.100']
    """
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
