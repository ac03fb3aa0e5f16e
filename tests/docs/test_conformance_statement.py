"""The DICOM conformance statement lists what the code reads, copies, makes and keeps, no more and no less."""

from __future__ import annotations

import re
from pathlib import Path

import pydicom
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.uid import AllTransferSyntaxes, CTImageStorage, EnhancedCTImageStorage, JPEGExtended12Bit

from support.derived_series import read_source, write_derived
from support.dicom_factory import write_series
from support.skips import PROJECT
from thinslice.errors import MissingExtraError
from thinslice.io.dicom.attributes import KEPT_KEYWORDS, REQUIRED_KEYWORDS
from thinslice.io.dicom.derived.deidentify import KEPT_WITHOUT_IDENTITY
from thinslice.io.dicom.files.header import GE_SWAPPED_PIXELS
from thinslice.io.dicom.files.object_kinds import ENHANCED_KINDS, KINDS
from thinslice.io.dicom.files.pixel_format import PixelError
from thinslice.io.dicom.files.pixels import require_decoder

PAGE = (PROJECT / "docs" / "reference" / "dicom-conformance.md").read_text(encoding="utf-8")


def between(start: str, end: str) -> str:
    return PAGE.split(start, 1)[1].split(end, 1)[0]


def keywords(text: str) -> set[str]:
    return {word for word in re.findall(r"`(\w+)`", text) if tag_for_keyword(word) is not None}


def rows(text: str) -> dict[str, tuple[str, str]]:
    """Read and written of each row of a table, by its UID."""
    found = re.findall(r"^\| [^|]+ \| ([\d.]+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    return {uid: (read, written) for uid, read, written in found}


def test_transfer_syntaxes_are_those_that_are_decoded() -> None:
    readable = set()
    for syntax in set(AllTransferSyntaxes) - {JPEGExtended12Bit}:  # depends on a package that is none of ours
        try:
            require_decoder(syntax)
        except PixelError:
            continue
        except MissingExtraError:
            pass
        readable.add(str(syntax))
    table = rows(between("## 4.", "## 5."))
    assert set(table) == readable
    assert {read for read, _ in table.values()} == {"yes"}


def test_a_node_takes_what_is_read() -> None:
    pytest.importorskip("pynetdicom")
    from thinslice.service.node.receiver import STORED, TRANSFER_SYNTAXES

    assert {*rows(between("## 4.", "## 5.")), GE_SWAPPED_PIXELS} == set(TRANSFER_SYNTAXES)
    assert set(rows(between("## 1.", "## 2."))) == set(STORED)


def test_sop_classes_are_those_that_are_read() -> None:
    table = rows(between("## 1.", "## 2."))
    assert set(table) == {uid for uid, kind in KINDS.items() if kind == "CT" or kind in ENHANCED_KINDS}


def test_what_is_written_is_in_both_tables(tmp_path: Path) -> None:
    write_derived(read_source(write_series(tmp_path / "in", shape=(2, 8, 8)).files), tmp_path / "out")
    thin = pydicom.dcmread(min((tmp_path / "out").iterdir()))
    syntaxes = rows(between("## 4.", "## 5."))
    assert [uid for uid, (_, written) in syntaxes.items() if written == "yes"] == [thin.file_meta.TransferSyntaxUID]
    classes = rows(between("## 1.", "## 2."))
    assert {uid for uid, (_, written) in classes.items() if written != "no"} == {CTImageStorage, EnhancedCTImageStorage}


def test_copied_attributes_are_those_of_the_code() -> None:
    assert keywords(between("### Copied", "Type 2 attributes")) == set(KEPT_KEYWORDS)


@pytest.mark.parametrize("padding_raw", [None, -2000])
def test_created_attributes_are_those_of_a_file(tmp_path: Path, padding_raw: int | None) -> None:
    made = write_series(tmp_path / "in", shape=(2, 16, 16), signed=True, intercept=0.0, padding_raw=padding_raw)
    padding_hu = None if padding_raw is None else float(padding_raw)
    write_derived(read_source(made.files), tmp_path / "out", padding_hu=padding_hu)
    thin = pydicom.dcmread(min((tmp_path / "out").iterdir()))
    created = set(thin.dir()) - set(KEPT_KEYWORDS) - set(REQUIRED_KEYWORDS)
    described = keywords(between("### Created", "### Copied"))
    assert created <= described
    sometimes = {"PixelPaddingValue", "ImageComments", "ContributingEquipmentSequence"}
    sometimes |= {"LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"}
    assert described - created <= sometimes


def test_what_stays_without_identity_is_that_of_the_code() -> None:
    assert keywords(between("list of what stays:", "The created attributes")) == set(KEPT_WITHOUT_IDENTITY)
