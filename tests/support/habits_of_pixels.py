"""Pixels of CT, and the forms of files that hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence

from support.habit import SMALL, Habit, Habits, series, setting, typed_as

HABITS = Habits()


# Pixels and their spacing.


@HABITS.add(says="PixelSpacing is missing")
def pixel_spacing_only_in_private_tags(folder: Path) -> None:
    def edit(dataset: FileDataset, _: int) -> None:
        del dataset["PixelSpacing"]
        block = dataset.private_block(0x0019, "GEMS_ACQU_01", create=True)
        block.add_new(0x1A, "DS", "0.7")
        dataset.ReconstructionDiameter = 24 * 0.7

    series(folder, edit=edit)


@HABITS.add()
def matrix_of_512_by_256(folder: Path) -> None:
    series(folder, shape=(3, 256, 512), spacing_mm=(5.0, 1.4, 0.7))


HABITS["matrix_of_512_by_256"] = Habit(HABITS["matrix_of_512_by_256"].write, slices=3)


@HABITS.add(slices=2, says=None)
def matrix_of_1024(folder: Path) -> None:
    series(folder, shape=(2, 1024, 1024), spacing_mm=(5.0, 0.35, 0.35))


@HABITS.add(read=False, says="MONOCHROME1")
def inverted_grey(folder: Path) -> None:
    series(folder, edit=setting(PhotometricInterpretation="MONOCHROME1"))


@HABITS.add(says=None)
def photometric_interpretation_in_small_letters(folder: Path) -> None:
    series(folder, edit=lambda d, _: typed_as(d, "PhotometricInterpretation", "CS", "monochrome2 "))


@HABITS.add(says="larger values are taken as denser")
def photometric_interpretation_missing(folder: Path) -> None:
    series(folder, edit=setting(PhotometricInterpretation=None))


@HABITS.add(says=None)
def samples_per_pixel_missing(folder: Path) -> None:
    series(folder, edit=setting(SamplesPerPixel=None))


@HABITS.add(says=None)
def modality_in_small_letters(folder: Path) -> None:
    series(folder, edit=lambda d, _: typed_as(d, "Modality", "CS", "ct"))


@HABITS.add()
def sixteen_signed_bits_without_intercept(folder: Path) -> None:
    series(folder, signed=True, intercept=0.0)


@HABITS.add()
def sixteen_signed_bits_with_intercept(folder: Path) -> None:
    series(folder, signed=True, intercept=-1024.0)


for _bits in (12, 13, 14, 15):

    def _of_bits(folder: Path, bits: int = _bits) -> None:
        series(folder, bits_stored=bits, signed=bits % 2 == 1, intercept=0.0 if bits % 2 else -1024.0)

    # 1.0.20260724 of dcm2niix; SimpleITK extends the sign, as DICOM has it.
    _unsigned = "it takes the sign bit of 13 and 15 bits for a value" if _bits % 2 else ""
    HABITS[f"{_bits}_bits_stored"] = Habit(_of_bits, dcm2niix=_unsigned)


@HABITS.add()
def extended_scale_of_metal(folder: Path) -> None:
    hu = np.random.default_rng(1).integers(-1000, 1200, SMALL)
    hu[2, 5:8, 5:8] = 20000
    series(folder, hu=hu, intercept=-8192.0)


@HABITS.add()
def slope_of_10_for_metal(folder: Path) -> None:
    series(folder, slope=10.0, intercept=-10240.0, hu=10 * np.random.default_rng(1).integers(-100, 120, SMALL))


@HABITS.add(says=None)
def half_units(folder: Path) -> None:
    series(folder, slope=0.5, intercept=-1024.5)


@HABITS.add()
def thirty_two_bits(folder: Path) -> None:
    def edit(dataset: FileDataset, _: int) -> None:
        pixels = np.frombuffer(dataset.PixelData, "<u2").astype("<i4") - 1024
        dataset.PixelData = pixels.tobytes()
        dataset.BitsAllocated = dataset.BitsStored = 32
        dataset.HighBit, dataset.PixelRepresentation, dataset.RescaleIntercept = 31, 1, 0

    series(folder, edit=edit)


@HABITS.add()
def signs_written_into_all_16_bits(folder: Path) -> None:
    def edit(dataset: FileDataset, _: int) -> None:
        pixels = np.frombuffer(dataset.PixelData, "<u2").astype("<i4") - 1024
        dataset.PixelData = pixels.astype("<i2").tobytes()
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation, dataset.RescaleIntercept = 12, 11, 1, 0

    series(folder, edit=edit)


@HABITS.add(says=None)
def padding_of_minus_2000(folder: Path) -> None:
    series(folder, signed=True, intercept=-1024.0, padding_raw=-2000)


@HABITS.add(says=None)
def padding_of_minus_2000_as_63536(folder: Path) -> None:
    series(folder, signed=True, intercept=-1024.0, padding_raw=-2000, padding_tag=63536)


@HABITS.add(says=None)
def padding_of_minus_32768(folder: Path) -> None:
    series(folder, signed=True, intercept=0.0, padding_raw=-32768)


@HABITS.add()
def padding_that_equals_air(folder: Path) -> None:
    series(folder, padding_raw=0)


@HABITS.add(says=None)
def padding_over_a_range(folder: Path) -> None:
    series(folder, signed=True, intercept=-1024.0, padding_raw=-2000, edit=setting(PixelPaddingRangeLimit=-1500))


@HABITS.add()
def padding_declared_and_never_used(folder: Path) -> None:
    series(folder, padding_tag=63536)


for _type, _says in (
    (None, ""),
    ("", ""),
    ("hu", None),
    ("HU_MOD", "not plain HU"),
    ("US", "not plain HU"),
):

    def _of_type(folder: Path, rescale: str | None = _type) -> None:
        series(folder, edit=setting(RescaleType=rescale))

    HABITS[f"rescale_type_{_type or ('empty' if _type == '' else 'missing')}"] = Habit(_of_type, says=_says)

for _type in ("Z_EFF", "ED", "EDW", "PCT", "MGML", "OD", "mg/ml"):

    def _of_no_hu(folder: Path, rescale: str = _type) -> None:
        series(folder, edit=setting(RescaleType=rescale))

    HABITS[f"rescale_type_{_type.replace('/', '_')}"] = Habit(_of_no_hu, read=False, says="not HU")


# Forms of files.


@HABITS.add()
def icon_with_pixels_of_its_own(folder: Path) -> None:
    def edit(dataset: FileDataset, _: int) -> None:
        icon = Dataset()
        icon.SamplesPerPixel, icon.PhotometricInterpretation, icon.Rows, icon.Columns = 1, "MONOCHROME2", 4, 4
        icon.BitsAllocated, icon.BitsStored, icon.HighBit, icon.PixelRepresentation = 8, 8, 7, 0
        icon.add_new("PixelData", "OB", bytes(range(16)))
        dataset.IconImageSequence = Sequence([icon])

    series(folder, edit=edit)


@HABITS.add()
def overlay_in_a_group_of_its_own(folder: Path) -> None:
    def edit(dataset: FileDataset, _: int) -> None:
        dataset.add_new(0x60000010, "US", 20)
        dataset.add_new(0x60000011, "US", 24)
        dataset.add_new(0x60000040, "CS", "G")
        dataset.add_new(0x60000050, "SS", [1, 1])
        dataset.add_new(0x60000100, "US", 1)
        dataset.add_new(0x60000102, "US", 0)
        dataset.add_new(0x60003000, "OW", bytes(60))

    series(folder, edit=edit)


@HABITS.add()
def padding_of_the_file_behind_the_pixels(folder: Path) -> None:
    series(folder, edit=lambda d, _: d.add_new(0xFFFCFFFC, "OB", bytes(512)))


@HABITS.add()
def lengths_of_groups(folder: Path) -> None:
    def edit(dataset: FileDataset, _: int) -> None:
        for group in (0x0008, 0x0018, 0x0020, 0x0028):
            dataset.add_new(group << 16, "UL", 400)

    series(folder, edit=edit, transfer_syntax="implicit")


@HABITS.add()
def private_sequences_of_unknown_kind(folder: Path) -> None:
    def edit(dataset: FileDataset, k: int) -> None:
        item = Dataset()
        item.add_new(0x00291008, "LO", "inside")
        block = dataset.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x10, "OB", b"SV10\4\3\2\1" + bytes(1000))
        block.add_new(0x40, "SQ", Sequence([item]))

    series(folder, edit=edit, transfer_syntax="implicit")


@HABITS.add()
def uids_padded_with_spaces(folder: Path) -> None:
    made = series(folder)
    for path in made.files:
        dataset = pydicom.dcmread(path)
        dataset.add_new("SeriesInstanceUID", "UI", str(dataset.SeriesInstanceUID)[:40].rstrip(".") + " ")
        dataset.save_as(path)


@HABITS.add()
def names_in_letters_of_any_case(folder: Path) -> None:
    series(folder, edit=lambda d, k: setattr(d, "PatientName", "Kanarienvogel^Gelb" + "^" * (k % 3)))


@HABITS.add()
def one_frame_that_is_counted(folder: Path) -> None:
    series(folder, edit=setting(NumberOfFrames=1))


@HABITS.add()
def a_tilt_that_is_no_number(folder: Path) -> None:
    series(folder, edit=lambda d, _: typed_as(d, "GantryDetectorTilt", "DS", "NaN"))


@HABITS.add(says=None)
def frame_of_reference_in_some_slices(folder: Path) -> None:
    series(folder, edit=lambda d, k: setting(FrameOfReferenceUID=None)(d, k) if k == 2 else None)


@HABITS.add()
def reformats_with_a_derivation(folder: Path) -> None:
    series(folder, edit=setting(ImageType=["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]))


@HABITS.add(says="projections")
def maximum_intensity_projections(folder: Path) -> None:
    series(folder, edit=setting(ImageType=["DERIVED", "SECONDARY", "MIP"]))


@HABITS.add()
def compressed_with_jpeg_lossless(folder: Path) -> None:
    import gdcm

    made = series(folder)
    for path in made.files:
        reader = gdcm.ImageReader()
        reader.SetFileName(str(path))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(path))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
