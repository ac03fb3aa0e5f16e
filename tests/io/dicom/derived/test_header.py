"""One test for each thing that a right derived header says of itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag
from pydicom.uid import JPEG2000, UID, JPEGBaseline8Bit

from support.derived_series import NOW, WEIGHTS, Source, derive, edited, item, provenance_of, read_source
from support.dicom_factory import CANARY, write_series
from thinslice.errors import OutputError, UsageError
from thinslice.geometry import Geometry
from thinslice.io.dicom.derived.derivation import derivation_time
from thinslice.io.dicom.derived.header import OWN_KEYWORDS, DerivedSeries
from thinslice.volume import Derivation, Provenance

COPIED: dict[str, object] = {
    "PatientName": CANARY["PatientName"],
    "PatientID": CANARY["PatientID"],
    "PatientBirthDate": CANARY["PatientBirthDate"],
    "PatientSex": "O",
    "PatientAge": "058Y",
    "IssuerOfPatientID": "ISSUER",
    "PatientIdentityRemoved": "NO",
    "StudyDate": CANARY["StudyDate"],
    "StudyTime": CANARY["StudyTime"],
    "StudyID": CANARY["StudyID"],
    "StudyDescription": CANARY["StudyDescription"],
    "AccessionNumber": CANARY["AccessionNumber"],
    "ReferringPhysicianName": CANARY["ReferringPhysicianName"],
    "InstitutionName": CANARY["InstitutionName"],
    "Manufacturer": "Thinslice Tests",
    "ManufacturerModelName": "Scanner 1",
    "SoftwareVersions": "7.1",
    "StationName": CANARY["StationName"],
    "BodyPartExamined": "CHEST",
    "ProtocolName": CANARY["ProtocolName"],
    "PatientPosition": "HFS",
    "Modality": "CT",
    "KVP": 120,
    "ConvolutionKernel": "B30f",
    "FilterType": "0",
    "ScanOptions": "HELIX",
    "ReconstructionDiameter": 350,
    "DataCollectionDiameter": 500,
    "TableHeight": 94,
    "RotationDirection": "CW",
    "ContrastBolusAgent": "Agent",
    "ContrastBolusTotalDose": 80,
    "AcquisitionDate": CANARY["AcquisitionDate"],
    "AcquisitionTime": "120000.5",
    "AcquisitionDateTime": "19991231120000",
    "AcquisitionNumber": 1,
    "WindowCenter": [60, -600],
    "WindowWidth": [350, 1500],
    "WindowCenterWidthExplanation": ["SOFT", "LUNG"],
    "BurnedInAnnotation": "NO",
    "TimezoneOffsetFromUTC": "+0100",
    "SpecificCharacterSet": "ISO_IR 100",
    "PixelSpacing": [0.7, 0.7],
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
}
"""Attributes of the source that a thin slice must say unchanged, with the value that the source below has."""

NEW: dict[str, object] = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    "ImageType": ["DERIVED", "SECONDARY", "AXIAL"],
    "SliceThickness": 1,
    "SpacingBetweenSlices": 1,
    "SeriesNumber": 2905,
    "SeriesDate": "20260203",
    "SeriesTime": "040506",
    "ContentDate": "20260203",
    "ContentTime": "040506",
    "InstanceCreationDate": "20260203",
    "InstanceCreationTime": "040506",
    "Rows": 32,
    "Columns": 32,
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 1,
    "RescaleSlope": 1,
    "RescaleIntercept": 0,
    "RescaleType": "HU",
}
"""Attributes that must be as derived, whatever the source says (it says something else for each)."""

DROPPED: dict[str, object] = {
    "Exposure": 150,
    "ExposureInmAs": 150.5,
    "ExposureInuAs": 150500,
    "ExposureTime": 330,
    "ExposureTimeInms": 330.5,
    "XRayTubeCurrent": 188,
    "XRayTubeCurrentInmA": 188.5,
    "CTDIvol": 10.6,
    "GeneratorPower": 56,
    "ExposureModulationType": "XYZ_EC",
    "EstimatedDoseSaving": 29.7,
    "IrradiationEventUID": "1.2.3.4",
    "WaterEquivalentDiameter": 250.5,
    "TablePosition": 17.5,
    "DataCollectionCenterPatient": [0.0, 0.0, 7.0],
    "ReconstructionTargetCenterPatient": [0.0, 0.0, 7.0],
    "SmallestImagePixelValue": 3,
    "LargestImagePixelValue": 4,
    "SmallestPixelValueInSeries": 3,
    "LargestPixelValueInSeries": 4,
    "PixelPaddingRangeLimit": 9,
    "ImageComments": "of this slice alone",
    "ReferencedRawDataSequence": [item(ReferencedSOPInstanceUID="1.2.3")],
    "ReferencedImageSequence": [item(ReferencedSOPInstanceUID="1.2.3")],
    "ReferencedPresentationStateSequence": [item(ReferencedSOPInstanceUID="1.2.3")],
    "OriginalAttributesSequence": [item(ModifyingSystem="x")],
    "IconImageSequence": [item(Rows=1)],
    "VOILUTSequence": [item(LUTExplanation="x")],
    "ModalityLUTSequence": [item(LUTExplanation="x")],
    "MACParametersSequence": [item(MACIDNumber=1)],
    "EncryptedAttributesSequence": [item(EncryptedContentTransferSyntaxUID="1.2.840.10008.1.2")],
    "CTDIPhantomTypeCodeSequence": [item(CodeValue="1")],
    "CTExposureSequence": [item(CTDIvol=10.6)],
    "PerformedProcedureStepID": "P1",
    "StorageMediaFileSetUID": "1.2.3",
}
"""Attributes that must not come along, with the value that the source has."""


def enrich(dataset: FileDataset, depth_index: int) -> None:
    """Make a slice of the test series say everything named above, and more that must not come along."""
    for keyword, value in {**COPIED, **DROPPED}.items():
        if keyword in ("SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingRangeLimit") or (
            keyword.endswith("PixelValueInSeries")
        ):
            dataset.add_new(keyword, "US", value)
        elif keyword not in ("PixelSpacing", "ImageOrientationPatient"):
            setattr(dataset, keyword, value)
    dataset.SeriesDate, dataset.SeriesTime, dataset.ContentTime = "19991231", "111111", "111111"
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = "19991231", "111111"
    dataset.SpacingBetweenSlices = 5
    private = dataset.private_block(0x0029, "THINSLICE TEST", create=True)
    private.add_new(0x01, "LO", "private")
    dataset.add_new(0x60000010, "US", 1)
    dataset.add_new(0x60003000, "OW", b"\0\0")
    dataset.add_new(0x50000005, "US", 1)
    dataset.RequestAttributesSequence = [item(RequestedProcedureID="R1")]
    nested = dataset.RequestAttributesSequence[0].private_block(0x0031, "THINSLICE TEST", create=True)
    nested.add_new(0x02, "LO", "nested private")
    dataset.ContributingEquipmentSequence = [item(Manufacturer="earlier")]
    dataset.SourceImageSequence = [item(ReferencedSOPInstanceUID="1.2.3.999")]
    dataset.DerivationDescription = "theirs"
    dataset.ImageComments = f"of this slice alone {depth_index}"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return read_source(write_series(tmp_path_factory.mktemp("rich"), edit=enrich, intercept=-1000).files)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return read_source(write_series(tmp_path_factory.mktemp("plain"), shape=(4, 16, 16)).files)


@pytest.fixture(scope="module")
def headers(source: Source) -> list[Dataset]:
    series = derive(source)
    return [series.header(j) for j in range(len(series))]


def same(value: object, expected: object) -> bool:
    if isinstance(expected, list):
        return [str(v) for v in value] == [str(e) for e in expected] or [float(v) for v in value] == expected  # type: ignore[attr-defined]
    if isinstance(expected, int | float):
        return float(value) == float(expected)  # type: ignore[arg-type]
    return str(value) == expected


@pytest.mark.parametrize("keyword", COPIED)
def test_patient_study_scanner_and_acquisition_are_the_sources(
    keyword: str, source: Source, headers: list[Dataset]
) -> None:
    assert same(source.headers[0][keyword].value, COPIED[keyword]), "the source must say it, or this proves nothing"
    assert all(same(header[keyword].value, COPIED[keyword]) for header in headers)


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_study_and_frame_of_reference_are_the_sources(keyword: str, source: Source, headers: list[Dataset]) -> None:
    assert {header[keyword].value for header in headers} == {source.headers[0][keyword].value}


@pytest.mark.parametrize("keyword", NEW)
def test_what_describes_the_thin_slice_is_new(keyword: str, headers: list[Dataset]) -> None:
    assert all(same(header[keyword].value, NEW[keyword]) for header in headers)


@pytest.mark.parametrize("keyword", DROPPED)
def test_dose_signatures_and_references_are_dropped(keyword: str, source: Source, headers: list[Dataset]) -> None:
    assert keyword in source.headers[0], "the source must say it, or this proves nothing"
    assert not any(keyword in header for header in headers)


def test_private_groups_and_overlays_are_dropped_at_every_depth(source: Source, headers: list[Dataset]) -> None:
    assert any(element.tag.is_private for element in source.headers[0].RequestAttributesSequence[0])
    for header in headers:
        tags = [element.tag for element in header.iterall()]
        assert not any(tag.is_private or tag.group in range(0x5000, 0x6100) for tag in tags)
        assert header.RequestAttributesSequence[0].RequestedProcedureID == "R1"
    assert Tag(0x60003000) in source.headers[0]


def test_digital_signatures_are_dropped_at_every_depth(plain: Source) -> None:
    signature = [item(DigitalSignatureUID="1.2.3")]
    signed = edited(
        plain,
        DigitalSignaturesSequence=signature,
        RequestAttributesSequence=[item(RequestedProcedureID="R1", DigitalSignaturesSequence=signature)],
    )
    header = derive(signed).header(0)
    assert "RequestAttributesSequence" in header
    assert not any(element.tag.group == 0xFFFA for element in header.iterall())


def test_uids_are_new_and_file_meta_agrees(source: Source, headers: list[Dataset]) -> None:
    instances = [header.SOPInstanceUID for header in headers]
    assert len(set(instances)) == len(headers) == 26
    assert not set(instances) & {header.SOPInstanceUID for header in source.headers}
    assert {header.SeriesInstanceUID for header in headers}.isdisjoint({source.headers[0].SeriesInstanceUID})
    assert len({header.SeriesInstanceUID for header in headers}) == 1
    for header in headers:
        assert header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID
        assert header.file_meta.MediaStorageSOPClassUID == header.SOPClassUID
        assert header.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
        assert header.SOPInstanceUID.is_valid
        assert header.SeriesInstanceUID.is_valid


def test_uids_do_not_depend_on_the_run(plain: Source) -> None:
    first, second = derive(plain), derive(edited(plain))
    assert first.series_uid == second.series_uid
    assert [first.header(j).SOPInstanceUID for j in range(3)] == [second.header(j).SOPInstanceUID for j in range(3)]
    # Frozen: another machine or a later version of a library must give this very UID.
    fixed = DerivedSeries(
        Geometry((2, 1, 1), (1.0, 1.0, 1.0)),
        Provenance("dicom", headers=(Dataset(),), derivation=Derivation("m", "1", None, 1)),
        now=NOW,
    )
    assert fixed.series_uid.startswith("1.2.826.0.1.3680043.8.498.")
    assert len(fixed.series_uid) <= 64


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"model_version": "1.1"},
        {"weights_sha256": "f" * 64},
        {"weights_sha256": None},
        {"settings": {"plan": "paper"}},
        {"factor": 4},
    ],
    ids=str,
)
def test_uids_depend_on_weights_and_settings(plain: Source, change: dict[str, object]) -> None:
    before, after = derive(plain), derive(plain, **change)
    assert before.series_uid != after.series_uid
    assert before.header(0).SOPInstanceUID != after.header(0).SOPInstanceUID


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"])
def test_uids_depend_on_the_sources(plain: Source, keyword: str) -> None:
    assert derive(plain).series_uid != derive(edited(plain, **{keyword: "1.2.3"})).series_uid


def test_uids_depend_on_the_grid(plain: Source) -> None:
    cropped = replace(plain, geometry=plain.geometry.crop((0, 2, 0), (4, 16, 16)))
    assert derive(plain).series_uid != derive(cropped).series_uid


def test_derivation_is_described_and_coded(headers: list[Dataset]) -> None:
    for header in headers:
        text = header.DerivationDescription
        for word in ("5 mm to 1 mm", "factor 5", "thinnet 1.0", WEIGHTS, "Not for diagnosis", "overlap"):
            assert word in text
        assert len(text) <= 1024
        (code,) = header.DerivationCodeSequence
        assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == (
            "113085",
            "DCM",
            "Spatial resampling",
        )


def test_contributing_equipment_names_software_version_and_weights(headers: list[Dataset]) -> None:
    for header in headers:
        earlier, ours = header.ContributingEquipmentSequence
        assert earlier.Manufacturer == "earlier"
        (purpose,) = ours.PurposeOfReferenceCodeSequence
        assert (purpose.CodeValue, purpose.CodingSchemeDesignator, purpose.CodeMeaning) == (
            "109102",
            "DCM",
            "Processing Equipment",
        )
        assert ours.ManufacturerModelName == "thinslice"
        assert list(ours.SoftwareVersions) == ["0.1.0", "thinnet 1.0", WEIGHTS]
        assert all(len(version) <= 64 for version in ours.SoftwareVersions)
        assert ours.ContributionDateTime == "20260203040506+0000"
        assert "Not for diagnosis" in ours.ContributionDescription


def test_times_are_in_the_sources_zone_and_the_contribution_in_utc(
    plain: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    zoned = edited(plain, TimezoneOffsetFromUTC="+0530")
    header = DerivedSeries(zoned.geometry.thin_grid(5), provenance_of(zoned)).header(0)
    assert (header.SeriesDate, header.SeriesTime) == ("20231115", "034320")
    assert header.ContributingEquipmentSequence[0].ContributionDateTime == "20231114221320+0000"


def test_long_settings_and_names_stay_within_their_attributes(plain: Source) -> None:
    series = derive(plain, settings={"key": "ü\\" * 2000}, model="m" * 200 + "\\")
    header = series.header(0)
    assert len(header.DerivationDescription) <= 1024
    assert "Not for diagnosis" in header.DerivationDescription
    assert all(len(v) <= 64 for v in header.ContributingEquipmentSequence[0].SoftwareVersions)
    assert len(header.ContributingEquipmentSequence[0].SoftwareVersions) == 3


@pytest.mark.parametrize(
    ("theirs", "kept"),
    [
        ("Chest 5.0 B30f", "Chest 5.0 B30f "),
        ("Chest 5 mm abc", "Chest 5 mm abc "),
        (None, ""),
        (["two", "values"], "two values "),
    ],
    ids=["short", "middle", "none", "two"],
)
def test_series_description_says_what_it_is(plain: Source, theirs: object, kept: str) -> None:
    text = derive(edited(plain, SeriesDescription=theirs)).header(0).SeriesDescription
    assert text == f"{kept}thinslice 1mm AI, not for diagnosis"
    assert len(text) <= 64


@pytest.mark.parametrize("energy", ["40 keV", "190 keV"])
def test_a_long_series_description_keeps_both_ends(plain: Source, energy: str) -> None:
    theirs = f"Monoenergetic Plus Abdomen portal venous 1.5 Qr40 {energy}"
    text = derive(edited(plain, SeriesDescription=theirs)).header(0).SeriesDescription
    assert text.startswith("Monoenergetic Plus") and f"{energy} 1mm AI, not for diagnosis" in text
    assert len(text) <= 64


def test_no_weights_means_no_claim_of_ai(plain: Source) -> None:
    header = derive(edited(plain, SeriesDescription="Chest"), weights_sha256=None, model="linear").header(0)
    assert header.SeriesDescription.endswith("thinslice 1mm interpolated, not for diagnosis")
    assert "no trained weights" in header.DerivationDescription
    assert list(header.ContributingEquipmentSequence[0].SoftwareVersions) == ["0.1.0", "linear 1.0"]


@pytest.mark.parametrize(("number", "expected"), [(3, 3905), (None, 905), (2**31 - 1, 905), (-1, 905)])
def test_series_number_is_new_and_fits(plain: Source, number: int | None, expected: int) -> None:
    assert derive(edited(plain, SeriesNumber=number)).header(0).SeriesNumber == expected


def test_an_uneven_factor_rounds_thickness_to_a_micrometre(plain: Source) -> None:
    header = derive(plain, 3).header(1)
    assert str(header.SliceThickness) == str(header.SpacingBetweenSlices) == "1.666667"


@pytest.mark.parametrize(
    ("flag", "syntax", "expected"),
    [
        (None, None, None),
        ("00", None, "00"),
        ("01", None, "01"),
        (None, JPEGBaseline8Bit, "01"),
        ("00", JPEGBaseline8Bit, "01"),
        (None, JPEG2000, "01"),
        ("00", JPEG2000, "00"),
    ],
)
def test_lossy_compression_is_carried(
    plain: Source, flag: str | None, syntax: UID | None, expected: str | None
) -> None:
    lossy = edited(plain)
    if flag:
        lossy.headers[2].LossyImageCompression = flag
    if flag == "01":
        lossy.headers[2].LossyImageCompressionRatio = [7.5, 2.0]
        lossy.headers[2].LossyImageCompressionMethod = ["ISO_15444_1", "ISO_10918_1"]
    if syntax:
        lossy.headers[2].file_meta.TransferSyntaxUID = syntax
    header = derive(lossy).header(0)
    assert header.get("LossyImageCompression") == expected
    if flag == "01":
        assert list(header.LossyImageCompressionRatio) == [7.5, 2.0]
        assert list(header.LossyImageCompressionMethod) == ["ISO_15444_1", "ISO_10918_1"]
    elif expected == "01":
        assert header.LossyImageCompressionMethod == ("ISO_10918_1" if syntax == JPEGBaseline8Bit else "ISO_15444_1")


def test_times_follow_source_date_epoch(monkeypatch: pytest.MonkeyPatch, plain: Source) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert f"{derivation_time():%Y%m%d %H%M%S}" == "20231114 221320"
    assert f"{derivation_time('+0530'):%Y%m%d %H%M%S}" == "20231115 034320"
    assert f"{derivation_time('nonsense'):%H%M}" == "2213"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(UsageError, match="SOURCE_DATE_EPOCH"):
        DerivedSeries(plain.geometry.thin_grid(5), provenance_of(plain))
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert abs((derivation_time() - datetime.now(UTC)).total_seconds()) < 5


def test_own_attributes_are_exactly_those_that_differ(plain: Source) -> None:
    series = derive(plain)
    first, second = series.header(1), series.header(2)
    differing = [element.keyword for element in first if second[element.tag] != element]
    assert sorted(differing) == sorted(set(OWN_KEYWORDS) - {"SourceImageSequence"})


def test_no_headers_or_no_derivation_is_refused(plain: Source) -> None:
    provenance = provenance_of(plain)
    for wrong in (replace(provenance, headers=()), replace(provenance, derivation=None)):
        with pytest.raises(OutputError, match=r"\.nii\.gz"):
            DerivedSeries(plain.geometry.thin_grid(5), wrong)


def test_a_slice_outside_the_series_is_refused(plain: Source) -> None:
    series = derive(plain)
    for index in (-1, len(series)):
        with pytest.raises(OutputError, match="outside the series"):
            series.header(index)
