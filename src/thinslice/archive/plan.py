"""The plan of an archive: series chosen by rules become jobs of the queue, with what they will take."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from thinslice.archive.catalogue import SERIES_QUERY, Catalogue
from thinslice.archive.place import ArchivePlace, private_file
from thinslice.archive.plan_file import KIND, Estimate, PlanFile, settings_of, write_plan
from thinslice.archive.rates import MIB, MILLION, Rates, RatesFile, Sample, rates_key, rates_of
from thinslice.archive.storage.scratch import fetch
from thinslice.archive.storage.store import ObjectStore, checked_url, is_store
from thinslice.archive.storage.task import SeriesTask
from thinslice.errors import InputError, ThinsliceError, UsageError
from thinslice.geometry import Geometry
from thinslice.planning import eligibility
from thinslice.queue import NewJob, Queue, job_key
from thinslice.recipes.series_rules import EVERYTHING, SeriesFacts, SeriesRule, SeriesRules, first_fitting
from thinslice.typing import Notify

QUEUED_AT_ONCE = 1000
"""Jobs in one transaction."""

MOST_MEASURED = 5
"""Series that are tried, in turn, for a measurement, until one can be upscaled."""

HEADER_BYTES = 3000
"""Bytes of a thin slice's header on the disk."""


@dataclass(frozen=True)
class PlanOptions:
    """Options of a plan.

    Attributes:
        out: folder of the outputs, or s3://BUCKET/PREFIX in a store of objects.
        rules: which series, and how.
        overwrite: replace outputs that an earlier run made with other settings, or from files that have changed.
        device: where networks run.
        backend: library that runs them.
        threads: CPU threads of a process, for the estimate.
        measure: whether one series is upscaled for the estimate where no rates are known.
        retry_first_s: time before the second attempt of a job that failed.
    """

    out: Path | str
    rules: SeriesRules = EVERYTHING
    overwrite: bool = False
    device: str = "auto"
    backend: str = "auto"
    threads: int = 1
    measure: bool = True
    retry_first_s: float = 5.0


@dataclass(frozen=True)
class Chosen:
    """A series that a plan takes.

    Attributes:
        row: of the catalogue (`SERIES_QUERY`).
        rule: that takes it.
        factor: thin slices per thick interval.
    """

    row: sqlite3.Row
    rule: SeriesRule
    factor: int

    @property
    def thick_mvoxels(self) -> float:
        """Voxels of the thick series, in millions."""
        depth, height, width = (self.row[name] or 0 for name in ("slices", "height", "width"))
        return float(depth * height * width) / MILLION

    @property
    def thin_slices(self) -> int:
        """Slices of the thin series."""
        return int((self.row["slices"] - 1) * self.factor + 1)

    @property
    def thin_mvoxels(self) -> float:
        """Voxels of the thin series, in millions."""
        return self.thick_mvoxels / int(self.row["slices"]) * self.thin_slices

    @property
    def disk_mib(self) -> float:
        """Bytes of the thin series without compression, in MiB."""
        return (2 * self.thin_mvoxels * MILLION + HEADER_BYTES * self.thin_slices) / MIB


@dataclass
class _Tally:
    """Sums over the series that a plan takes."""

    chosen: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    read_mib: float = 0.0
    thin_mvoxels: float = 0.0
    disk_mib: float = 0.0
    largest: float = 0.0
    examples: list[Chosen] = field(default_factory=list)

    def add(self, chosen: Chosen) -> None:
        self.chosen[chosen.rule.name] += 1
        self.read_mib += chosen.row["bytes"] / MIB
        self.thin_mvoxels += chosen.thin_mvoxels
        self.disk_mib += chosen.disk_mib
        self.largest = max(self.largest, chosen.thick_mvoxels)
        # A sample that thins out as the series go on, spread over all of them.
        total = self.chosen.total()
        if total & (total - 1) == 0 or len(self.examples) < 32:
            self.examples.append(chosen)


def facts_of(row: sqlite3.Row) -> SeriesFacts:
    """What rules may ask of a series of the catalogue."""
    return SeriesFacts(
        slices=row["slices"],
        thickness_mm=row["thickness_mm"],
        spacing_mm=row["spacing_mm"],
        body_part=row["body_part"],
        kernel=row["kernel"],
        description=row["description"],
        station=row["station"],
        manufacturer=row["manufacturer"],
        scanner=row["scanner"],
    )


