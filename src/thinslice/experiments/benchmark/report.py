"""Writes down what a suite has measured: tables, figures, one page that holds them all.

OUT/report.html                 everything, in one file
OUT/results.json                everything, for programs
OUT/cases.csv, table.csv, table.md
OUT/figures/*.png               each picture by itself
OUT/results/                    the store that a run goes on from
OUT/runs/                       training runs, unless the suite names another folder
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thinslice.about import NOTICE, __version__
from thinslice.errors import OutputError
from thinslice.evaluation.statistics import stars
from thinslice.experiments.benchmark import render
from thinslice.experiments.benchmark.case_runner import Failure
from thinslice.experiments.benchmark.methods import LoadedMethod
from thinslice.experiments.benchmark.result import SuiteResult
from thinslice.experiments.benchmark.table import caveats, clinical_rows, comparisons_of, rows_of
from thinslice.pictures import plots, region
from thinslice.system.atomic import atomic_file


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        name: of its file, without suffix.
        title: heading.
        text: what it shows, a sentence or two; also for those who cannot see it.
        png: the picture.
        dark: whether it has a dark ground.
    """

    name: str
    title: str
    text: str
    png: bytes
    dark: bool = False

    @property
    def base64(self) -> str:
        """For a page that holds its pictures."""
        return base64.b64encode(self.png).decode("ascii")


def write_outputs(result: SuiteResult, out: Path) -> None:
    """Write tables, figures and the report; what is there from an earlier run is replaced.

    Args:
        result: of `measure_suite`.
        out: folder, made when missing.

    Raises:
        OutputError, ResourceError: it cannot be written.
    """
    drawn = pictures(result)
    texts = {
        "table.md": render.to_markdown(result),
        "table.csv": render.table_csv(result),
        "cases.csv": render.cases_csv(result),
        "results.json": json.dumps(render.to_json(result), indent=1, allow_nan=False) + "\n",
        "report.html": to_html(result, drawn),
    }
    write_files(out, texts, drawn)


def write_files(out: Path, texts: Mapping[str, str], drawn: Sequence[Picture]) -> None:
    """Write texts by name, and pictures into the folder figures.

    Raises:
        OutputError, ResourceError: they cannot be written.
    """
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"Cannot make the folder {out.name!r}; choose another --out.") from error
    for picture in drawn:
        with atomic_file(out / "figures" / f"{picture.name}.png", overwrite=True) as part:
            part.write_bytes(picture.png)
    for name, text in texts.items():
        with atomic_file(out / name, overwrite=True) as part:
            part.write_text(text, encoding="utf-8")


def pictures(result: SuiteResult) -> list[Picture]:
    """All figures that the finished results allow, in the order of the report."""
    rows = [row for row in rows_of(result) if math.isfinite(row.psnr)]
    drawn: list[Picture] = []
    if rows:
        drawn += [_bars(result), _over_time(result)]
    scatter = _scatter(result)
    if scatter is not None:
        drawn.append(scatter)
    if result.shown is not None and result.shown.methods:
        drawn.append(region_picture(result))
    return drawn


def to_html(result: SuiteResult, drawn: list[Picture]) -> str:
    """One self-contained page: no script, nothing loaded from elsewhere, every value escaped."""
    rows = rows_of(result)
    theirs = render.published_of(rows)
    tests = comparisons_of(result)
    families = dict.fromkeys(test.family for test in tests)
    asked_clinical = "clinical" in result.suite.protocols
    return rendered(
        "benchmark.html.j2",
        title=result.suite.title or result.suite.name,
        protocol=result.protocol,
        dataset=result.dataset,
        cases=len(result.cases),
        heads=render.HEADS,
        rows=[render.cells(row) for row in rows],
        published=[render.published_cells(row) for row in theirs],
        sources=list(dict.fromkeys(row.source.text for row in theirs)),
        caveats=caveats(result),
        families=[
            (
                render.family_title(family),
                render.TEST_HEADS,
                [render.comparison_cells(test) for test in tests if test.family == family],
            )
            for family in families
        ],
        clinical=clinical_rows(result) if asked_clinical else None,
        failures=failure_cells(result.failures),
        provenance=render.provenance_of(result),
        methods=[method_cells(method) for method in result.methods],
        pictures=drawn,
    )


