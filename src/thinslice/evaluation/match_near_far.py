"""Similarity of thick and thin slices at the same position, 1 mm and 2 mm away: the paper's Fig. 1.

A thick slice k is compared with thin slice factor * k (Match), with its neighbours (Near) and with theirs (Far). In a
data set whose pairs are aligned, Match is the most similar; where Near or Far is, thick and thin slices are shifted.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.data.manifest import Case, Dataset, Pair, read_pair
from thinslice.errors import InputError, OutputExistsError, UsageError
from thinslice.evaluation.metrics import mean_squared_error, psnr_of, ssim_per_slice
from thinslice.evaluation.statistics import mean_and_sd
from thinslice.intensity import to_unit
from thinslice.options import option

CATEGORIES = {"Match": 0, "Near": 1, "Far": 2}
"""Distance of the compared slices in thin slices."""

PROTOCOL = (
    "thick slice k against thin factor * k (Match), +- 1 (Near), +- 2 (Far); clamped to [-1024, 2048] HU, range 1; "
    "PSNR over all pairs of slices of a case, SSIM the mean over them; mean and standard deviation (n - 1) over cases"
)
"""Definition of the numbers, as in the JSON."""

FILES = ("match-near-far.csv", "match-near-far.json", "match-near-far.png")
"""Files that `save` writes."""

JOBS = 2
"""Cases processed in parallel; each of the full release takes about 1 GB of memory."""


@dataclass(frozen=True)
class Similarity:
    """Similarity of the slices of one case at one distance.

    Attributes:
        case_id: of the case.
        split: of the case.
        category: of `CATEGORIES`.
        psnr: dB over all pairs of slices; infinite where they are identical.
        ssim: mean over pairs of slices.
        slice_pairs: their number.
    """

    case_id: str
    split: str
    category: str
    psnr: float
    ssim: float
    slice_pairs: int


@dataclass(frozen=True)
class Summary:
    """Mean and sample standard deviation over the cases of a split; see `Similarity`. None where there is none."""

    split: str
    category: str
    cases: int
    psnr: float
    psnr_sd: float | None
    ssim: float
    ssim_sd: float | None


@dataclass(frozen=True)
class Analysis:
    """Similarities of a data set.

    Attributes:
        name: the data set's.
        digest: of its content, `Dataset.digest`.
        similarities: by case and category.
        left_out: sentences on cases that could not be read.
    """

    name: str
    digest: str
    similarities: tuple[Similarity, ...]
    left_out: tuple[str, ...] = ()

    def summaries(self) -> tuple[Summary, ...]:
        """By split and category, in the data set's order."""
        return tuple(self._summaries())

    def _summaries(self) -> Iterator[Summary]:
        for split in dict.fromkeys(row.split for row in self.similarities):
            for category in CATEGORIES:
                rows = [row for row in self.similarities if (row.split, row.category) == (split, category)]
                if rows:
                    yield Summary(
                        split,
                        category,
                        len(rows),
                        *mean_and_sd([row.psnr for row in rows]),
                        *mean_and_sd([row.ssim for row in rows]),
                    )

    def to_json(self) -> dict[str, Any]:
        """JSON values; an infinite PSNR (identical slices) is null."""
        return {
            "schema": "thinslice-dataset-analysis/1",
            "name": self.name,
            "digest": self.digest,
            "protocol": PROTOCOL,
            "splits": [_finite(vars(row)) for row in self.summaries()],
            "cases": [_finite(vars(row)) for row in self.similarities],
            "left_out": list(self.left_out),
        }


def analyse(
    dataset: Dataset,
    *,
    splits: Sequence[str] | None = None,
    jobs: int = JOBS,
    progress: Callable[[int, int], None] | None = None,
) -> Analysis:
    """Measure Match, Near and Far for every case.

    Cases that cannot be read are left out and named.

    Args:
        dataset: from `open_dataset`.
        splits: these alone; all by default.
        jobs: cases processed in parallel.
        progress: called with (cases done, cases in all).

    Raises:
        UsageError: no such split, or fewer than one job.
        InputError: no case can be read.
        ResourceError: the memory does not hold a case; lower `jobs`.

    Source: paper, section 2.1 (Dataset Analysis) and Fig. 1. It does not define how slices at the ends count: here
    every existing pair of slices counts.
    """
    if jobs < 1:
        raise UsageError(f"At least one case must be processed at a time, not {jobs}.")
    cases = dataset.cases if splits is None else tuple(c for name in splits for c in dataset.split(name))
    found: dict[int, tuple[Similarity, ...] | str] = {}
    with ThreadPoolExecutor(jobs) as pool:
        try:
            under_way = {pool.submit(_measure, case): index for index, case in enumerate(cases)}
            for done in as_completed(under_way):
                found[under_way[done]] = done.result()
                if progress is not None:
                    progress(len(found), len(cases))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    ordered = [found[index] for index in range(len(cases))]
    left_out = tuple(entry for entry in ordered if isinstance(entry, str))
    if len(left_out) == len(cases):
        raise InputError(f"No case could be read. {left_out[0]}")
    rows = tuple(row for entry in ordered if not isinstance(entry, str) for row in entry)
    return Analysis(dataset.name, dataset.digest, rows, left_out)


