"""Two phases, energies or reconstructions of one scan stay distinguishable after derivation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support.derived_series import NOW, Source, edited, item, provenance_of, read_source
from support.dicom_factory import write_series
from thinslice.io.dicom.derived.description import derived_series_number
from thinslice.io.dicom.derived.header import DerivedSeries

APART: dict[str, tuple[object, object]] = {
    "NominalPercentageOfCardiacPhase": (40.0, 75.0),
    "TriggerTime": (400, 750),
    "TemporalPositionIdentifier": (1, 2),
    "TemporalPositionIndex": (1, 2),
    "KVP": (80, 140),
    "ConvolutionKernel": ("Br40", "Bl64"),
    "AcquisitionNumber": (1, 2),
    "AcquisitionTime": ("101500", "101510"),
    "ContrastBolusAgent": ("NONE", "IV"),
    "ImageComments": ("40 keV", "190 keV"),
    "SeriesDescription": ("Mono 40 keV", "Mono 190 keV"),
    "ImageType": (["ORIGINAL", "PRIMARY", "AXIAL", "MONO_E40"], ["ORIGINAL", "PRIMARY", "AXIAL", "MONO_E190"]),
}
"""Attributes by which series of one scan differ, with a value of each."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return read_source(write_series(tmp_path_factory.mktemp("plain"), shape=(3, 8, 8)).files)


def series_of(source: Source, part: int = 1) -> DerivedSeries:
    provenance = replace(provenance_of(source), details={"part": part})
    return DerivedSeries(source.geometry.thin_grid(5), provenance, now=NOW)


@pytest.mark.parametrize("keyword", APART)
def test_what_told_two_series_apart_still_does(plain: Source, keyword: str) -> None:
    one, other = (series_of(edited(plain, **{keyword: value})).header(3)[keyword].value for value in APART[keyword])
    assert one != other
    assert str(APART[keyword][0]).split()[-1].strip("']") in str(one)


def test_an_energy_in_a_sequence_stays(plain: Source) -> None:
    energy = [item(MonoenergeticEnergyEquivalent=40.0)]
    header = series_of(edited(plain, MultienergyCTCharacteristicsSequence=energy)).header(0)
    assert header.MultienergyCTCharacteristicsSequence[0].MonoenergeticEnergyEquivalent == 40.0


def test_the_cardiac_phase_is_in_the_description_once(plain: Source) -> None:
    named = series_of(edited(plain, NominalPercentageOfCardiacPhase=40.0, SeriesDescription="CTA")).header(0)
    assert named.SeriesDescription == "CTA 40% thinslice 1mm AI, not for diagnosis"
    again = series_of(edited(plain, NominalPercentageOfCardiacPhase=40.0, SeriesDescription="CTA 40%")).header(0)
    assert again.SeriesDescription == "CTA 40% thinslice 1mm AI, not for diagnosis"


def test_parts_of_one_series_have_their_own_number_and_name(plain: Source) -> None:
    headers = [series_of(edited(plain, SeriesDescription="CTP"), part).header(0) for part in range(1, 101)]
    assert len({header.SeriesNumber for header in headers}) == 100
    assert [header.SeriesNumber for header in headers[:3]] == [2905, 2915, 2925]
    assert len({header.SeriesDescription for header in headers}) == 100


def test_numbers_of_parts_and_factors_never_meet() -> None:
    numbers = [derived_series_number(7, factor, part) for factor in range(2, 9) for part in range(1, 101)]
    assert len(set(numbers)) == 700
    assert all(7000 <= number < 8000 for number in numbers)


def test_comments_of_single_slices_are_not_taken_for_the_series(plain: Source) -> None:
    assert "ImageComments" not in series_of(edited_slices(plain)).header(0)


def edited_slices(source: Source) -> Source:
    changed = edited(source)
    for number, header in enumerate(changed.headers):
        header.ImageComments = f"slice {number}"
    return changed


def test_the_program_s_own_reader_numbers_the_parts(tmp_path: Path) -> None:
    from thinslice.io.dicom.read import read_dicom, scan

    for phase in (40, 75):

        def edit(dataset: object, index: int, phase: int = phase) -> None:
            dataset.NominalPercentageOfCardiacPhase = float(phase)  # type: ignore[attr-defined]
            dataset.InstanceNumber = phase * 10 + index  # type: ignore[attr-defined]

        write_series(
            tmp_path, shape=(3, 8, 8), uid="1.2.3.4", seed=phase, study_uid="1.2.3", edit=edit, prefix=f"p{phase}"
        )
    found = [report.series_uid for report in scan(tmp_path)]
    volumes = [read_dicom(tmp_path, series_uid=uid) for uid in found]
    assert sorted(volume.provenance.details["part"] for volume in volumes) == [1, 2]
