"""What odd, damaged and hostile source headers may do to a derived one: nothing."""

from __future__ import annotations

import re

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from support.derived_series import NOW, Source, derive, edited, item, read_source
from support.dicom_factory import write_series
from thinslice.geometry import Geometry
from thinslice.io.dicom.attributes import decimal_text
from thinslice.io.dicom.derived.header import DerivedSeries
from thinslice.io.dicom.derived.single_frame import HeaderEncoder
from thinslice.io.dicom.files.header import quiet_pydicom
from thinslice.volume import Derivation, Provenance


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return read_source(write_series(tmp_path_factory.mktemp("plain"), shape=(4, 16, 16)).files)


def test_a_source_without_anything_gives_a_valid_empty_header() -> None:
    provenance = Provenance("dicom", headers=(Dataset(), Dataset()), derivation=Derivation("m", "1", None, 4))
    series = DerivedSeries(Geometry((5, 8, 8), (1.25, 0.5, 0.5)), provenance, now=NOW)
    header = series.header(2)
    for keyword in ("PatientName", "PatientID", "StudyDate", "AccessionNumber", "StudyID", "KVP"):
        assert keyword in header
        assert not header[keyword].value
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
        assert header[keyword].value.is_valid
    assert "SourceImageSequence" not in header
    assert list(header.ImagePositionPatient) == [0, 0, 2.5]
    assert list(header.PixelSpacing) == [0.5, 0.5]
    assert list(header.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0]


def test_hostile_uids_are_not_handed_on(plain: Source) -> None:
    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID", "SOPClassUID")
    with quiet_pydicom():
        hostile = edited(plain, **dict.fromkeys(names, "../../x"))
        reference = item(ReferencedSOPInstanceUID="../../x", StudyID="1")
        hostile = edited(hostile, ReferencedStudySequence=[reference])
    for header in hostile.headers:
        header.file_meta = None  # type: ignore[assignment]
    header = derive(hostile).header(1)
    uids = [element.value for element in header.iterall() if element.VR == "UI"]
    assert uids
    assert all(re.fullmatch(r"[0-9.]+", uid) for uid in uids)
    assert ".." not in str(header)


def test_damaged_values_are_left_out(plain: Source) -> None:
    damaged = edited(plain)
    for header in damaged.headers:
        for tag, vr, value in [(0x00281050, "DS", b"abc "), (0x00200011, "IS", b"x "), (0x00180060, "DS", b"1-2 ")]:
            header[Tag(tag)] = RawDataElement(Tag(tag), vr, len(value), value, 0, False, True)
    header = derive(damaged).header(0)
    assert "WindowCenter" not in header
    assert header.SeriesNumber == 905
    assert "KVP" in header
    assert header.KVP is None


def test_three_hundred_nested_sequences_are_not_followed(plain: Source) -> None:
    nested = item(RequestedProcedureID="deepest")
    for _ in range(300):
        nested = item(RequestAttributesSequence=Sequence([nested]), RequestedProcedureID="R")
    deep = edited(plain, RequestAttributesSequence=Sequence([nested]))
    header = derive(deep).header(0)
    depth, level = 0, header
    while "RequestAttributesSequence" in level:
        depth, level = depth + 1, level.RequestAttributesSequence[0]
    assert 1 <= depth <= 8


@pytest.mark.parametrize("value", [1e-9, -123456.789012345678, 1e15, 1 / 3, -0.0, 12345678901234567.0])
def test_decimal_strings_fit_and_are_close(value: float) -> None:
    text = decimal_text(value)
    assert len(text) <= 16
    assert float(text) == pytest.approx(value, rel=1e-8, abs=1e-9)


def test_odd_values_are_not_quoted_in_warnings_or_logs(
    plain: Source, recwarn: pytest.WarningsRecorder, caplog: pytest.LogCaptureFixture
) -> None:
    odd = edited(plain)
    for header in odd.headers:
        # A number and a name that pydicom complains about, quoting it, when it decodes or encodes them.
        header[Tag(0x00200012)] = RawDataElement(Tag(0x00200012), "IS", 6, b"canary", 0, False, True)
        header.PatientName = "Kanarienvogel^\N{CJK UNIFIED IDEOGRAPH-5C71}"
    recwarn.clear()
    caplog.clear()
    series = derive(odd)
    series.header(0)
    HeaderEncoder(series).encode(0)
    assert not recwarn.list
    assert not caplog.records
