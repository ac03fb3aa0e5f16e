"""Which series is read: by number, SeriesNumber, UID or a part of it, or the only one that can be meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest

from support.derived_series import read_source, write_derived
from support.dicom_factory import write_series
from thinslice.errors import SeriesChoiceError
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
