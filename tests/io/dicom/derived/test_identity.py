"""Patient, study and frame of a derived series have the very bytes of the source, or a warning names the loss."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag

from support.dicom_factory import write_series
from thinslice.io.dicom.derived.single_frame import DicomSlabWriter
from thinslice.io.dicom.read import read_dicom
from thinslice.volume import Derivation, Provenance

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about the values under test

KANJI = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"
NAMES: dict[str, tuple[bytes | None, bytes]] = {
    "Latin-1, undeclared": (None, "Müller^Jörg".encode("latin-1")),
    "Latin-1 as UTF-8": (b"ISO_IR 192", "Müller^Jörg".encode("latin-1")),
    "Latin-1 as Latin-1": (b"ISO_IR 100", "Müller^Jörg".encode("latin-1")),
    "cp1251 as ISO 2022 IR 6": (b"ISO 2022 IR 6", "Иванов^П".encode("cp1251")),
    "cp1251 as UTF-8": (b"ISO_IR 192", "Иванов^П".encode("cp1251")),
    "UTF-8, undeclared": (None, "Müller^Jörg".encode()),
    "UTF-8 as Latin-1": (b"ISO_IR 100", "Müller^Jörg".encode()),
    "unknown character set": (b"ISO_IR 999\\ISO_IR 100", "Müller^Jörg".encode("latin-1")),
    "misspelled character set": (b"ISO_2022_IR_6", b"Smith^John"),
    "kanji": (b"\\ISO 2022 IR 87", KANJI),
    "Shift JIS as ISO_IR 13": (b"ISO_IR 13", "山田^太郎".encode("shift_jis")),
    "Korean": (b"\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"),
    "GB18030": (b"GB18030", "Wang^XiaoDong=王^小东".encode("gb18030")),
    "GBK, undeclared": (None, "王^小东".encode("gbk")),
    "GBK with a backslash in a character": (None, "誠^俓".encode("gbk")),
    "two components of padding": (b"ISO_IR 100", b"Doe^Jane^^\0\0"),
}
"""Declared character set and the bytes of a name."""

PLACES = ("PatientName", "PatientID", "AccessionNumber", "StudyDescription", "ReferringPhysicianName", "StudyID")


def raw(keyword: str, vr: str, value: bytes, *, pad: bytes = b" ") -> RawDataElement:
    value += pad * (len(value) % 2)
    return RawDataElement(Tag(keyword), vr, len(value), value, 0, False, True)


def derive(folder: Path, edit: Callable[[FileDataset, int], None], **series: object) -> tuple[Path, tuple[str, ...]]:
    """Write a source, read it with the program's own reader, and write a thin series; its folder and warnings."""

    def marked(dataset: FileDataset, index: int) -> None:
        edit(dataset, index)
        dataset.set_original_encoding(False, True, dataset._character_set)  # pydicom writes raw elements as they are

    write_series(folder / "in", shape=(3, 8, 8), edit=marked, **series)  # type: ignore[arg-type]
    thick = read_dicom(folder / "in")
    grid = thick.geometry.thin_grid(5)
    made = Derivation("thinnet", "1.0", "0" * 64, 5)
    details = thick.provenance.details
    provenance = Provenance("dicom", headers=thick.provenance.headers, derivation=made, details=details)
    with DicomSlabWriter(folder / "out", grid, provenance, hu_range=(-1024, 3071)) as writer:
        writer.write(np.zeros(grid.shape, np.int16))
    return folder / "out", writer.warnings


def bytes_in(path: Path, keyword: str) -> bytes | None:
    """The value's bytes in a file, read without any decoding."""
    data, tag = path.read_bytes(), Tag(keyword)
    at = data.find(struct.pack("<HH", tag.group, tag.element), 132)
    if at < 0:
        return None
    (length,) = struct.unpack("<H", data[at + 6 : at + 8])
    return data[at + 8 : at + 8 + length]


@pytest.mark.parametrize("case", NAMES)
def test_text_has_the_bytes_of_the_source(tmp_path: Path, case: str) -> None:
    declared, name = NAMES[case]

    def edit(dataset: FileDataset, _: int) -> None:
        del dataset.SpecificCharacterSet
        if declared is not None:
            dataset[Tag("SpecificCharacterSet")] = raw("SpecificCharacterSet", "CS", declared)
        for keyword in PLACES:
            vr = "PN" if keyword.endswith("Name") else "LO" if keyword in ("PatientID", "StudyDescription") else "SH"
            dataset[Tag(keyword)] = raw(keyword, vr, name)
        item = Dataset()
        item[Tag("RequestedProcedureDescription")] = raw("RequestedProcedureDescription", "LO", name)
        item.set_original_encoding(False, True, item._character_set)
        dataset.RequestAttributesSequence = [item]

    out, _ = derive(tmp_path, edit)
    for path in sorted(out.iterdir()):
        assert bytes_in(path, "SpecificCharacterSet") == (declared and declared + b" " * (len(declared) % 2))
        for keyword in (*PLACES, "RequestedProcedureDescription"):
            assert bytes_in(path, keyword) == name + b" " * (len(name) % 2), keyword


