"""Report of one run: input, output, settings, times and warnings.

The report holds nothing that identifies a patient, and no file names or folders: people name files after patients.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, JsonValue

from thinslice.about import NOTICE, __version__
from thinslice.commands.check_report import CheckReport
from thinslice.commands.labels_report import LabelsReport
from thinslice.commands.run_report_parts import (
    DeviationReport,
    FileReport,
    Frozen,
    MachineReport,
    Mebibytes,
    ModelReport,
    SecondsReport,
    TextureReport,
)
from thinslice.errors import UsageError

if TYPE_CHECKING:
    from thinslice.volume import Volume

SCHEMA = "thinslice-report/1"
"""Value of `schema`; the number rises when a key changes its meaning."""

USUAL_CONSISTENCY = (
    "with default, fast and best, 0.1 to 0.3 is usual for contiguous slices, up to 3 for overlapping ones"
)
"""What the agreement with the source is compared with."""

FORMAT_NAMES = {"dicom": "DICOM", "nifti": "NIfTI", "nrrd": "NRRD", "metaimage": "MetaImage"}

SETTING_NAMES = {
    "spacing_mm": "distance of thin slices (mm)",
    "profile": "slice profile",
    "profile_width": "slice thickness / slice distance",
    "windows_of_air": "windows of air, interpolated",
}
"""Rows of the page for keys of `settings` whose name is not plain."""

Millimetres = tuple[float, float | None, float | None]
"""Spacing along (depth, height, width) in mm; an unknown in-plane one is None."""


class RunReport(Frozen):
    """Report of a `thinslice upscale` run, as JSON or one HTML page.

    Attributes:
        schema_name: `schema` in JSON.
        input: the thick source.
        output: the thin result.
        model: the network.
        factor: thin slices per thick interval.
        spacing_mm_in: of the source, (depth, height, width).
        spacing_mm_out: of the result.
        plan: name of the window plan.
        device: "cpu", "cuda:0", ...
        backend: "torch", "openvino", ...
        seconds: by phase.
        expected_memory_mib: peak memory estimated before the start; None where it was not estimated.
        peak_memory_mib: highest resident memory of the process; None where the system has no such count.
        consistency_rms_hu: root mean square difference between the thick slices and averages of the result.
        deviation: standard deviations; None in a run without them.
        texture: synthetic noise; None in a run without it.
        labels: a segmentation that came along; None in a run without one.
        check: whether the network is any good on the scan; None where it was not asked for.
        warnings: sentences about anomalies, assumptions and omissions.
        notice: uses that are excluded.
        thinslice_version: version of the software.
        created: time of the report in UTC, ISO 8601 (`thinslice.experiments.provenance.now`).
        machine: machine of the run.
        settings: other settings that change the pixels, and numbers of windows.
    """

    schema_name: str = Field(default=SCHEMA, alias="schema")
    input: FileReport
    output: FileReport
    model: ModelReport
    factor: int | float = Field(ge=1)
    spacing_mm_in: Millimetres
    spacing_mm_out: Millimetres
    plan: str
    device: str
    backend: str
    seconds: SecondsReport
    expected_memory_mib: Mebibytes | None = None
    peak_memory_mib: Mebibytes | None = None
    consistency_rms_hu: float | None = Field(default=None, ge=0)
    deviation: DeviationReport | None = None
    texture: TextureReport | None = None
    labels: LabelsReport | None = None
    check: CheckReport | None = None
    warnings: tuple[str, ...] = ()
    notice: str = NOTICE
    thinslice_version: str = __version__
    created: str | None = None
    machine: MachineReport = Field(default_factory=MachineReport.here)
    settings: dict[str, JsonValue] = Field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """JSON values, under the names of the interface."""
        return self.model_dump(mode="json", by_alias=True)

    def facts(self) -> list[tuple[str, str]]:
        """Names and values for a page that may be passed on: nothing of the series' names, nor its voxels' digest."""
        private = ("series number", "description", "voxels SHA-256")
        rows = [
            (f"{heading}: {name}", text)
            for heading, named in _groups(self)
            if heading not in ("Time and memory", "Software")
            for name, text in named
            if name not in private
        ]
        return [*rows, *(("Warning", sentence) for sentence in self.warnings), ("Software", f"thinslice {__version__}")]

    def to_html(self, pictures: Sequence[tuple[str, bytes]] = (), *, view: str | None = None) -> str:
        """One self-contained page: no script, nothing loaded from elsewhere, every value escaped.

        Args:
            pictures: title and PNG of each picture, such as `thinslice.pictures.figures.Preview.parts`.
            view: name of a page with the viewer in the same folder, for a link; nothing that identifies a patient.
        """
        from jinja2 import Environment, PackageLoader, StrictUndefined

        environment = Environment(
            loader=PackageLoader("thinslice.commands"),
            # The template's name ends in .j2, which would turn the usual choice by suffix off.
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        encoded = [(title, base64.b64encode(png).decode("ascii")) for title, png in pictures]
        page = environment.get_template("report.html.j2")
        return page.render(report=self, groups=_groups(self), pictures=encoded, view=view)

    def write(
        self,
        path: Path,
        pictures: Sequence[tuple[str, bytes]] = (),
        *,
        view: str | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write the report, atomically.

        Args:
            path: ends in .json or .html.
            pictures: title and PNG of the pictures in the page; a JSON report goes without.
            view: as for `to_html`.
            overwrite: whether an existing report may be replaced.

        Raises:
            UsageError: another suffix.
            OutputExistsError: the file exists and `overwrite` is false.
        """
        from thinslice.system.atomic import atomic_file

        path = Path(path)
        match path.suffix.lower():
            case ".json":
                text = json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n"
            case ".html" | ".htm":
                text = self.to_html(pictures, view=view)
            case _:
                raise UsageError(f"A report ends in .json or .html, not {path.suffix!r}; name it so.")
        with atomic_file(path, overwrite=overwrite) as unfinished:
            unfinished.write_text(text, encoding="utf-8")


