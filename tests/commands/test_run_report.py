"""The report: the interface's keys, one safe page, nothing half-written."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pydantic import ValidationError
from pydicom.dataset import FileDataset

import thinslice
from support.dicom_factory import write_series
from thinslice import NOTICE
from thinslice.commands.run_report import RunReport, voxel_digest
from thinslice.commands.run_report_parts import FileReport, MachineReport, ModelReport, SecondsReport
from thinslice.commands.upscale import UpscaleJob, run_upscale
from thinslice.errors import OutputExistsError, UsageError
from thinslice.inference.settings import UpscaleSettings

KEYS = {
    "schema", "input", "output", "model", "factor", "spacing_mm_in", "spacing_mm_out", "plan", "device", "backend",
    "seconds", "peak_memory_mib", "consistency_rms_hu", "warnings", "notice",
}  # fmt: skip


def a_report(**changes: object) -> RunReport:
    values: dict[str, object] = {
        "input": FileReport(format="dicom", kind="folder", slices=61, matrix=(512, 512)),
        "output": FileReport(format="nifti", kind="file", slices=301, matrix=(512, 512)),
        "model": ModelReport(name="thinnet", version="1", sha256="ab" * 32),
        "factor": 5,
        "spacing_mm_in": (5.0, 0.7, 0.7),
        "spacing_mm_out": (1.0, 0.7, 0.7),
        "plan": "overlap",
        "device": "cpu",
        "backend": "torch",
        "seconds": SecondsReport(read=1.0, network=40.25, write=2.0, total=43.5),
        "peak_memory_mib": 812.4,
        "consistency_rms_hu": 0.31,
        "machine": MachineReport.here(threads=2),
    }
    return RunReport(**{**values, **changes})  # type: ignore[arg-type]


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_json_has_the_keys_others_rely_on(tmp_path: Path) -> None:
    a_report().write(tmp_path / "report.json")
    values = json.loads((tmp_path / "report.json").read_text())
    assert values.keys() >= KEYS
    assert values["model"].keys() == {"name", "version", "sha256"}
    assert values["seconds"].keys() == {"read", "network", "write", "total"}
    assert values["notice"] == NOTICE and values["spacing_mm_in"] == [5.0, 0.7, 0.7] and values["warnings"] == []
    assert RunReport.model_validate(values) == a_report()


def test_unknown_values_are_null_in_json_and_words_on_the_page() -> None:
    report = a_report(spacing_mm_in=(5.0, None, None), consistency_rms_hu=None, peak_memory_mib=None)
    assert json.loads(json.dumps(report.to_json()))["spacing_mm_in"] == [5.0, None, None]
    page = report.to_html()
    assert "in-plane spacing unknown" in page and "not measured" in page and "not known" in page


def test_the_page_is_self_contained_and_escaped(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    report = a_report(
        warnings=(f"odd {hostile}",),
        model=ModelReport(name=f"net{hostile}", version='"><img src=x>', sha256=None),
        settings={"note": hostile, "profile_width": 1.5},
    )
    png = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
    report.write(tmp_path / "report.html", [(f"A look {hostile}", png)])
    page = Tags((tmp_path / "report.html").read_text(encoding="utf-8"))
    names = [tag for tag, _ in page.found]
    assert "script" not in names and "link" not in names and names.count("img") == 1
    source = next(attributes["src"] for tag, attributes in page.found if tag == "img")
    assert source is not None and base64.b64decode(source.removeprefix("data:image/png;base64,")) == png
    assert page.text.count(hostile) == 5  # picture, warning, name twice, setting: shown, not run
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", (tmp_path / "report.html").read_text())
    assert NOTICE in page.text and "slice thickness / slice distance" in page.text


def test_the_page_links_to_a_viewer_beside_it() -> None:
    links = [
        attributes["href"] for tag, attributes in Tags(a_report().to_html(view="my view.html")).found if tag == "a"
    ]
    assert links == ["my%20view.html"]
    assert "a" not in [tag for tag, _ in Tags(a_report().to_html()).found]


def test_the_page_goes_without_a_picture() -> None:
    assert "img" not in [tag for tag, _ in Tags(a_report().to_html()).found]


def test_an_existing_report_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("mine")
    with pytest.raises(OutputExistsError):
        a_report().write(path)
    assert path.read_text() == "mine"
    a_report().write(path, overwrite=True)
    assert json.loads(path.read_text())["factor"] == 5


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.json or \.html"):
        a_report().write(tmp_path / "report.txt")
    assert list(tmp_path.iterdir()) == []


def test_is_frozen_and_checked() -> None:
    with pytest.raises(ValidationError):
        a_report().factor = 3  # type: ignore[misc]
    for wrong in ({"factor": 0}, {"consistency_rms_hu": float("nan")}, {"patient": "x"}):
        with pytest.raises(ValidationError):
            a_report(**wrong)


def test_a_run_states_what_was_read_and_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(dataset: FileDataset, index: int) -> None:
        dataset.SeriesNumber, dataset.ConvolutionKernel = 4, "B31f"
        dataset.PatientName, dataset.SeriesDescription = "Quux^Erika", "Thorax Quux 5.0 20260102 lung"

    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    write_series(tmp_path / "thick", edit=describe)
    reports = []
    for name, deidentify in (("a", False), ("b", True)):
        job = UpscaleJob(
            tmp_path / "thick",
            tmp_path / f"{name}.nii",
            UpscaleSettings("linear", factor=5),
            report=tmp_path / f"{name}.html",
            deidentify=deidentify,
        )
        reports.append(run_upscale(job))
    plain, without = (report.input for report in reports)
    assert (plain.series_number, plain.kernel, plain.orientation) == (4, "B31f", "axial")
    assert plain.description is not None and "lung" in plain.description and "Quux" not in plain.description
    assert (without.series_number, without.description) == (None, None)
    assert plain.voxels_sha256 == voxel_digest(thinslice.read(tmp_path / "thick")) == without.voxels_sha256
    assert reports[0].created == "2023-11-14T22:13:20Z"
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "profile_width" not in page and "DICOM, folder" in page and "Quux" not in page and "20260102" not in page


def test_times_have_no_digits_that_mean_nothing() -> None:
    """Eight of them in a row would by chance be a date of birth, for which reports are searched."""
    seconds = SecondsReport(read=0.019170307123, network=1 / 3, write=0.0, total=12.00004)
    assert seconds.model_dump() == {"read": 0.0192, "network": 0.3333, "write": 0.0, "total": 12.0}