def similarities(pair: Pair, split: str = "") -> tuple[Similarity, ...]:
    """Match, Near and Far of one pair; a factor below 4 has no Far.

    >>> from thinslice.geometry import Geometry
    >>> from thinslice.volume import Volume
    >>> hu = np.arange(-1024, 11 * 256 - 1024).reshape(11, 16, 16).astype(np.int16)
    >>> thin = Volume(hu, Geometry((11, 16, 16), (1.0, 1.0, 1.0)))
    >>> thick = Volume(thin.hu[::5], Geometry((3, 16, 16), (5.0, 1.0, 1.0)))
    >>> [(row.category, round(row.psnr, 2), row.slice_pairs) for row in similarities(Pair("a", thick, thin, 5))]
    [('Match', inf, 3), ('Near', 21.58, 4), ('Far', 15.56, 4)]
    """
    thin_count = pair.thin.geometry.shape[0]
    found = []
    for category, distance in CATEGORIES.items():
        if distance > pair.factor // 2:
            continue
        errors: list[float] = []
        alike: list[float] = []
        for k in range(pair.thick.geometry.shape[0]):
            thick = _clamped(pair.thick.hu[k])
            for offset in {-distance, distance}:
                index = pair.factor * k + offset
                if 0 <= index < thin_count:
                    thin = _clamped(pair.thin.hu[index])
                    errors.append(mean_squared_error(thin, thick))
                    alike.extend(ssim_per_slice(thin, thick, data_range=1.0).tolist())
        # All slices have the same number of pixels, so the mean of their errors is that of all pixels.
        psnr = psnr_of(float(np.mean(errors)), data_range=1.0)
        found.append(Similarity(pair.case_id, split, category, psnr, float(np.mean(alike)), len(errors)))
    return tuple(found)


def figure(analysis: Analysis) -> bytes:
    """PSNR and SSIM by category and split, as bars with standard deviations: the paper's Fig. 1(b).

    Returns:
        PNG.
    """
    from thinslice.pictures.plots import Bar, paired_bars

    rows = analysis.summaries()
    splits = dict.fromkeys(row.split for row in rows)
    panels = {
        metric: {
            split: [
                Bar(row.category, getattr(row, metric), getattr(row, f"{metric}_sd"))
                for row in rows
                # Identical slices have an infinite PSNR, which no bar can show.
                if row.split == split and math.isfinite(getattr(row, metric))
            ]
            for split in splits
        }
        for metric in ("psnr", "ssim")
    }
    shown = {metric: {name: bars for name, bars in series.items() if bars} for metric, series in panels.items()}
    return paired_bars(
        {metric: series for metric, series in shown.items() if series},
        note="Thick slice k against thin slice 5 k (Match), 5 k +- 1 (Near), 5 k +- 2 (Far).",
    )


def table(analysis: Analysis) -> list[str]:
    """The summary as lines of text."""
    lines = [f"{'split':<10} {'slices':<6} {'cases':>5}   {'PSNR (dB)':<17} SSIM"]
    for row in analysis.summaries():
        psnr, ssim = _with_sd(row.psnr, row.psnr_sd, 3), _with_sd(row.ssim, row.ssim_sd, 4)
        lines.append(f"{row.split:<10} {row.category:<6} {row.cases:>5}   {psnr:<17} {ssim}")
    return lines


def refuse_existing(out: Path, *, overwrite: bool = False) -> None:
    """Refuse an output folder that holds results, before the work begins.

    Raises:
        OutputExistsError: one of the files is there and `overwrite` is False.
    """
    there = [name for name in FILES if (out / name).exists()]
    if there and not overwrite:
        raise OutputExistsError(
            f"{there[0]!r} exists; pass {option('overwrite', True)} to replace it, or choose another folder."
        )


def save(analysis: Analysis, out: Path, *, overwrite: bool = False) -> None:
    """Write the measurements by case (CSV), everything (JSON) and the figure (PNG) into a folder, made when missing.

    Raises:
        OutputExistsError: one of the files is there and `overwrite` is False; nothing was written.
        OutputError, ResourceError: the folder cannot be written.
    """
    from thinslice.system.atomic import atomic_file, output_errors

    out = Path(out)
    refuse_existing(out, overwrite=overwrite)
    with output_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    lines = io.StringIO()
    writer = csv.DictWriter(lines, fieldnames=list(Similarity.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(row) for row in analysis.similarities)
    contents = (
        lines.getvalue().encode(),
        (json.dumps(analysis.to_json(), indent=2) + "\n").encode(),
        figure(analysis),
    )
    for name, content in zip(FILES, contents, strict=True):
        with atomic_file(out / name, overwrite=overwrite) as partial:
            partial.write_bytes(content)


def _measure(case: Case) -> tuple[Similarity, ...] | str:
    """The similarities of a case, or the reason why it cannot be read."""
    try:
        return similarities(read_pair(case), case.split)
    except InputError as error:
        return str(error)


def _clamped(plane: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.clip(to_unit(plane), 0.0, 1.0)[None]


def _with_sd(mean: float, sd: float | None, digits: int) -> str:
    if not math.isfinite(mean):
        return "identical"
    return f"{mean:.{digits}f}" + ("" if sd is None else f" +- {sd:.{digits}f}")


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()}
