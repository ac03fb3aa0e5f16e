"""Outputs without identity: a canary in every identifying attribute of the source is nowhere in them."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary, dictionary_keyword, dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset, FileDataset

from support.dicom_factory import CANARY, assert_no_canary, write_series
from thinslice.io.dicom.attributes import KEPT_KEYWORDS
from thinslice.io.dicom.derived.deidentify import KEPT_WITHOUT_IDENTITY, STRUCTURE_KEYWORDS, replaced_uid
from thinslice.io.dicom.read import read_dicom
from thinslice.io.files import open_writer
from thinslice.volume import Derivation, Volume

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

WORDS = {"LO": "CANARYLO", "SH": "CANARYSH", "PN": "Canary^Pn", "LT": "canary lt", "ST": "canary st", "UT": "canary ut"}
WORDS |= {"UC": "canary uc", "AE": "CANARYAE", "UR": "http://canary", "AS": "047Y", "DA": "19170307", "TM": "030717.47"}
WORDS |= {"DT": "19170307030717", "UI": "1.2.471147.471147"}
"""A value for every representation in which an identity may stand."""

STAYS = {*KEPT_WITHOUT_IDENTITY, *STRUCTURE_KEYWORDS, "SpecificCharacterSet", "Modality", "RescaleType", "RescaleSlope"}
SECRETS = [b"canary", b"kanarien", b"19170307", b"19991231", b"030717", b"471147", b"047Y", b"235958"]


def identify(dataset: FileDataset, _: int) -> None:
    """Put a canary into every text attribute of the dictionary that does not stay, also in items and private blocks."""
    for tag, (vr, *_, keyword) in DicomDictionary.items():
        group = tag >> 16
        if (
            vr not in WORDS
            or keyword in STAYS
            or group in (0x0000, 0x0002, 0x0004)
            or group >= 0x6000
            or tag & 0xFFFF == 0
        ):
            continue
        if keyword not in dataset or vr != "UI":
            dataset.add_new(tag, vr, WORDS[vr])
    for keyword in ("AnatomicRegionSequence", "RequestAttributesSequence", "MultienergyCTCharacteristicsSequence"):
        item, inner = Dataset(), Dataset()
        item.MonoenergeticEnergyEquivalent = 40.0
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "DCM", "Region"
        item.PatientName, item.AccessionNumber, item.ReferencedSOPInstanceUID = "Canary^In", "CANARYIN", "1.2.471147"
        inner.PatientID, inner.TextValue = "CANARYINNER", "canary inner"
        item.OtherPatientIDsSequence = [inner]
        item.private_block(0x0031, "CANARY", create=True).add_new(1, "LO", "canary private")
        setattr(dataset, keyword, [item])
    dataset.private_block(0x0029, "CANARY", create=True).add_new(1, "LO", "canary private")
    dataset.preamble = b"canary" + b"\0" * 122


@pytest.fixture(scope="module")
def thick(tmp_path_factory: pytest.TempPathFactory) -> Volume:
    folder = tmp_path_factory.mktemp("identified")
    write_series(folder, shape=(3, 16, 16), edit=identify)
    return read_dicom(folder)


def write_thin(thick: Volume, path: Path, form: str, *, deidentify: bool = True) -> tuple[list[Path], tuple[str, ...]]:
    grid = thick.geometry.thin_grid(5)
    provenance = replace(thick.provenance, derivation=Derivation("thinnet", "1.0", "0" * 64, 5))
    writer = open_writer(path, grid, provenance, hu_range=(-1024, 3071), declared=form, deidentify=deidentify)
    with writer as opened:
        opened.write(np.zeros(grid.shape, np.int16))
    return sorted(path.iterdir()) if path.is_dir() else [path], writer.warnings


def test_the_canary_is_found_without_the_option(thick: Volume, tmp_path: Path) -> None:
    files, _ = write_thin(thick, tmp_path / "out", "dicom", deidentify=False)
    assert b"Canary^Pn" in files[0].read_bytes()


@pytest.mark.parametrize(("name", "form"), [("out", "dicom"), ("out.dcm", "dicom-enhanced")])
def test_no_canary_is_in_the_files(thick: Volume, tmp_path: Path, name: str, form: str) -> None:
    files, warnings = write_thin(thick, tmp_path / name, form)
    assert files
    for path in files:
        data = path.read_bytes().lower()
        assert not [word for word in SECRETS if word.lower() in data]
        assert_no_canary(pydicom.dcmread(path))
        for header in thick.provenance.headers:
            for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"):
                assert str(header[keyword].value).encode() not in data
    assert_no_canary(warnings)


def test_what_the_profile_asks_for_is_there(thick: Volume, tmp_path: Path) -> None:
    files, _ = write_thin(thick, tmp_path / "out", "dicom")
    source = thick.provenance.headers[0]
    for thin in map(pydicom.dcmread, files):
        assert thin.PatientIdentityRemoved == "YES"
        assert thin.LongitudinalTemporalInformationModified == "REMOVED"
        assert "PS3.15" in thin.DeidentificationMethod and len(thin.DeidentificationMethod) <= 64
        (code,) = thin.DeidentificationMethodCodeSequence
        assert (code.CodeValue, code.CodingSchemeDesignator) == ("113100", "DCM")
        assert thin.StudyInstanceUID == replaced_uid(source.StudyInstanceUID)
        assert thin.FrameOfReferenceUID == replaced_uid(source.FrameOfReferenceUID)
        assert {item.ReferencedSOPInstanceUID for item in thin.SourceImageSequence} <= {
            replaced_uid(header.SOPInstanceUID) for header in thick.provenance.headers
        }
        assert not [e for e in thin.iterall() if e.VR in ("DA", "DT", "TM") and e.value]
        assert not [e for e in thin.iterall() if e.tag.is_private]
        assert thin.SeriesDescription == "thinslice 1mm AI, not for diagnosis"
        assert str(thin.PatientName).startswith("Anonymous^") and str(thin.PatientID).startswith("ANON-")
        # What describes the picture stays.
        assert (thin.KVP, thin.ConvolutionKernel, thin.Manufacturer) == (120, "B30f", "Thinslice Tests")
        assert thin.MultienergyCTCharacteristicsSequence[0].MonoenergeticEnergyEquivalent == 40.0
        assert thin.AnatomicRegionSequence[0].CodeMeaning == "Region"
        assert len(thin.AnatomicRegionSequence[0]) == 3 + 1 + 1  # code, energy, UID replaced


def test_series_of_one_study_stay_together_and_runs_agree(tmp_path: Path) -> None:
    found = []
    for number, uid in enumerate(("1.2.3.1", "1.2.3.2", "1.2.3.1")):
        write_series(tmp_path / str(number), shape=(2, 8, 8), uid=uid, study_uid="1.2.3", edit=identify)
        files, _ = write_thin(read_dicom(tmp_path / str(number)), tmp_path / f"out{number}", "dicom")
        found.append(pydicom.dcmread(files[0]))
    assert len({thin.StudyInstanceUID for thin in found}) == len({thin.PatientID for thin in found}) == 1
    assert found[0].SeriesInstanceUID == found[2].SeriesInstanceUID != found[1].SeriesInstanceUID


def test_the_source_and_its_headers_stay_as_they_are(thick: Volume, tmp_path: Path) -> None:
    write_thin(thick, tmp_path / "out", "dicom")
    assert thick.provenance.headers[0].PatientID == WORDS["LO"]


def test_text_burned_into_the_pixels_is_a_warning(tmp_path: Path) -> None:
    def edit(dataset: FileDataset, _: int) -> None:
        dataset.BurnedInAnnotation = "YES"

    write_series(tmp_path / "in", shape=(2, 8, 8), edit=edit)
    _, warnings = write_thin(read_dicom(tmp_path / "in"), tmp_path / "out", "dicom")
    assert [sentence for sentence in warnings if "BurnedInAnnotation" in sentence]


@pytest.mark.parametrize("name", ["out.nii.gz", "out.nii"])
def test_nifti_never_holds_an_identity(thick: Volume, tmp_path: Path, name: str) -> None:
    import gzip

    for deidentify in (False, True):
        place = tmp_path / f"{deidentify}{name}"
        grid = thick.geometry
        with open_writer(place, grid, thick.provenance, hu_range=(-1024, 3071), deidentify=deidentify) as writer:
            writer.write(thick.hu)
        data = place.read_bytes()
        header = (gzip.decompress(data) if name.endswith(".gz") else data)[:352].lower()
        assert not [word for word in SECRETS if word.lower() in header]


@pytest.mark.skipif(not shutil.which("dciodvfy"), reason="dciodvfy (Debian dicom3tools) is not installed")
def test_dciodvfy_finds_no_new_error(tmp_path: Path) -> None:
    write_series(tmp_path / "in", shape=(3, 16, 16))
    files, _ = write_thin(read_dicom(tmp_path / "in"), tmp_path / "out", "dicom")
    assert errors_of(files[0]) <= errors_of(min((tmp_path / "in").iterdir()))


def errors_of(path: Path) -> set[str]:
    run = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False, errors="replace")
    lines = (run.stdout + run.stderr).splitlines()
    assert lines, "dciodvfy printed nothing at all, so it did not run"
    return {line for line in lines if line.startswith("Error")}


def test_every_attribute_that_is_kept_has_a_decision() -> None:
    names = set(KEPT_KEYWORDS)
    assert set(KEPT_WITHOUT_IDENTITY) <= names
    representations = {dictionary_VR(tag_for_keyword(keyword)) for keyword in KEPT_WITHOUT_IDENTITY}
    assert representations.isdisjoint(("PN", "DA", "DT", "TM", "UI"))
    assert all(dictionary_keyword(tag_for_keyword(keyword)) == keyword for keyword in STRUCTURE_KEYWORDS)
    assert CANARY.keys().isdisjoint(KEPT_WITHOUT_IDENTITY)
