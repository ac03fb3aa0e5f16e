"""One series among many, upscaled once: what earlier runs left decides what is done; no message names a file."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.commands.batch_records import Record, SeriesRow
from thinslice.commands.batch_sources import Source
from thinslice.commands.upscale import Read, UpscaleJob, run_upscale
from thinslice.errors import OutputError, OutputExistsError
from thinslice.options import option
from thinslice.typing import PhaseProgress

if TYPE_CHECKING:
    from pydantic import JsonValue

    from thinslice.commands.run_report import RunReport
    from thinslice.inference.settings import UpscaleSettings
    from thinslice.io.settings import ReadSettings
    from thinslice.models.base import ThroughPlaneModel
    from thinslice.models.stored import Stored


@dataclass(frozen=True)
class HowToUpscale:
    """What all series of a run share.

    Attributes:
        out: folder of the outputs.
        settings: options of every run.
        reading: options of reading; it names no series.
        fingerprint: of these settings, as `thinslice.commands.batch_records.fingerprint` makes it.
        model: the network, loaded once.
        overwrite: replace outputs that an earlier run made with other settings, or from a source that has changed.
        deidentify: as in `UpscaleJob`.
    """

    out: Path
    settings: UpscaleSettings
    reading: ReadSettings
    fingerprint: dict[str, JsonValue]
    model: ThroughPlaneModel | Stored
    overwrite: bool = False
    deidentify: bool = False


def upscale_one(
    source: Source,
    row: SeriesRow,
    how: HowToUpscale,
    *,
    phase: PhaseProgress | None = None,
    read: Read | None = None,
    read_before_s: float = 0.0,
    reported: Callable[[RunReport], None] | None = None,
) -> SeriesRow:
    """Upscale a series, unless an earlier run has done so with the same settings from the same files.

    Args:
        source: the series, or a part of it.
        row: its row as far as it is known.
        how: what all series share.
        phase: called as `run_upscale` does.
        read, read_before_s: as for `run_upscale`.
        reported: called with the report of the run, where there was one.

    Returns:
        The row, as "done" or, where an earlier run did it, as "skipped".

    Raises:
        OutputExistsError: an output is there that was made otherwise, and `how.overwrite` is false.
        ThinsliceError: as `run_upscale`; its message may name files (`Source.without_names`).
    """
    output = how.out / source.output
    record = Record.of(how.out, source)
    digest = source.digest()
    state = record.state(output, how.fingerprint, digest)
    if state == "done":
        return record.row_again(row)
    if state == "changed" and not how.overwrite:
        raise OutputExistsError(
            "An earlier run made this output with other settings, or from files that have changed since; pass "
            f"{option('overwrite', True)} to make it again, or choose another output folder."
        )
    if state == "foreign" and not how.overwrite:
        raise OutputExistsError(
            f"There is an output that no batch made; pass {option('overwrite', True)}, or choose another folder."
        )
    make_folder(output.parent)
    record.begin(how.fingerprint, digest)
    begun = time.perf_counter()
    report = run_upscale(
        UpscaleJob(
            source=source.paths if len(source.paths) > 1 else source.paths[0],
            output=output,
            settings=how.settings,
            output_format=source.output_format,
            reading=source.reading(how.reading),
            overwrite=state != "absent",
            deidentify=how.deidentify,
        ),
        phase=phase,
        loaded=how.model,
        read=read,
        read_before_s=read_before_s,
    )
    if reported is not None:
        reported(report)
    done = _done(row, report, source, time.perf_counter() - begun)
    record.finish(output, done)
    return done


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        OutputError: it cannot be made; choose another output.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"The folder {str(folder)!r} cannot be made ({error.strerror}).") from error


def load_once(settings: UpscaleSettings) -> ThroughPlaneModel | Stored:
    """The model of the settings, for all series."""
    from thinslice.inference.backends.choice import choose_device
    from thinslice.inference.networks import load_network

    device = choose_device(settings.device, settings.backend)
    return load_network(settings.model, backend=settings.backend, device=device)


def _done(row: SeriesRow, report: RunReport, source: Source, seconds: float) -> SeriesRow:
    update: dict[str, Any] = {
        "status": "done",
        "slices": report.input.slices,
        "seconds": round(seconds, 3),
        "factor": report.factor,
        "spacing_mm_in": report.spacing_mm_in[0],
        "spacing_mm_out": report.spacing_mm_out[0],
        "consistency_rms_hu": report.consistency_rms_hu,
        "device": report.device,
        "backend": report.backend,
        "warnings": tuple(source.without_names(sentence) for sentence in report.warnings),
    }
    return row.model_copy(update=update)