@pytest.mark.parametrize("syntax", ["implicit", "big_endian", "deflated"])
def test_text_of_other_encodings_has_the_same_bytes(tmp_path: Path, syntax: str) -> None:
    def edit(dataset: FileDataset, _: int) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.PatientName, dataset.PatientID = "Müller^Jörg=山田", "ÄÖÜ 1"

    out, warnings = derive(tmp_path, edit, transfer_syntax=syntax)
    path = min(out.iterdir())
    assert bytes_in(path, "PatientName") == "Müller^Jörg=山田".encode() + b" " * (len("Müller^Jörg=山田".encode()) % 2)
    assert bytes_in(path, "PatientID") == "ÄÖÜ 1".encode()
    assert warnings == ()


@pytest.mark.parametrize(
    ("uid", "valid"),
    [
        ("1.2.826.abcdef.1", False),
        ("1.2.826.0.1.3680043.10.999." + "1" * 39, False),
        ("1.2.840.113619.2.55.03.4", True),  # a component with a leading zero, as scanners write
        ("anonymized-uid_7", False),
    ],
)
@pytest.mark.parametrize("pad", [b"\0", b" "], ids=["NUL", "space"])
def test_uids_of_anonymizers_are_kept(tmp_path: Path, uid: str, valid: bool, pad: bytes) -> None:
    def edit(dataset: FileDataset, index: int) -> None:
        for keyword, value in (
            ("StudyInstanceUID", uid),
            ("FrameOfReferenceUID", f"{uid}.7"),
            ("SOPInstanceUID", f"{uid}.{index}"),
        ):
            dataset[Tag(keyword)] = raw(keyword, "UI", value.encode(), pad=pad)

    out, warnings = derive(tmp_path, edit)
    assert any("break the rules" in sentence for sentence in warnings) != valid
    for path in out.iterdir():
        thin = pydicom.dcmread(path)
        assert (thin.StudyInstanceUID, thin.FrameOfReferenceUID) == (uid, f"{uid}.7")
        referred = {item.ReferencedSOPInstanceUID for item in thin.SourceImageSequence}
        assert referred <= {f"{uid}.{index}" for index in range(3)} and referred
        assert thin.SOPInstanceUID.is_valid and thin.SeriesInstanceUID.is_valid


@pytest.mark.parametrize("value", [None, b"", b"\0\0", b"../../x", b"1.2\\1.3", b"C:\\x", b"9" * 300, b"1.2/3"])
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_a_link_that_is_lost_is_stated(tmp_path: Path, keyword: str, value: bytes | None) -> None:
    def edit(dataset: FileDataset, _: int) -> None:
        del dataset[keyword]
        if value is not None:
            dataset[Tag(keyword)] = raw(keyword, "UI", value, pad=b"\0")

    out, warnings = derive(tmp_path, edit)
    assert [sentence for sentence in warnings if keyword in sentence and "of its own" in sentence]
    new = {pydicom.dcmread(path)[keyword].value for path in out.iterdir()}
    assert len(new) == 1 and new.pop().is_valid
    if value:
        assert not any(value in path.read_bytes() for path in out.iterdir() if len(value.strip(b"\0")) > 3)


def test_identity_of_another_value_representation_is_missed_aloud(tmp_path: Path) -> None:
    def edit(dataset: FileDataset, _: int) -> None:
        dataset[Tag("PatientID")] = RawDataElement(Tag("PatientID"), "FD", 8, b"CANARY12", 0, False, True)

    _, warnings = derive(tmp_path, edit)
    assert ["PatientID" in sentence and "lacks" in sentence for sentence in warnings] == [True]


def test_a_description_of_undecodable_bytes_is_cut_between_characters(tmp_path: Path) -> None:
    theirs = "Абдомен, контраст, нативная фаза 40 keV".encode()

    def edit(dataset: FileDataset, _: int) -> None:
        del dataset.SpecificCharacterSet
        dataset[Tag("SeriesDescription")] = raw("SeriesDescription", "LO", theirs)

    out, _ = derive(tmp_path, edit)
    text = bytes_in(min(out.iterdir()), "SeriesDescription")
    assert text is not None and len(text) <= 64
    assert text.decode().rstrip().endswith("40 keV 1mm AI, not for diagnosis")  # raises on half a character
