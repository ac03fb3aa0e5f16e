"""One study end to end: read, upscale, write, draw, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from thinslice.commands.labels import check_labels, labels_path, read_labels, write_labels
from thinslice.commands.neutral_names import is_neutral
from thinslice.commands.outputs import check_distinct, check_order, check_place, check_sources
from thinslice.errors import OutputError, ResourceError, UsageError
from thinslice.io.settings import ReadSettings
from thinslice.options import option
from thinslice.typing import Notify, PhaseProgress, Progress

if TYPE_CHECKING:
    from thinslice.commands.check_report import CheckReport
    from thinslice.commands.run_report import RunReport
    from thinslice.geometry import Geometry
    from thinslice.inference.prepare import Prepared
    from thinslice.inference.settings import UpscaleSettings
    from thinslice.inference.upscale import Slab
    from thinslice.models.base import ThroughPlaneModel
    from thinslice.models.stored import Stored
    from thinslice.volume import Volume


Read = Callable[[ReadSettings], "Volume"]
"""Gives the volume of a source that was read before, wholly or its headers."""


@dataclass(frozen=True)
class UpscaleJob:
    """Files of an upscaling run, and its options.

    Attributes:
        source: a DICOM folder, file or zip, a NIfTI, NRRD or MetaImage file; or several files of one DICOM series.
        output: a file by its suffix; without one, a DICOM folder.
        settings: options of the run.
        output_format: value of --format; None for the format that the name of `output` implies.
        reading: which volume of `source`, and how faults of its grid are treated.
        preview: PNG to draw, or None.
        report: .json or .html to write, or None.
        uncertainty: NIfTI, NRRD or MetaImage file for the standard deviations, or None.
        view: HTML file with the viewer and both volumes, or None.
        labels: segmentation of the thick scan (NIfTI, NRRD or MetaImage) to bring onto the thin grid, or None. It is
            written beside `output` (`thinslice.commands.labels.labels_path`).
        copies: the same thin volume again, in other formats by their names.
        check: also check whether the network is any good on the scan (`thinslice.commands.check`), for the report.
        overwrite: replace outputs that exist.
        deidentify: leave the patient's identity out of DICOM outputs; other outputs never hold it.
    """

    source: Path | tuple[Path, ...]
    output: Path
    settings: UpscaleSettings
    output_format: str | None = None
    reading: ReadSettings = field(default_factory=ReadSettings)
    preview: Path | None = None
    report: Path | None = None
    uncertainty: Path | None = None
    view: Path | None = None
    labels: Path | None = None
    copies: tuple[Path, ...] = ()
    check: bool = False
    overwrite: bool = False
    deidentify: bool = False

    @property
    def sources(self) -> tuple[Path, ...]:
        """The paths of the input."""
        return (self.source,) if isinstance(self.source, Path) else self.source

    @property
    def side_files(self) -> tuple[Path, ...]:
        """The outputs beside `output`."""
        labels = None if self.labels is None else labels_path(self.output)
        return tuple(
            path for path in (self.preview, self.report, self.uncertainty, self.view, labels, *self.copies) if path
        )

    def withdraw(self) -> None:
        """Remove the side files of an earlier run that are to be overwritten.

        Outputs take their names one after the other, so a run that is killed in between would leave an older report
        or picture beside the new volume; an absent one deceives nobody.
        """
        for path in self.side_files:
            if self.overwrite and path.is_file():
                path.unlink(missing_ok=True)


class Watcher(Protocol):
    """Receives the volumes of a run as they come, beside the writers: for a picture of work in progress."""

    def begin(self, thick: Volume, thin: Geometry) -> None:
        """Take the thick volume, and the grid of the thin one, before the first slab."""
        ...

    def add(self, slab: Slab) -> None:
        """Take the next finished slices; they must not be changed."""
        ...


def run_upscale(
    job: UpscaleJob,
    *,
    notify: Notify | None = None,
    progress: Progress | None = None,
    phase: PhaseProgress | None = None,
    loaded: ThroughPlaneModel | Stored | None = None,
    watcher: Watcher | None = None,
    read: Read | None = None,
    read_before_s: float = 0.0,
) -> RunReport:
    """Carry out a job.

    Outputs are checked before the input is read, everything else before the network starts. Slabs go to the writer as
    they come, so memory does not grow with the number of thin slices. The input is never changed; each output appears
    whole or not at all. The volume and its uncertainty come first, then preview, report and view: where one of these
    cannot be written after all, the volume stays, and the error names the outputs that are complete.

    Args:
        job: files and options.
        notify: called with one plain line before the run starts.
        progress: called as windows are done.
        phase: called with the share of "reading", "preparing", "checking", "network" and "writing"; within a
            window too.
        loaded: the network of `job.settings`, where it was loaded before.
        watcher: takes the thick volume and finished slabs.
        read: gives the volume of `job.source`, where its headers or its voxels are in memory already.
        read_before_s: seconds that the reading has taken before.

    Returns:
        The report, also when no file for it was asked for.

    Raises:
        UsageError: options that contradict each other.
        InputError: the input cannot be read, or cannot be upscaled as asked.
        ModelError: the network or its weights.
        OutputError: an output exists or cannot be written.
        ResourceError: memory or disk short.
        DeviceError: a device that is not on this machine.
    """
    from thinslice.commands.run_facts import deviation_report, report_of
    from thinslice.commands.run_report_parts import SecondsReport
    from thinslice.inference.deviation import DeviationSummary
    from thinslice.inference.prepare import prepare
    from thinslice.inference.upscale import SlabStream
    from thinslice.intensity import WINDOW_WIDTH_HU
    from thinslice.io.files import open_writer, output_format, read_as
    from thinslice.io.write_behind import WriteBehind
    from thinslice.pictures.drawing import save_png
    from thinslice.pictures.figures import Preview
    from thinslice.pictures.viewer.page import ViewerPage

    begun = time.perf_counter()
    enter = phase or (lambda name, share: None)
    check_job(job)
    enter("reading", 0.0)
    if read is None:
        volume = read_as(job.sources if len(job.sources) > 1 else job.sources[0], job.reading)
    else:
        volume = read(job.reading)
    read_s = read_before_s + time.perf_counter() - begun
    labels = None if job.labels is None else read_labels(job.labels, volume.geometry, axis=job.reading.axis)
    enter("preparing", 0.0)
    prepared = prepare(volume, job.settings, loaded=loaded, packs_page=job.view is not None)
    checked = _checked(prepared, loaded, enter) if job.check else None
    stream = SlabStream(
        prepared, progress=progress, share=None if phase is None else lambda share: enter("network", share)
    )
    writer, *copies = (
        WriteBehind(
            open_writer(
                path,
                prepared.geometry,
                prepared.provenance,
                dtype=prepared.dtype,
                hu_range=prepared.hu_range,
                overwrite=job.overwrite,
                declared=declared,
                deidentify=job.deidentify,
            ),
            before_end=job.withdraw if path is job.output else None,
        )
        for path, declared in ((job.output, job.output_format), *((path, None) for path in job.copies))
    )
    uncertainty_writer, summary = None, DeviationSummary()
    if job.uncertainty is not None:
        uncertainty_writer = WriteBehind(
            open_writer(
                job.uncertainty,
                prepared.geometry,
                replace(prepared.provenance, padding_hu=None),
                dtype="float32",
                hu_range=(0.0, WINDOW_WIDTH_HU),
                overwrite=job.overwrite,
            )
        )
    if notify is not None:
        notify(_announcement(prepared))
    preview = None
    if job.preview is not None or (job.report is not None and job.report.suffix.lower() == ".html"):
        caption = (
            f"{prepared.model_name} {prepared.model_version}, factor {prepared.ratio:.4g}, plan {prepared.plan_name}"
        )
        preview = Preview(prepared.volume, prepared.geometry, caption=caption, deviation=job.uncertainty is not None)
    view = None
    if job.view is not None:
        view = ViewerPage(prepared.volume, prepared.geometry, deviation=job.uncertainty is not None)
    if watcher is not None:
        watcher.begin(prepared.volume, prepared.geometry)
    complete: list[Path] = []
    # Slabs are written while the next ones are made.
    with _after(complete), uncertainty_writer or nullcontext(), ExitStack() as beside:
        for copy in copies:
            beside.enter_context(copy)
        with writer:
            for slab in stream:
                for each in (writer, *copies):
                    each.write(slab.hu)
                if watcher is not None:
                    watcher.add(slab)
                if uncertainty_writer is not None and slab.deviation_hu is not None:
                    uncertainty_writer.write(slab.deviation_hu)
                    summary.add(slab.deviation_hu, slab.hu)
                for picture in (preview, view):
                    if picture is not None:
                        picture.add(slab.start, slab.hu, slab.deviation_hu)
            enter("writing", 0.0)
        complete.append(job.output)
    complete += job.copies
    if job.uncertainty is not None:
        complete.append(job.uncertainty)
    written_labels = None
    if labels is not None:
        with _after(complete):
            written_labels = write_labels(
                labels, labels_path(job.output), prepared.geometry, prepared.provenance, overwrite=job.overwrite
            )
        complete.append(labels_path(job.output))
    if preview is not None and job.preview is not None:
        with _after(complete):
            save_png(preview.png_bytes(), job.preview, overwrite=job.overwrite)
        complete.append(job.preview)
    seconds = SecondsReport(
        read=read_s,
        network=stream.result.network_s,
        write=writer.seconds + (0.0 if uncertainty_writer is None else uncertainty_writer.seconds),
        total=time.perf_counter() - begun,
    )
    report = report_of(
        prepared,
        stream.result,
        seconds,
        sources=job.sources,
        written=output_format(job.output, job.output_format),
        with_digest=job.report is not None,
        deidentify=job.deidentify,
        deviation=deviation_report(job.uncertainty, prepared, stream.result, summary),
        labels=written_labels,
        checked=checked,
        writer_warnings=writer.warnings,
    )
    if job.report is not None:
        with _after(complete):
            pictures = () if preview is None or job.report.suffix.lower() == ".json" else preview.parts()
            report.write(job.report, pictures, view=_linked_view(job), overwrite=job.overwrite)
        complete.append(job.report)
    if view is not None and job.view is not None:
        with _after(complete):
            view.write(job.view, report.facts(), overwrite=job.overwrite)
    return report


def _linked_view(job: UpscaleJob) -> str | None:
    """Name of the page with the viewer for a link in the report.

    None where it lies elsewhere, or where its name may be that of a patient.
    """
    if job.view is None or job.report is None or job.view.resolve().parent != job.report.resolve().parent:
        return None
    return job.view.name if is_neutral(job.view.stem) else None


@contextmanager
def _after(complete: list[Path]) -> Iterator[None]:
    """Add the outputs that are complete to an error of one that cannot be written."""
    try:
        yield
    except (OutputError, ResourceError, OSError) as error:
        if not complete:
            raise
        names = " and ".join(repr(str(path)) for path in complete)
        stays = f"{names} {'is' if len(complete) == 1 else 'are'} complete and kept."
        if isinstance(error, OSError):
            raise OutputError(f"An output cannot be written ({error.strerror}). {stays}") from error
        raise type(error)(f"{error} {stays}") from error


def check_job(job: UpscaleJob) -> None:
    """Refuse a job that cannot be carried out, as far as that shows without reading: options, then input, then outputs.

    Raises:
        UsageError: options that contradict each other, a model that does not exist, or an output that is the input.
        UnreadableError: an input that is missing or may not be read.
        OutputExistsError: an output exists and `overwrite` is false.
        OutputError: an output cannot be written there, or its folder is missing.
    """
    kind = _check_options(job)
    inputs = job.sources if job.labels is None else (*job.sources, job.labels)
    check_distinct([job.output, *job.side_files], inputs)
    check_order(job.sources[0], job.output)
    check_sources(inputs)
    if job.labels is not None:
        check_labels(job.labels)
    check_place(job.output, overwrite=job.overwrite, folder=kind == "dicom")
    for path in job.side_files:
        check_place(path, overwrite=job.overwrite)


def _check_options(job: UpscaleJob) -> str:
    """The format of the output, once nothing in the options contradicts the rest."""
    from thinslice.io.files import output_format
    from thinslice.models import catalog

    kind = output_format(job.output, job.output_format)
    is_dicom = kind in ("dicom", "dicom-enhanced")
    if is_dicom and any(source.name.lower().endswith((".nii", ".nii.gz")) for source in job.sources):
        raise UsageError(
            "A NIfTI has no patient or study to derive a DICOM series from; name an output that ends in .nii.gz."
        )
    if job.preview is not None and job.preview.suffix.lower() != ".png":
        raise UsageError(f"{option('preview')} writes PNG; end {str(job.preview)!r} in .png.")
    if job.report is not None and job.report.suffix.lower() not in (".json", ".html"):
        raise UsageError(f"{option('report')} writes JSON or HTML; end {str(job.report)!r} in .json or .html.")
    if job.view is not None and job.view.suffix.lower() != ".html":
        raise UsageError(f"{option('view')} writes HTML; end {str(job.view)!r} in .html.")
    source_of = job.settings.uncertainty
    if job.uncertainty is None and source_of is not None:
        raise UsageError(
            f"{option('uncertainty_by', source_of)} goes with a file for them: {option('uncertainty')} is missing."
        )
    if job.uncertainty is not None and source_of is None:
        raise UsageError("A file for standard deviations needs their source in the settings: learned or ensemble.")
    if job.uncertainty is not None and output_format(job.uncertainty) == "dicom":
        raise UsageError(
            "Standard deviations are no CT picture: a viewer would show them as tissue, so they are not written as "
            f"DICOM; end the name for {option('uncertainty')} in .nii.gz, .nrrd or .mha."
        )
    model = job.settings.model
    if isinstance(model, (str, Path)) and str(model) not in catalog.names():
        catalog.weights_of(model)
    return kind


def _announcement(prepared: Prepared) -> str:
    thick, thin, mib = prepared.volume.geometry, prepared.geometry, 2**20
    depth, height, width = thin.shape
    disk = depth * height * width * prepared.dtype.itemsize
    return (
        f"{thick.shape[0]} slices {thick.spacing_mm[0]:.4g} mm apart become {depth} slices {thin.spacing_mm[0]:.4g} mm "
        f"apart ({height} x {width}, {prepared.model_name}, factor {prepared.ratio:.4g}, {prepared.choice.device}); "
        f"about {prepared.memory_estimate.total_bytes / mib:.0f} MiB of memory, and up to {disk / mib:.0f} MiB on disk."
    )


def _checked(prepared: Prepared, loaded: ThroughPlaneModel | Stored | None, enter: PhaseProgress) -> CheckReport:
    """Whether the network is any good on the scan; its windows are those of a plain run, without uncertainty."""
    from thinslice.commands.check import check

    settings = prepared.settings
    return check(
        prepared.volume,
        model=settings.model if loaded is None else loaded,
        device=settings.device,
        backend=settings.backend,
        threads=settings.threads,
        phase=lambda name, share: enter("checking", share if name == "network" else 0.0),
    )
