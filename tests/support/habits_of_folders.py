"""Folders that hold more than one scan, or more than CT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from support.habit import SMALL, Edit, Habits, series, setting

HABITS = Habits()


# Other objects beside the slices.


@HABITS.add(says="left out")
def localizer_numbered_among_the_slices(folder: Path) -> None:
    made = series(folder, first_instance=2)
    series(
        folder,
        shape=(1, 20, 24),
        orientation="coronal",
        prefix="scout",
        seed=9,
        uid=made.uid,
        study_uid=made.study_uid,
        edit=setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
    )


@HABITS.add(says="left out")
def localizer_that_does_not_say_so(folder: Path) -> None:
    made = series(folder, first_instance=2)
    series(
        folder,
        shape=(1, 40, 24),
        orientation="coronal",
        prefix="scout",
        seed=9,
        uid=made.uid,
        study_uid=made.study_uid,
        edit=setting(ImageType=["ORIGINAL", "PRIMARY"]),
    )


@HABITS.add(says=None)
def localizer_in_a_series_of_its_own(folder: Path) -> None:
    made = series(folder)
    series(
        folder,
        shape=(2, 40, 24),
        orientation="sagittal",
        prefix="scout",
        seed=9,
        study_uid=made.study_uid,
        edit=setting(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesNumber=1),
    )


def _report(folder: Path, name: str, made: Any, uid: str | None) -> None:
    dataset = pydicom.dcmread(made.files[0])
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"):
        del dataset[keyword]
    for keyword in ("SamplesPerPixel", "PhotometricInterpretation", "ImagePositionPatient", "ImageOrientationPatient"):
        del dataset[keyword]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.67"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[name])
    dataset.SeriesInstanceUID = uid or generate_uid(entropy_srcs=[name, "series"])
    dataset.Modality, dataset.SeriesNumber = "SR", 997
    item = Dataset()
    item.ValueType, item.TextValue = "TEXT", "CTDIvol"
    dataset.ContentSequence = Sequence([item])
    dataset.save_as(folder / name)


@HABITS.add(says=None)
def dose_report_in_the_folder(folder: Path) -> None:
    _report(folder, "dose.dcm", series(folder), None)


@HABITS.add(says=None)
def dose_report_in_the_series(folder: Path) -> None:
    made = series(folder)
    _report(folder, "dose.dcm", made, made.uid)


@HABITS.add(says=None)
def screen_shot_of_the_protocol_in_the_series(folder: Path) -> None:
    made = series(folder)

    def edit(dataset: FileDataset, _: int) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
        dataset.ConversionType, dataset.InstanceNumber = "WSD", 999
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset.PixelData = bytes(int(dataset.Rows) * int(dataset.Columns) * 3)
        dataset["PixelData"].VR = "OB"
        for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "RescaleSlope", "RescaleIntercept"):
            del dataset[keyword]

    series(folder, shape=(1, 20, 24), prefix="shot", seed=9, uid=made.uid, study_uid=made.study_uid, edit=edit)


@HABITS.add(says=None)
def pet_of_a_pet_ct(folder: Path) -> None:
    made = series(folder / "CT")

    def edit(dataset: FileDataset, k: int) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.128"
        dataset.Modality, dataset.Units, dataset.SeriesNumber = "PT", "BQML", 3
        dataset.RescaleSlope, dataset.RescaleIntercept = 1.5 + k, 0
        del dataset["RescaleType"]

    series(folder / "PT", seed=4, study_uid=made.study_uid, prefix="pet", edit=edit)


@HABITS.add(says=None)
def mr_of_another_day_in_the_folder(folder: Path) -> None:
    series(folder / "a")

    def edit(dataset: FileDataset, _: int) -> None:
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
        dataset.Modality = "MR"
        for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
            del dataset[keyword]

    series(folder / "b", seed=4, edit=edit)


@HABITS.add(read=False, says="not a CT image")
def pet_under_the_class_of_ct(folder: Path) -> None:
    series(folder, edit=setting(Modality="PT"))


@HABITS.add(says=None)
def droppings_of_operating_systems(folder: Path) -> None:
    made = series(folder)
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(600))
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1" + bytes(100))
    (folder / f"._{made.files[0].name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(100))
    (folder / "desktop.ini").write_text("[.ShellClassInfo]\n")


@HABITS.add(says="more than once")
def the_same_files_copied_twice(folder: Path) -> None:
    made = series(folder / "IMAGES")
    copy = folder / "Kopie von IMAGES"
    copy.mkdir()
    for file in made.files:
        (copy / file.name).write_bytes(file.read_bytes())


@HABITS.add()
def dicomdir_beside_names_of_eight_letters(folder: Path) -> None:
    made = series(folder / "DICOM" / "PA000001" / "ST000001", prefix="IM00", suffix="")
    meta = pydicom.dcmread(made.files[0]).file_meta
    meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    index = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    index.FileSetID = "CD"
    index.DirectoryRecordSequence = Sequence([])
    index.save_as(folder / "DICOMDIR")


# Several scans under one SeriesInstanceUID.


def _twice(folder: Path, one: Edit, other: Edit, *, start: tuple[int, int] = (1, 1), **facts: Any) -> None:
    made = series(folder / "a", edit=one, first_instance=start[0])
    series(
        folder / "b",
        edit=other,
        seed=5,
        uid=made.uid,
        study_uid=made.study_uid,
        first_instance=start[1],
        **facts,
    )


@HABITS.add(read=False, says="There are 2 CT series or parts")
def two_energies_by_description_alone(folder: Path) -> None:
    _twice(
        folder,
        setting(SeriesDescription="GSI Mono 50 keV"),
        setting(SeriesDescription="GSI Mono 140 keV"),
        start=(1, 7),
    )


@HABITS.add(read=False, says="There are 2 CT series or parts")
def two_energies_by_an_image_comment(folder: Path) -> None:
    _twice(folder, setting(ImageComments="E = 70 keV"), setting(ImageComments="E = 190 keV"))


@HABITS.add(read=False, says="There are 2 CT series or parts")
def two_tube_voltages(folder: Path) -> None:
    _twice(folder, setting(KVP=80), setting(KVP=140))


@HABITS.add(read=False, says="There are 2 CT series or parts")
def two_fields_of_view(folder: Path) -> None:
    _twice(
        folder,
        setting(ReconstructionDiameter=350),
        setting(ReconstructionDiameter=500),
        start=(1, 7),
        spacing_mm=(5.0, 1.0, 1.0),
    )


def _phases(folder: Path, edit: Callable[[FileDataset, int, int], None], phases: int = 4) -> None:
    made = None
    for phase in range(phases):
        made = series(
            folder / f"{phase}",
            seed=phase,
            prefix=f"p{phase}_",
            uid=made.uid if made else None,
            study_uid=made.study_uid if made else None,
            first_instance=1 + SMALL[0] * phase,
            edit=lambda dataset, k, phase=phase: edit(dataset, k, phase),
        )


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600:02d}{whole // 60 % 60:02d}{whole % 60:02d}.{round((seconds - whole) * 1e6):06d}"


@HABITS.add(read=False, says="There are 4 CT series or parts")
def breathing_phases_by_acquisition_time_alone(folder: Path) -> None:
    _phases(folder, lambda d, k, phase: setattr(d, "AcquisitionTime", _clock(36000 + 3.0 * k + 0.4 * phase)))


@HABITS.add(read=False, says="There are 4 CT series or parts")
def breathing_phases_by_content_time_alone(folder: Path) -> None:
    _phases(folder, lambda d, k, phase: setattr(d, "ContentTime", _clock(40000 + 60 * phase + 0.5 * k)))


@HABITS.add(read=False, says="There are 4 CT series or parts")
def breathing_phases_by_number_alone(folder: Path) -> None:
    _phases(folder, lambda d, k, phase: None)


@HABITS.add(read=False, says="two phases or reconstructions")
def breathing_phases_by_nothing(folder: Path) -> None:
    _phases(folder, lambda d, k, phase: setting(InstanceNumber=k + 1)(d, k))


@HABITS.add(read=False, says="There are 4 CT series or parts")
def cine_at_each_couch_position(folder: Path) -> None:
    """At each couch position two slices are scanned four times, then the couch moves on."""

    def edit(dataset: FileDataset, k: int, phase: int) -> None:
        couch = k // 2
        dataset.InstanceNumber = 1 + couch * 8 + phase * 2 + k % 2
        dataset.AcquisitionNumber = couch + 1
        dataset.AcquisitionTime = _clock(36000 + 20 * couch + 0.5 * phase)
        dataset.ContentTime = _clock(36100 + 20 * couch + 0.5 * phase)

    _phases(folder, edit)


@HABITS.add(read=False, says="There are 2 CT series or parts")
def chest_and_abdomen_that_overlap(folder: Path) -> None:
    """Two scans on one grid: two positions occur in both."""
    made = series(folder / "chest", edit=setting(AcquisitionNumber=1, ContrastBolusAgent="IV"))
    series(
        folder / "abdomen",
        seed=5,
        uid=made.uid,
        study_uid=made.study_uid,
        origin_mm=(-112.3, -98.7, 41.25 + 4 * 5.0),
        first_instance=7,
        edit=setting(AcquisitionNumber=2, ContrastBolusAgent="IV"),
    )
