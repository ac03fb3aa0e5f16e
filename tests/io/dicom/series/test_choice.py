"""Which series is read: by number, SeriesNumber, UID or a part of it, or the only one that can be meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from support.derived_series import read_source, write_derived
from support.dicom_factory import assert_no_canary, write_series
from thinslice.errors import InputError, SeriesChoiceError
from thinslice.io.dicom.read import read_dicom, scan
from thinslice.io.dicom.series.facts import description_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


def numbered(number: int, description: str = "Chest"):
    def label(dataset, k: int) -> None:
        dataset.SeriesNumber, dataset.SeriesDescription = number, description

    return label


def test_every_name_of_a_series_chooses_it(tmp_path: Path) -> None:
    one = write_series(tmp_path / "a", shape=(4, 8, 8), uid="1.2.3.1111", seed=1, edit=numbered(7, "Lung"))
    two = write_series(tmp_path / "b", shape=(4, 8, 8), uid="1.2.3.2222", seed=2, edit=numbered(1, "Abdomen"))
    with pytest.raises(SeriesChoiceError, match="series="):
        read_dicom(tmp_path)
    for name, made in (("7", one), ("2", two), ("1.2.3.2222", two), (".1111", one), ("abdom", two)):
        np.testing.assert_array_equal(read_dicom(tmp_path, series=name).hu, made.hu)
    volume = read_dicom(tmp_path, series="1")  # the number in the list goes before SeriesNumber
    np.testing.assert_array_equal(volume.hu, one.hu)
    assert any("SeriesNumber 1 is 1.2.3.2222" in warning for warning in volume.provenance.warnings)
    for name in ("1.2.3", "nothing", "99"):
        with pytest.raises(SeriesChoiceError, match="1: 1.2.3.1111"):
            read_dicom(tmp_path, series=name)


def test_the_only_eligible_series_is_taken_and_named(tmp_path: Path) -> None:
    thick = write_series(tmp_path / "a", shape=(4, 8, 8), uid="1.2.3.1")
    write_series(tmp_path / "b", shape=(9, 8, 8), spacing_mm=(1.0, 0.7, 0.7), uid="1.2.3.2")
    volume = read_dicom(tmp_path)
    np.testing.assert_array_equal(volume.hu, thick.hu)
    assert any("only one that can be upscaled" in line and "1.2.3.1" in line for line in volume.provenance.warnings)


def test_our_own_series_is_passed_over_unless_it_is_named(tmp_path: Path) -> None:
    made = write_series(tmp_path / "a", shape=(4, 16, 16))
    write_derived(read_source(made.files), tmp_path / "thin")
    np.testing.assert_array_equal(read_dicom(tmp_path).hu, made.hu)
    derived = next(report for report in scan(tmp_path) if report.derived)
    assert read_dicom(tmp_path, series=derived.series_uid).geometry.shape[0] == 16


@pytest.mark.parametrize(
    ("description", "shown"),
    [
        ("Thx *03.02.61 5mm", "Thx 5mm"),
        ("Thx geb.03.02.61 5mm", "Thx 5mm"),
        ("Thx *1961 DOB:1961-02-03 born:2/3/61. 5mm B30f", "Thx 5mm B30f"),
        ("Thorax 5.0 B30f", "Thorax 5.0 B30f"),
        ("Kanarienvogel Chest 1.5", "Chest 1.5"),
        ("Chest gelb", "Chest"),
        ("CANARY-ID-471147 abdomen", "abdomen"),
        ("Head 07.03.1917 seq", "Head seq"),
        ("Head 19991231", "Head"),
        ("Chest^Kanarienvogel", ""),
        ("Chest Íanarienvogel Kanarienfogel", "Chest"),
    ],
)
def test_a_description_loses_what_identifies(tmp_path: Path, description: str, shown: str) -> None:
    made = write_series(tmp_path, shape=(2, 8, 8), edit=numbered(1, description))
    assert description_of(pydicom.dcmread(made.files[0])) == shown


@pytest.mark.parametrize("lost", ["PatientName", "PatientID"])
def test_without_a_name_or_number_to_compare_only_ordinary_words_are_shown(tmp_path: Path, lost: str) -> None:
    description = "Chest B30f Kanarienvogel 1.25mm Brustkorb"
    made = write_series(tmp_path, shape=(2, 8, 8), edit=numbered(1, description))
    header = pydicom.dcmread(made.files[0])
    assert description_of(header) == "Chest B30f 1.25mm Brustkorb"
    header[lost].value = ""
    assert description_of(header) == "Chest B30f 1.25mm"
    del header[lost]
    assert description_of(header) == "Chest B30f 1.25mm"


@pytest.mark.parametrize(
    ("name", "character_set", "description", "shown"),
    [
        ("Li^Na", "ISO_IR 100", "LiNa chest", "chest"),
        ("Li^Na", "ISO_IR 100", "chest NALI", "chest"),
        ("Doe^Jane", "ISO_IR 100", "D O E chest", "chest"),
        ("Doe^Jane", "ISO_IR 100", "J.D. chest", "chest"),
        ("Doe^Jane", "ISO_IR 100", "chest 07MAR1917 57y", "chest"),
        ("Doe^Jane", "ISO_IR 100", "chest March 1917", "chest March"),
        ("Doe^Jane", "ISO_IR 100", "chest 3 x 5 mm 120 kV", "chest 3 x 5 mm 120 kV"),
        ("Doe^Jane", "ISO_IR 192", "D\u200boe chest", "chest"),
        ("M\u00fcller^Eva", "ISO_IR 192", "M\u00fcller Thorax", "Thorax"),
        ("M\u00fcller^Eva", "ISO_IR 192", "M\u00dcLLER\u00b4S Thorax", "Thorax"),
        ("\u738b^\u5c0f\u660e", "ISO_IR 192", "\u738b\u5c0f\u660e chest", "chest"),
        ("\uae40^\ucca0\uc218", "ISO_IR 192", "chest \uae40\ucca0\uc218", "chest"),
        (
            "\u0418\u0432\u0430\u043d\u043e\u0432^\u041f",
            "ISO_IR 192",
            "chest \u0418\u0432\u0430\u043d\u043e\u0432\u0430",
            "chest",
        ),
    ],
)
def test_a_name_in_other_spellings_is_left_out(
    tmp_path: Path, name: str, character_set: str, description: str, shown: str
) -> None:
    def named(dataset, k: int) -> None:
        dataset.SpecificCharacterSet, dataset.PatientName = character_set, name
        dataset.SeriesDescription = description

    made = write_series(tmp_path, shape=(2, 8, 8), edit=named)
    assert description_of(pydicom.dcmread(made.files[0])) == shown


def test_bytes_that_do_not_fit_their_character_set_are_compared_too(tmp_path: Path) -> None:
    made = write_series(tmp_path, shape=(2, 8, 8), edit=numbered(1, "Kanarienvogel"))
    data = made.files[0].read_bytes().replace(b"Kanarienvogel", b"K\xe4n\xc3\xa4rienvog")
    made.files[0].write_bytes(data.replace(b"ISO_IR 100", b"ISO_IR 192"))
    assert description_of(pydicom.dcmread(made.files[0])) == ""


@pytest.mark.parametrize("keyword", ["ConvolutionKernel", "Manufacturer", "PhotometricInterpretation", "StackID"])
def test_an_identity_in_an_attribute_that_is_shown_is_left_out(tmp_path: Path, keyword: str) -> None:
    """As where an export or damage put a value into the wrong attribute."""

    def misplaced(dataset, k: int) -> None:
        if k > 2 or keyword == "Manufacturer":
            setattr(dataset, keyword, "KANARIENVOGEL 471147"[: 16 if keyword != "Manufacturer" else None])

    write_series(tmp_path, shape=(6, 16, 16), edit=misplaced)
    shown = [*map(str, scan(tmp_path))]
    for number in ("1", "2"):
        try:
            volume = read_dicom(tmp_path, series=number)
        except InputError as error:
            shown.append(str(error))
        else:
            shown += [*volume.provenance.warnings, str(volume.provenance.details)]
    assert_no_canary(shown)
