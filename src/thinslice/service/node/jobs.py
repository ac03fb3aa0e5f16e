"""Jobs of a node: a complete series is examined, upscaled by the first rule that fits, and sent to every target.

A job's key is what decides its result, and the next jobs are queued before a job is noted as done. So a node that is
killed anywhere goes on where it was, and no series is upscaled or sent twice.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.about import __version__
from thinslice.commands.inspect import SurveyedSeries
from thinslice.io.dicom.files.header import SliceHeader, quiet_pydicom, read_header
from thinslice.io.dicom.files.input_files import InputFile
from thinslice.io.dicom.files.values import text
from thinslice.queue import NewJob, RetryPolicy, job_key
from thinslice.recipes.series_rules import RunOptions, SeriesFacts, SeriesRule, first_fitting
from thinslice.service.jobs import weights_digest
from thinslice.service.node.folder import SERIES_FILE, SERIES_FOLDER
from thinslice.service.node.inbox import Inbox
from thinslice.service.node.settings import NodeSettings

if TYPE_CHECKING:
    from thinslice.commands.upscale import UpscaleJob

EXAMINE = "examine"
"""Kind of the jobs that examine a received series."""

UPSCALE = "upscale"
"""Kind of the jobs that upscale."""

_SEND = "send:"


def send_kind(target: str) -> str:
    """Kind of the jobs that send to a target: each has a worker of its own, so that one outage holds up no other.

    >>> send_kind("pacs")
    'send:pacs'
    """
    return _SEND + target


def is_send(kind: str) -> bool:
    """Whether jobs of a kind send."""
    return kind.startswith(_SEND)


def sending_policy(give_up_hours: float) -> RetryPolicy:
    """How often an outbox tries: at first after seconds, then every quarter of an hour.

    >>> policy = sending_policy(72)
    >>> 71 < sum(policy.wait_s(failures) for failures in range(1, policy.failures)) / 3600 < 73
    True
    """
    usual = RetryPolicy()
    failures, waited_s = 1, 0.0
    while waited_s < give_up_hours * 3600.0:
        waited_s += usual.wait_s(failures)
        failures += 1
    return replace(usual, failures=max(failures, usual.failures), losses=10_000)


def policy_of(kind: str, settings: NodeSettings) -> RetryPolicy:
    """How often a job of a kind is tried."""
    return sending_policy(settings.give_up_hours) if is_send(kind) else RetryPolicy()


def examinations(inbox: Inbox, study: str) -> list[NewJob]:
    """The jobs of a study that is complete: one for each series, so that a damaged one harms no other."""
    jobs = []
    for series in inbox.series_of(study):
        stamp = inbox.stamp(study, series)
        key = job_key(kind=EXAMINE, study=study, series=series, stamp=stamp)
        jobs.append(NewJob(EXAMINE, key, {"study": study, "series": series}))
    return jobs


def facts_of(surveyed: SurveyedSeries, files: Iterable[Path], caller: str) -> SeriesFacts:
    """What rules may ask of a received series.

    Args:
        surveyed: the series.
        files: its objects, of which the first that can be read gives the texts.
        caller: AE title of its sender.
    """
    texts: dict[str, str] = {}
    for path in files:
        with quiet_pydicom():
            header = read_header(InputFile(path, path.name))
            if isinstance(header, SliceHeader):
                keywords = {
                    "body_part": "BodyPartExamined",
                    "station": "StationName",
                    "manufacturer": "Manufacturer",
                    "scanner": "ManufacturerModelName",
                    "kernel": "ConvolutionKernel",
                    "description": "SeriesDescription",
                }
                texts = {name: text(header.dataset, keyword) for name, keyword in keywords.items()}
                break
    texts["kernel"] = surveyed.kernel or texts.get("kernel", "")
    return SeriesFacts(
        slices=surveyed.slices,
        thickness_mm=surveyed.thickness_mm,
        spacing_mm=None if surveyed.spacing_mm is None else surveyed.spacing_mm[0],
        calling_ae=caller,
        **texts,
    )


def chosen_rule(settings: NodeSettings, facts: SeriesFacts) -> SeriesRule | None:
    """The rule by which a series is upscaled; None where it is left out."""
    rule = first_fitting(settings.rules, facts)
    return rule if rule is not None and rule.take else None


def asks_for_more(run: RunOptions) -> bool:
    """Whether options ask for what an examination with usual options refuses: a remedy, or another distance."""
    return "resample" in (run.on_tilt, run.on_spacing) or run.factor is not None or run.spacing_mm is not None


def upscaling(
    surveyed: SurveyedSeries, rule: SeriesRule, *, study: str, series: str, content: str, targets: Iterable[str]
) -> NewJob:
    """The job that upscales a series.

    Args:
        surveyed: the series, or a part of it.
        rule: the rule that chose it.
        study, series: names of its folders.
        content: digest of its objects.
        targets: names of the targets.
    """
    run = rule.run.model_dump(mode="json")
    key = job_key(
        kind=UPSCALE,
        read=content,
        series=surveyed.series_uid,
        run=run,
        weights=weights_digest(rule.run.model),
        version=__version__,
    )
    spec = {
        "study": study,
        "series": series,
        "series_uid": surveyed.series_uid,
        "content": content,
        "rule": rule.name,
        "run": run,
        "targets": list(targets),
        "slices": surveyed.slices,
    }
    return NewJob(UPSCALE, key, spec, priority=rule.priority)


def upscale_command(spec: dict[str, Any], paths: tuple[Path, ...], place: Path, settings: NodeSettings) -> UpscaleJob:
    """The command of a job, as `thinslice upscale` would make it.

    Args:
        spec: of the job.
        paths: objects of the series.
        place: folder for everything that it makes.
        settings: of the node.
    """
    from thinslice.commands.upscale import UpscaleJob
    from thinslice.inference.settings import UpscaleSettings
    from thinslice.io.settings import ReadSettings

    run = RunOptions(**spec["run"])
    enhanced = run.format == "dicom-enhanced"
    return UpscaleJob(
        source=paths,
        output=place / (SERIES_FILE if enhanced else SERIES_FOLDER),
        output_format="dicom-enhanced" if enhanced else "dicom",
        settings=UpscaleSettings(
            model=run.model,
            factor=run.factor,
            spacing_mm=run.spacing_mm,
            plan=run.plan,
            intensity=run.intensity,
            texture=run.texture,
            texture_seed=run.texture_seed,
            device=settings.device,
            threads=settings.threads,
        ),
        reading=ReadSettings(series=spec["series_uid"], on_tilt=run.on_tilt, on_spacing=run.on_spacing),
        deidentify=run.deidentify,
    )


def sendings(key: str, spec: dict[str, Any]) -> list[NewJob]:
    """The jobs that send a finished series, one for each target."""
    return [
        NewJob(
            send_kind(target),
            job_key(kind="send", result=key, target=target),
            {"study": spec["study"], "result": key, "target": target},
        )
        for target in spec["targets"]
    ]