def voxel_digest(volume: Volume) -> str:
    """SHA-256 of HU and grid, hexadecimal: equal for equal volumes, whatever file they came from.

    Source: shape, spacing, origin and direction as JSON, then HU as little-endian int16 or float32.

    >>> from thinslice.volume import Volume
    >>> voxel_digest(Volume.from_array([[[0]], [[7]]], spacing_mm=(5.0, 1.0, 1.0)))[:12]
    '21b42b306488'
    """
    grid = volume.geometry
    placed = [grid.shape, grid.spacing_mm, grid.origin_mm, grid.direction, volume.hu.dtype.kind]
    digest = hashlib.sha256(json.dumps(placed).encode())
    for plane in volume.hu:
        digest.update(np.ascontiguousarray(plane, dtype=volume.hu.dtype.newbyteorder("<")).data)
    return digest.hexdigest()


def spacing_text(spacing_mm: Sequence[float | None]) -> str:
    """Spacing in words.

    >>> spacing_text((5.0, 0.7, 0.7)), spacing_text((1.0, None, None))
    ('5 x 0.7 x 0.7 mm', '1 x ? x ? mm (in-plane spacing unknown)')
    """
    text = " x ".join("?" if step is None else f"{step:.4g}" for step in spacing_mm) + " mm"
    return text + (" (in-plane spacing unknown)" if None in spacing_mm else "")


