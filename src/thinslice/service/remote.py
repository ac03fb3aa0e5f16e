"""`thinslice upscale --server`: the same job, done by a server; its outputs are written here."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.commands.upscale import UpscaleJob, check_job
from thinslice.errors import OutputError, SeriesChoiceError, UsageError
from thinslice.io.dicom.series.choice import SeriesName, named
from thinslice.options import option
from thinslice.service.client import Client
from thinslice.service.jobs import READING_NAMES, SETTING_NAMES
from thinslice.service.schemas import JobView, SourceView
from thinslice.system.atomic import atomic_directory
from thinslice.typing import Notify, PhaseProgress

if TYPE_CHECKING:
    from thinslice.commands.run_report import RunReport

SPOOLED_BYTES = 64 << 20
"""Bytes of a downloaded zip that are kept in memory."""


def upscale_on_server(
    address: str, job: UpscaleJob, *, notify: Notify | None = None, phase: PhaseProgress | None = None
) -> RunReport:
    """Send the input of a job to a server, wait, and fetch the outputs; each appears whole or not at all.

    Args:
        address: as `thinslice serve` printed it.
        job: files and options, as for `run_upscale`.
        notify: called with one plain line.
        phase: called with the share that is sent, and the progress of the server.

    Raises:
        ThinsliceError: as `run_upscale`; or the server does not answer.
        UsageError: an option that a server does not take, or an output that it does not make.
    """
    from thinslice.commands.run_report import RunReport
    from thinslice.io.files import output_format

    check_job(job)
    settings = _settings(job)
    wanted = output_format(job.output, job.output_format)
    if wanted != "dicom" and not job.output.name.lower().endswith(".nii.gz"):
        raise UsageError("A server makes DICOM folders and .nii.gz; name such an output, or leave the server out.")
    if job.uncertainty is not None and not job.uncertainty.name.lower().endswith(".nii.gz"):
        raise UsageError(f"A server writes the uncertainty as .nii.gz; end the name for {option('uncertainty')} so.")
    with Client(address) as client:
        source = client.upload(job.sources, phase=phase)
        number = None if job.reading.series is None else series_number(source, job.reading.series)
        queued = client.submit(source, series=number, **settings)
        if notify is not None:
            notify(f"job {queued.id} of the server: {queued.series}")
        try:
            done = client.wait(queued, phase=phase)
        except KeyboardInterrupt:
            client.cancel(queued)
            raise
        name = "dicom.zip" if wanted == "dicom" else "thin.nii.gz"
        if name not in done.files:
            raise UsageError("A DICOM folder cannot be made from this source; name an output that ends in .nii.gz.")
        if wanted == "dicom":
            _fetch_folder(client, done, job.output, overwrite=job.overwrite)
        else:
            client.download(done, name, job.output, overwrite=job.overwrite)
        for path, fetched in (
            (job.uncertainty, "uncertainty.nii.gz"),
            (job.preview, "preview.png"),
            (job.view, "view.html"),
            (job.report, None if job.report is None else f"report{job.report.suffix.lower()}"),
        ):
            if path is not None and fetched is not None:
                client.download(done, fetched, path, overwrite=job.overwrite)
        return RunReport.model_validate(json.loads(b"".join(client.pieces(done, "report.json"))))


def series_number(source: SourceView, wanted: str) -> int:
    """Number of the series that `--series` names, by the rules of `thinslice.read`.

    Raises:
        SeriesChoiceError: none, or several.
    """
    names = [
        SeriesName(row["number"], row["series_uid"] or "", row.get("series_number"), row.get("description") or "")
        for row in source.series
    ]
    meant = named(names, wanted.strip())
    if len(meant) != 1:
        raise SeriesChoiceError(
            f"{option('series', wanted)} names {'several' if meant else 'none'} of the {len(names)} series; give a "
            "number that 'thinslice inspect' prints."
        )
    return int(source.series[meant[0]]["number"])


def _settings(job: UpscaleJob) -> dict[str, Any]:
    """Options for the server; those that concern this computer are refused."""
    own = {
        "profile": job.settings.profile is not None,
        "threads": job.settings.threads is not None,
        "force": job.settings.force,
        "labels": job.labels is not None,
        "format": job.output_format == "dicom-enhanced",
    }
    for name, is_set in own.items():
        if is_set:
            raise UsageError(f"{option(name)} is not for a server; leave it out.")
    if not isinstance(job.settings.model, str):
        raise UsageError("A server runs its own networks; name one of them.")
    return {
        **{name: getattr(job.settings, name) for name in SETTING_NAMES},
        **{name: getattr(job.reading, name) for name in READING_NAMES},
        "deidentify": job.deidentify,
    }


def _fetch_folder(client: Client, job: JobView, output: Path, *, overwrite: bool) -> None:
    """Write the files of a zip into a folder; of a name in the zip the last part alone is used."""
    import tempfile

    with tempfile.SpooledTemporaryFile(SPOOLED_BYTES) as packed:
        _copy(client.pieces(job, "dicom.zip"), packed)
        packed.seek(0)
        try:
            with zipfile.ZipFile(packed) as archive, atomic_directory(output, overwrite=overwrite) as folder:
                for member in archive.infolist():
                    if not member.is_dir():
                        with archive.open(member) as inside, (folder / Path(member.filename).name).open("wb") as file:
                            _copy(iter(lambda: inside.read(io.DEFAULT_BUFFER_SIZE * 16), b""), file)
        except zipfile.BadZipFile as error:
            raise OutputError("The download from the server is damaged; try again.") from error


def _copy(pieces: Iterator[bytes], target: Any) -> None:
    for piece in pieces:
        target.write(piece)
