"""thinslice benchmark and leaderboard: methods scored on cases, and scores kept with what they were made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thinslice.cli.console import Console, hush_libraries

if TYPE_CHECKING:
    from thinslice.experiments.benchmark.case_runner import Failure


def benchmark(
    suite: Annotated[
        Path, typer.Argument(metavar="SUITE.toml", show_default=False, help="Which methods, which cases, how.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the results; default benchmarks/NAME.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Folder that data sets start from; default the suite file's."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads; default all cores.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Score the first so many cases only, to try a suite.")
    ] = None,
    leaderboard: Annotated[
        Path | None,
        typer.Option("--leaderboard", metavar="FILE.json", help="Add the rows to this file; it is begun if missing."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Say nothing but the table and errors.")] = False,
) -> None:
    """Score methods on the cases of a data set: table, tests, figures, one report.

    A suite names a data set and split, protocols, and methods: catalog names, weights files, or training recipes whose
    network is trained first. A suite with degradations is a domain-gap experiment: every network is trained on paired
    thick slices and on each kind of simulated ones, and all are tested on real pairs.

    Every finished result is kept at once. Stop it at any time; the same command goes on and ends with the same scores.
    A method or case that fails is named, the rest goes on, and the exit code is 8.

    \b
    thinslice benchmark suites/rplhr.toml --data /data
    thinslice benchmark suites/domain-gap.toml --data /data
    thinslice benchmark suites/mini.toml --limit 2 --out trial
    thinslice leaderboard leaderboard.json

    Any data set serves (thinslice dataset build): a folder in the released layout, or one with a manifest.csv.
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
    _complain(failures)


def _complain(failures: Sequence[Failure]) -> None:
    """Name what failed, if anything, and leave with exit code 8.

    Raises:
        PartlyDoneError: there are failures.
    """
    from thinslice.errors import PartlyDoneError

    if failures:
        first = failures[0]
        at = " on case ".join(part for part in (first.label, first.case_id) if part)
        raise PartlyDoneError(
            f"{len(failures)} of the suite's methods or results failed, the first: {at}: {first.reason} The rest is "
            "complete; mend this and run the same command again."
        )


def leaderboard(
    file: Annotated[Path, typer.Argument(metavar="FILE.json", show_default=False, help="What benchmark has written.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the state of each row, instead.")] = False,
) -> None:
    """Show a leaderboard: rows by data and protocol, the best PSNR first.

    Each row is compared with what lies on disk: STALE where its data, weights or recipe have changed since, UNCHECKED
    where they are not to be found. Only rows under one heading may be compared.

    \b
    thinslice benchmark suites/mini.toml --leaderboard leaderboard.json
    thinslice leaderboard leaderboard.json
    """
    import json

    from thinslice.experiments.benchmark.leaderboard import read_leaderboard, standing, to_markdown

    board, folder = read_leaderboard(file), file.resolve().parent
    if as_json:
        told = board.model_dump(mode="json", by_alias=True)
        for row, entry in zip(told["rows"], board.rows, strict=True):
            now = standing(entry, folder)
            row["state"], row["why"] = now.status, list(now.why)
        print(json.dumps(told, indent=2))
        return
    print(to_markdown(board, folder), end="")


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell.

    >>> _aligned([("method", "PSNR"), ("a", "33.100")])
    ['method  PSNR', 'a       33.100']
    """
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