def _groups(report: RunReport) -> list[tuple[str, list[tuple[str, str]]]]:
    """The page's tables: heading, and rows of name and text."""
    seconds, machine = report.seconds, report.machine
    memory = "not known" if report.peak_memory_mib is None else f"{report.peak_memory_mib:,.0f} MiB"
    consistency = "not measured"
    if report.consistency_rms_hu is not None:
        consistency = f"{report.consistency_rms_hu:.2f} HU RMS; {USUAL_CONSISTENCY}"
    run = [
        ("window plan", report.plan),
        ("device", report.device),
        ("backend", report.backend),
        *((SETTING_NAMES.get(name, name.replace("_", " ")), _plain(value)) for name, value in report.settings.items()),
    ]
    return [
        ("Source", _side(report.input, report.spacing_mm_in)),
        (
            "Result",
            [
                *_side(report.output, report.spacing_mm_out),
                ("agreement with source", consistency),
                *_uncertainty(report.deviation),
                *_texture(report.texture),
                *_labels(report.labels),
            ],
        ),
        (
            "Network" if report.model.sha256 else "Method",
            [
                ("name", report.model.name),
                ("version", report.model.version),
                ("weights SHA-256", report.model.sha256 or "none (no weights)"),
                ("factor", f"{report.factor:.4g}"),
            ],
        ),
        ("Run", run),
        *([] if report.check is None else [("Check of the source", _check(report.check))]),
        (
            "Time and memory",
            [
                ("reading", f"{seconds.read:.1f} s"),
                ("network", f"{seconds.network:.1f} s"),
                ("writing", f"{seconds.write:.1f} s"),
                ("total", f"{seconds.total:.1f} s"),
                ("peak memory", memory),
            ],
        ),
        (
            "Software",
            [
                ("thinslice", report.thinslice_version),
                ("report made", report.created or "time not recorded"),
                ("Python", machine.python),
                ("system", machine.system),
                ("processors", f"{machine.processors}, threads {machine.threads or 'automatic'}"),
            ],
        ),
    ]


def _side(side: FileReport, spacing_mm: Millimetres) -> list[tuple[str, str]]:
    rows = [("format", f"{FORMAT_NAMES.get(side.format, side.format)}, {side.kind}")]
    if side.series_number is not None:
        rows.append(("series number", str(side.series_number)))
    rows += [(name, text) for name, text in (("description", side.description), ("kernel", side.kernel)) if text]
    rows.append(("slices", f"{side.slices}, {side.orientation}" if side.orientation else str(side.slices)))
    if side.matrix is not None:
        rows.append(("matrix", f"{side.matrix[0]} x {side.matrix[1]}"))
    rows.append(("spacing", spacing_text(spacing_mm)))
    if side.voxels_sha256 is not None:
        rows.append(("voxels SHA-256", side.voxels_sha256))
    return rows


def _uncertainty(deviation: DeviationReport | None) -> list[tuple[str, str]]:
    """Rows about the standard deviations; none without them."""
    if deviation is None:
        return []
    figures = (("mean", deviation.mean_hu), ("median", deviation.median_hu), ("95th percentile", deviation.p95_hu))
    shown = ", ".join(f"{name} {value:.1f} HU" for name, value in figures if value is not None)
    state = "calibrated" if deviation.calibrated else "not calibrated"
    rows = [("standard deviation", f"{shown or 'nothing but air'} ({deviation.source}, {state})")]
    if deviation.multipliers:
        spans = ", ".join(f"{level} %: {value:.2f}" for level, value in deviation.multipliers.items())
        rows.append(("intervals, in standard deviations", spans))
    if deviation.scale:
        factors = ", ".join(f"{place}: {value:.2f}" for place, value in deviation.scale.items())
        rows.append(("map scaled to the noise of this scan", factors))
    return rows


def _texture(texture: TextureReport | None) -> list[tuple[str, str]]:
    """Rows about synthetic noise; none without it."""
    if texture is None:
        return []
    return [
        ("synthetic noise (texture)", f"added, seed {texture.seed}: never read small structures in the result"),
        (
            "noise in soft tissue",
            f"{texture.thick_noise_hu:.1f} HU in the source, {texture.thin_noise_hu:.1f} HU expected of thin slices",
        ),
    ]


def _labels(labels: LabelsReport | None) -> list[tuple[str, str]]:
    """A row about the labels; none without them."""
    if labels is None:
        return []
    return [("labels", f"{len(labels.volumes)}, volumes changed by {labels.largest_change_percent:.2f} % at most")]


def _check(check: CheckReport) -> list[tuple[str, str]]:
    """Rows about the check of the source."""
    rows = [("verdict", check.sentence), *(("also", finding.sentence) for finding in check.findings[1:])]
    for test in check.tests:
        usual = check.training_gain_db.get(test.factor)
        beside = "" if usual is None else f" ({usual[0]:+.1f} to {usual[1]:+.1f} dB on training scans)"
        rows.append((f"own slices averaged by {test.factor}", f"{test.gain_db:+.1f} dB over interpolation{beside}"))
    return rows


def _plain(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value)