def choose(row: sqlite3.Row, rules: Iterable[SeriesRule]) -> Chosen | str:
    """A series with the rule that takes it, or why the plan leaves it out.

    What can be upscaled is what `thinslice upscale --all` takes: CT of several slices that is not thin already, and
    that thinslice did not make.
    """
    if row["derived"]:
        return "made by thinslice"
    if not row["kind"].endswith("CT"):
        return "not a CT volume"
    rule = first_fitting(rules, facts_of(row))
    if rule is None:
        return "no rule fits"
    if not rule.take:
        return f"left out by the rule {rule.name}"
    target_mm = 1.0 if rule.run.spacing_mm is None else rule.run.spacing_mm
    if not row["readable"]:
        if row["slices"] == 1:
            return "one slice"
        asked = {"tilt": rule.run.on_tilt, "spacing": rule.run.on_spacing}
        needed = [name for name in row["mended_by"].split(",") if name]
        if not needed or any(asked[name] != "resample" for name in needed):
            return "faults of the series; the report lists them"
        factor = rule.run.factor or max(2, min(8, round((row["spacing_mm"] or target_mm) / target_mm)))
        return Chosen(row, rule, factor)
    verdict = eligibility(_geometry(row), factor=rule.run.factor, spacing_mm=target_mm)
    if verdict.factor is None:
        text = " ".join(verdict.reasons)
        return "already thin" if "already thin" in text else "one slice" if row["slices"] == 1 else "too thick"
    return Chosen(row, rule, verdict.factor)


def run_plan(
    place: ArchivePlace, options: PlanOptions, *, notify: Notify | None = None, now_measured: bool = True
) -> PlanFile:
    """Choose series, queue them as jobs, and estimate what they will take.

    Series that an earlier plan queued and this one leaves out are taken from the queue; what is done stays.

    Args:
        place: the index, which was scanned.
        options: rules and places.
        notify: called with plain lines.
        now_measured: whether a measurement may be made at all.

    Raises:
        UsageError: no index, or options of a rule that no run can have.
        UnreachableError: the store of the outputs does not answer.
        ModelError: a network that does not exist.
        OutputError: the outputs would lie in a place that cannot be written.
    """
    tell = notify or (lambda line: None)
    place.require()
    weights = {rule.name: _weights_digest(rule) for rule in options.rules.rules if rule.take}
    for rule in options.rules.rules:
        settings_of(rule.run, device=options.device, backend=options.backend)
    out = _checked_out(options.out)
    with Catalogue(place.catalogue) as catalogue:
        if f"{catalogue.root}/".startswith(f"{out.rstrip('/')}/"):
            raise UsageError(f"{str(options.out)!r} holds the archive; choose another output folder.")
        if not catalogue.get("complete"):
            tell("warning: the last scan was not complete; run 'thinslice archive scan' again to find every series")
        tally, keys = _Tally(), []
        private_file(place.queue)
        with Queue(place.queue) as queue:
            batch: list[NewJob] = []
            for row in catalogue.rows(f"{SERIES_QUERY} ORDER BY study.id, collection.id"):
                chosen = choose(row, options.rules.rules)
                if isinstance(chosen, str):
                    tally.left_out[chosen] += 1
                    continue
                tally.add(chosen)
                new = _job(catalogue, chosen, out, weights[chosen.rule.name])
                keys.append(new.key)
                batch.append(new)
                if len(batch) >= QUEUED_AT_ONCE:
                    queue.submit_all(batch)
                    batch.clear()
                    tell(f"{len(keys)} series planned")
            queue.submit_all(batch)
            queue.retain(KIND, keys)
        with catalogue.writing():
            catalogue.put("out", os.fsencode(out))
        rates = _rates(place, catalogue, options, tally, tell) if now_measured else None
        plan = PlanFile(
            out=out,
            rules=options.rules.rules,
            overwrite=options.overwrite,
            device=options.device,
            backend=options.backend,
            chosen=dict(tally.chosen),
            left_out=dict(tally.left_out.most_common()),
            estimate=estimate(tally, rates),
            retry_first_s=options.retry_first_s,
        )
    write_plan(place, plan)
    return plan


def _checked_out(out: Path | str) -> str:
    """The place of the outputs, which can be used where it is a store."""
    if not is_store(out):
        return str(Path(out).resolve())
    url = checked_url(str(out))
    ObjectStore(url).require("write")
    return url


def estimate(tally: _Tally, rates: Rates | None) -> Estimate:
    """What the series of a plan will take, in one process."""
    series, seconds = tally.chosen.total(), None
    if rates is not None:
        each = rates.seconds(read_mib=0.0, thin_mvoxels=0.0)
        seconds = rates.seconds(read_mib=tally.read_mib, thin_mvoxels=tally.thin_mvoxels) + (series - 1) * each
    return Estimate(
        series=series,
        read_mib=round(tally.read_mib, 3),
        thin_mvoxels=round(tally.thin_mvoxels, 3),
        disk_mib=round(tally.disk_mib, 3),
        rates=rates,
        seconds=seconds if series else 0.0,
        memory_mib=None if rates is None else rates.memory_mib(tally.largest),
        largest_thick_mvoxels=round(tally.largest, 3),
    )


def output_of(row: sqlite3.Row, form: str) -> PurePosixPath:
    """Place of a series' output below the folder of all outputs; as `upscale --all` names it."""
    number = "" if row["number"] is None else f"{row['number']}-"
    part = row["uid"].partition("#")[2]
    suffix = {"nifti": ".nii.gz", "dicom-enhanced": ".dcm"}.get(form, "")
    ending = f"-part-{part}" if part else ""
    return PurePosixPath(f"study-{row['study_name']}", f"series-{number}{row['series_name']}{ending}{suffix}")


