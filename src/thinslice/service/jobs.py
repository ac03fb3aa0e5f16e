"""Upscaling jobs of the service: a request becomes a key and a spec, and a row becomes what clients see."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.about import __version__
from thinslice.errors import ModelError, NotEligibleError, SeriesChoiceError, UnreadableError, UsageError
from thinslice.queue import Job, NewJob, Queue, State, job_key
from thinslice.service.folder import REPORT, VOLUMES, DataFolder
from thinslice.service.schemas import JobList, JobRequest, JobView, ModelView, SourceView
from thinslice.service.share import VIEW, shared_file
from thinslice.service.sources import Sources

if TYPE_CHECKING:
    from thinslice.commands.upscale import UpscaleJob

UPSCALE = "upscale"
"""Kind of the jobs that upscale."""

FILES = ("dicom.zip", "thin.nii.gz", "uncertainty.nii.gz", "report.html", "report.json", "preview.png", VIEW)
"""Names under which clients fetch what a job made."""

DICOM_FOLDER = "dicom"
"""Folder of the thin series in a result."""

SETTING_NAMES = (
    *("model", "factor", "spacing_mm", "plan", "device", "backend", "intensity", "uncertainty"),
    *("texture", "texture_seed"),
)
"""Settings of a run that a request carries; those that are missing concern the computer of the run."""

READING_NAMES = ("axis", "on_tilt", "on_spacing")
"""Settings of reading that a request carries beside the series."""


class Jobs:
    """Jobs that upscale.

    Args:
        folder: places on the disk.
        queue: the queue.
        sources: what may be upscaled.
    """

    def __init__(self, folder: DataFolder, queue: Queue, sources: Sources) -> None:
        self._folder = folder
        self._queue = queue
        self._sources = sources

    def submit(self, request: JobRequest) -> JobView:
        """Queue a job; the same request again is the same job.

        Raises:
            UsageError: options that contradict each other, or a source that is not ready.
            SeriesChoiceError: several series can be upscaled, and the request names none.
            NotEligibleError: the series cannot be upscaled.
            ModelError: a network that this server does not offer.
        """
        source = self._sources.get(request.source)
        if source.state != "ready":
            raise UsageError("The source has not been inspected yet, or was refused.")
        series = chosen_series(source, request.series)
        check_request(request)
        settings = request.model_dump(mode="json", exclude={"source", "series"})
        digest = self._sources.digest(request.source)
        spec = {
            "source": request.source,
            "digest": digest,
            "series": {name: series.get(name) for name in ("number", "series_uid", "path", "kind", "spacing_mm")},
            "shown": series_text(series),
            "settings": settings,
        }
        key = job_key(
            kind=UPSCALE,
            read=digest,
            series=[series["series_uid"], series["path"]],
            settings=settings,
            weights=weights_digest(request.model),
            version=__version__,
        )
        return self.view(self._queue.submit(NewJob(UPSCALE, key, spec)))

    def get(self, job_id: int) -> Job:
        """The job of a number.

        Raises:
            UnreadableError: there is none.
        """
        job = self._queue.get(job_id)
        if job is None or job.kind != UPSCALE:
            raise UnreadableError("There is no such job; it may have been removed.")
        return job

    def all(self) -> JobList:
        """Every job."""
        revision = self._queue.revision()
        return JobList(
            revision=revision, jobs=tuple(self.view(job) for job in self._queue.jobs(most=100_000, kind=UPSCALE))
        )

    def view(self, job: Job) -> JobView:
        """What clients see of a job."""
        result = job.result or {}
        return JobView(
            id=job.id,
            source=job.spec["source"],
            series=job.spec["shown"],
            settings={name: value for name, value in job.spec["settings"].items() if value is not None},
            state=job.state.value,
            phase=job.phase,
            share=job.share,
            left_s=job.left_s,
            ahead=self._queue.ahead(job) if job.state is State.QUEUED else None,
            reason=job.reason,
            exit_code=job.exit_code,
            made_at_s=job.made_at_s,
            begun_at_s=job.begun_at_s,
            ended_at_s=job.ended_at_s,
            warnings=tuple(result.get("warnings", ())),
            consistency_rms_hu=result.get("consistency_rms_hu"),
            files=tuple(result.get("files", ())),
            volumes=job.state in (State.RUNNING, State.DONE) and self._folder.volumes(job.key).is_dir(),
            revision=job.revision,
        )

    def cancel(self, job_id: int) -> JobView:
        """Cancel a job; one in a final state stays as it is."""
        self.get(job_id)
        job = self._queue.cancel(job_id)
        return self.view(job or self.get(job_id))

    def remove(self, job_id: int) -> None:
        """Remove a finished job and its result.

        Raises:
            UsageError: it is queued or running.
        """
        if not self._folder.forget(self._queue, self.get(job_id)):
            raise UsageError("The job is queued or running; cancel it first.")

    def file(self, job_id: int, name: str) -> Path:
        """Place of a file that a job made; for dicom.zip, the folder to pack.

        Raises:
            UnreadableError: the job made no such file.
            OutputError: the file to share cannot be made.
        """
        job = self.get(job_id)
        if job.result is None or name not in job.result.get("files", ()):
            raise UnreadableError("The job has made no such file.")
        result = self._folder.result(job.key)
        if name == VIEW:
            return shared_file(result)
        return result / (DICOM_FOLDER if name == "dicom.zip" else name)


def offered_models() -> tuple[ModelView, ...]:
    """Networks that need no weights file."""
    from thinslice.models import catalog

    found = []
    for name in catalog.names():
        entry = catalog.CATALOG.get(name)
        if entry is None:
            found.append(ModelView(name=name, summary="from an installed plug-in"))
        elif not entry.learned or entry.weights is not None:
            found.append(ModelView(name=name, summary=entry.summary))
    return tuple(found)


def weights_digest(model: str) -> str | None:
    """SHA-256 of the embedded weights of a network; None for one without, or from a plug-in."""
    from thinslice.models import catalog

    entry = catalog.CATALOG.get(model)
    return None if entry is None or entry.weights is None else catalog.embedded_sha256(catalog.weights_path(model))


def chosen_series(source: SourceView, number: int | None) -> Mapping[str, Any]:
    """The series of a request among those of its source.

    Raises:
        SeriesChoiceError: several can be upscaled and none is named, or there is none of that number.
        NotEligibleError: it cannot be upscaled.
    """
    if number is None:
        fit = [series for series in source.series if series["eligible"] and not series["derived"]]
        if len(fit) != 1:
            raise SeriesChoiceError(f"{len(fit)} series of the source can be upscaled; name one by its number.")
        return fit[0]
    for series in source.series:
        if series["number"] == number:
            if series["kind"] == "unreadable":
                raise NotEligibleError(" ".join(series["reasons"]))
            return series
    raise SeriesChoiceError(f"The source has no series number {number}.")


def check_request(request: JobRequest) -> None:
    """Refuse options that no run can have.

    Raises:
        UsageError: the message lists what is valid.
        ModelError: a network that is not offered.
    """
    names = [model.name for model in offered_models()]
    if request.model not in names:
        raise ModelError(f"This server offers no network of that name; choose one of {', '.join(names)}.")
    _settings(request.model_dump())


def series_text(series: Mapping[str, Any]) -> str:
    """A series in a few words, without identity.

    >>> series_text({"number": 2, "kind": "CT", "slices": 64, "description": "LUNG", "kernel": "B60f"})
    'series 2: CT, LUNG, B60f, 64 slices'
    """
    words = (series["kind"], series.get("description"), series.get("kernel"), f"{series['slices']} slices")
    return f"series {series['number']}: " + ", ".join(word for word in words if word)


def upscale_job(spec: Mapping[str, Any], source: Path, place: Path, *, threads: int | None) -> UpscaleJob:
    """The command of a job, as `thinslice upscale` would make it.

    Args:
        spec: of the job.
        source: path of its source.
        place: folder for everything that it makes.
        threads: CPU threads.
    """
    from thinslice.commands.upscale import UpscaleJob
    from thinslice.io.settings import ReadSettings

    settings, series = spec["settings"], spec["series"]
    uid = series["series_uid"]
    read_from = source if uid is not None or source.is_file() else source / series["path"]
    nifti = place / "thin.nii.gz"
    may_be_nifti = series["spacing_mm"] is None or None not in series["spacing_mm"]
    return UpscaleJob(
        source=read_from,
        output=nifti if uid is None else place / DICOM_FOLDER,
        copies=(nifti,) if uid is not None and may_be_nifti else (),
        settings=_settings({**settings, "threads": threads}),
        reading=ReadSettings(series=uid, **{name: settings[name] for name in READING_NAMES}),
        preview=place / "preview.png",
        report=place / "report.html",
        uncertainty=None if settings["uncertainty"] is None else place / "uncertainty.nii.gz",
        deidentify=settings["deidentify"],
    )


def result_of(folder: Path) -> dict[str, Any] | None:
    """Result of a job for the queue, from its folder; None where the folder is not there."""
    try:
        report = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except OSError:
        return None
    kept_as = {"dicom.zip": DICOM_FOLDER, VIEW: VOLUMES}
    made = [name for name in FILES if (folder / kept_as.get(name, name)).exists()]
    return {
        "files": made,
        "warnings": report["warnings"],
        "consistency_rms_hu": report["consistency_rms_hu"],
    }


def _settings(values: Mapping[str, Any]) -> Any:
    from thinslice.inference.settings import UpscaleSettings

    return UpscaleSettings(threads=values.get("threads"), **{name: values[name] for name in SETTING_NAMES})