def rendered(template: str, **values: Any) -> str:
    """A page of `templates`, every value escaped; NOTICE and version are given to all."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("thinslice.experiments"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(notice=NOTICE, version=__version__, **values)


def failure_cells(failures: Sequence[Failure]) -> list[tuple[str, str, str]]:
    """What failed, on which case, and why."""
    return [(f.label or "all methods", f.case_id or "all cases", f.reason) for f in failures]


def method_cells(method: LoadedMethod) -> list[str]:
    """A method's row, network, weights and recipe by digest, and the weights' size."""
    adapted = f", adapted to each volume in {method.adapt_steps} steps" if method.adapt_steps else ""
    return [
        method.label,
        f"{method.name}{adapted}",
        method.weights_sha256 or "none",
        method.recipe_sha256 or "none",
        f"{method.weight_bytes / 2**20:.2f} MiB",
    ]


def _bars(result: SuiteResult) -> Picture:
    tests = comparisons_of(result)
    against = [test for test in tests if test.family == "others"]
    if against:
        # A suite may test several methods against the others; one star has one meaning.
        against = [test for test in against if test.tested == against[0].tested]
        starred = {(test.against, test.metric): stars(test.p) for test in against}
        note = f"* {against[0].tested} is better than this method, p < 0.001, one-sided Wilcoxon signed-rank test."
    else:
        starred = {(test.tested, test.metric): stars(test.p) for test in tests}
        note = "* better than the method to its left, p < 0.001, one-sided Wilcoxon signed-rank test."
    if not any(starred.values()):
        note = ""
    rows = [row for row in rows_of(result) if math.isfinite(row.psnr)]
    panels = {
        "psnr": [plots.Bar(row.label, row.psnr, row.psnr_sd, starred.get((row.label, "psnr"), "")) for row in rows],
        "ssim": [plots.Bar(row.label, row.ssim, row.ssim_sd, starred.get((row.label, "ssim"), "")) for row in rows],
    }
    text = "PSNR and SSIM of each method: mean over cases and one standard deviation."
    return Picture("bars", "PSNR and SSIM", text, plots.bars(panels, note=note))


def _over_time(result: SuiteResult) -> Picture:
    circles = [
        plots.Circle(row.label, row.seconds, row.psnr, row.parameters)
        for row in rows_of(result)
        if math.isfinite(row.psnr)
    ]
    text = "PSNR over seconds per volume; the area of a circle is the number of parameters, a cross has none."
    png = plots.score_over_time(circles, device=result.device_name)
    return Picture("psnr-over-time", "PSNR over time", text, png)


def _scatter(result: SuiteResult) -> Picture | None:
    labels = [method.label for method in result.methods if result.of(method.label)]
    reference = result.suite.figures.scatter or (labels[-1] if labels else "")
    ours = result.scores(reference, "psnr") if reference in labels else {}
    scores = {}
    for label in labels:
        theirs = result.scores(label, "psnr")
        pairs = [(theirs[case], ours[case]) for case in theirs if case in ours]
        if label != reference and any(math.isfinite(a) and math.isfinite(b) for a, b in pairs):
            scores[label] = pairs
    if not scores:
        return None
    text = f"PSNR of {reference} upwards and of each other method across, one point per case."
    return Picture("case-by-case", "Case by case", text, plots.case_scatter(reference, scores))


def region_picture(result: SuiteResult) -> Picture:
    """Fig. 4: the suite's region by every method it shows; `result.shown` must be there."""
    shown = result.shown
    assert shown is not None
    box = zip(("slices", "rows", "columns"), shown.region.start, shown.region.stop, strict=True)
    where = ", ".join(f"{name} {start} to {stop - 1}" for name, start, stop in box)
    methods = {m.label: shown.methods[m.label] for m in result.methods if m.label in shown.methods}
    png = region.region_figure(
        {region.THICK: shown.thick, **methods},
        shown.truth,
        shown.grid,
        rows=result.suite.figures.rows,
        caption=f"case {shown.case_id}, thin {where}",
    )
    text = "Three views of one region, each with its absolute error below; the truth is at the right."
    return Picture("region", "The same region for every method", text, png, dark=True)