def _job(catalogue: Catalogue, chosen: Chosen, out: str, weights: str | None) -> NewJob:
    row, rule = chosen.row, chosen.rule
    spec = {
        "collection": row["collection"],
        "series": row["uid"],
        "out": output_of(row, rule.run.format).as_posix(),
        "format": rule.run.format,
        "rule": rule.name,
        "read_mib": round(row["bytes"] / MIB, 4),
        "thick_mvoxels": round(chosen.thick_mvoxels, 6),
        "thin_mvoxels": round(chosen.thin_mvoxels, 6),
        "disk_mib": round(chosen.disk_mib, 3),
    }
    options = rule.run.model_dump(mode="json")
    read = SeriesTask.of(catalogue, spec).source().digest()
    key = job_key(kind=KIND, read=read, series=row["uid"], options=options, weights=weights, out=out)
    return NewJob(KIND, key, spec, priority=rule.priority)


def _geometry(row: sqlite3.Row) -> Geometry:
    in_plane = (row["row_mm"], row["column_mm"])
    return Geometry(
        (row["slices"], row["height"] or 1, row["width"] or 1),
        (row["spacing_mm"], *in_plane),
        thickness_mm=row["thickness_mm"],
    )


def _weights_digest(rule: SeriesRule) -> str | None:
    """SHA-256 of the weights that a rule's network has; None for one without, or from a plug-in."""
    from thinslice.models import catalog
    from thinslice.system.files import sha256_of

    entry = catalog.CATALOG.get(rule.run.model)
    if entry is not None:
        return None if entry.weights is None else catalog.embedded_sha256(catalog.weights_path(rule.run.model))
    if rule.run.model in catalog.names():
        return None
    return sha256_of(catalog.weights_of(rule.run.model))


def _rates(
    place: ArchivePlace, catalogue: Catalogue, options: PlanOptions, tally: _Tally, notify: Notify
) -> Rates | None:
    """Rates of the network that most series take: of earlier runs, or measured on a series of usual size."""
    if not tally.examples:
        return None
    name, _ = tally.chosen.most_common(1)[0]
    rule = next(rule for rule in options.rules.rules if rule.name == name)
    key = rates_key(rule.run.model, options.device, options.threads)
    kept = RatesFile(place.rates).get(key)
    if kept is not None or not options.measure:
        return kept
    examples = sorted((each for each in tally.examples if each.rule == rule), key=lambda each: each.thin_mvoxels)
    middle = len(examples) // 2
    for chosen in (examples[middle:] + examples[:middle][::-1])[:MOST_MEASURED]:
        notify(f"measuring: one series of {chosen.row['slices']} slices is upscaled, and the result removed")
        try:
            rates = rates_of([_measured(place, catalogue, options, chosen)], origin="measured now")
        except InputError:
            continue
        except ThinsliceError:
            return None
        if rates is not None:
            RatesFile(place.rates).put(key, rates)
        return rates
    return None


def _measured(place: ArchivePlace, catalogue: Catalogue, options: PlanOptions, chosen: Chosen) -> Sample:
    from dataclasses import replace

    from thinslice.commands.one_of_many import load_once
    from thinslice.commands.upscale import UpscaleJob, run_upscale

    spec = _job(catalogue, chosen, str(options.out), None).spec
    task = SeriesTask.of(catalogue, spec)
    run = chosen.rule.run
    settings, reading = settings_of(run, device=options.device, backend=options.backend, threads=options.threads)
    model = load_once(settings)
    with tempfile.TemporaryDirectory(dir=place.root, prefix="measuring-") as folder:
        paths = fetch(ObjectStore(task.root), task, Path(folder)) if task.is_stored else None
        source = task.source(paths)
        report = run_upscale(
            UpscaleJob(
                source=source.paths if len(source.paths) > 1 else source.paths[0],
                output=Path(folder) / PurePosixPath(spec["out"]).name,
                settings=settings,
                output_format=run.format,
                reading=replace(reading, series=spec["series"]),
            ),
            loaded=model,
        )
    return sample_of(spec, report)


def sample_of(spec: Any, report: Any) -> Sample:
    """What a series took, from its job and its report."""
    seconds = report.seconds
    return Sample(
        read_mib=spec["read_mib"],
        thin_mvoxels=max(1e-6, spec["thin_mvoxels"]),
        thick_mvoxels=max(1e-6, spec["thick_mvoxels"]),
        read_s=seconds.read,
        network_s=seconds.network,
        write_s=seconds.write,
        total_s=seconds.total,
        peak_mib=report.peak_memory_mib,
    )


def planned(queue: Queue) -> Iterator[dict[str, Any]]:
    """Jobs of the plan, as JSON values."""
    after = 0
    while True:
        jobs = queue.jobs(after=after, kind=KIND)
        if not jobs:
            return
        after = jobs[-1].id
        for job in jobs:
            yield {
                "series": job.spec["series"],
                "output": job.spec["out"],
                "rule": job.spec["rule"],
                "state": job.state.value,
                "failures": job.failures,
                "losses": job.losses,
                "reason": job.reason,
                "exit_code": job.exit_code,
                "result": job.result,
            }
