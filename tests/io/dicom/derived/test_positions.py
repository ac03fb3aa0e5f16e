"""Positions, order and sources of thin slices, on the line of their thick ones."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from support.derived_series import NOW, Source, derive, edited, provenance_of, read_source
from support.dicom_factory import write_series
from thinslice.io.dicom.attributes import source_decimals
from thinslice.io.dicom.derived.header import DerivedSeries


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return read_source(write_series(tmp_path_factory.mktemp("plain"), shape=(4, 16, 16)).files)


@pytest.fixture(scope="module")
def headers(plain: Source) -> list[Dataset]:
    series = derive(plain)
    return [series.header(j) for j in range(len(series))]


def test_positions_are_the_sources_own_on_thick_slices(plain: Source, headers: list[Dataset]) -> None:
    for k, thick in enumerate(plain.headers):
        assert source_decimals(headers[5 * k], "ImagePositionPatient", 3) == source_decimals(
            thick, "ImagePositionPatient", 3
        )


def test_positions_lie_evenly_on_the_sources_line(plain: Source, headers: list[Dataset]) -> None:
    grid = plain.geometry.thin_grid(5)
    for j, header in enumerate(headers):
        assert np.allclose(header.ImagePositionPatient, grid.position_mm((j, 0, 0)), atol=1e-6)
        assert all(len(str(text)) <= 16 for text in header.ImagePositionPatient)


@pytest.mark.parametrize("factor", [2, 3, 7])
def test_positions_follow_jitter_instead_of_smoothing_it(tmp_path: Path, factor: int) -> None:
    source = read_source(write_series(tmp_path, jitter_mm=1e-2, shape=(4, 8, 8)).files)
    series = derive(source, factor)
    assert series.line.followed
    positions = np.array([header.ImagePositionPatient for header in source.headers], float)
    for j in range(len(series)):
        k, share = min(j // factor, 2), j / factor - min(j // factor, 2)
        between = positions[k] * (1 - share) + positions[k + 1] * share
        assert np.allclose(series.header(j).ImagePositionPatient, between, atol=1e-8)


def test_a_position_keeps_the_sources_digits(plain: Source) -> None:
    odd = edited(plain)
    for k, header in enumerate(odd.headers):
        header.ImagePositionPatient = ["-112.30000", "-98.70", f"{41.25 + 5 * k:.6f}"]
    series = derive(odd)
    assert source_decimals(series.header(5), "ImagePositionPatient", 3) == ("-112.30000", "-98.70", "46.250000")
    assert source_decimals(series.header(6), "ImagePositionPatient", 3) == ("-112.3", "-98.7", "47.25")


def test_slice_location_and_instance_number_are_recomputed(plain: Source, headers: list[Dataset]) -> None:
    assert [header.InstanceNumber for header in headers] == list(range(1, 17))
    locations = np.array([float(header.SliceLocation) for header in headers])
    assert np.allclose(np.diff(locations), 1.0)
    assert np.allclose(locations[::5], [float(header.SliceLocation) for header in plain.headers])


def test_instance_numbers_run_the_way_the_sources_do(tmp_path: Path) -> None:
    source = read_source(write_series(tmp_path, instance_order="descending", shape=(3, 8, 8)).files)
    series = derive(source)
    assert [series.header(j).InstanceNumber for j in range(11)] == list(range(11, 0, -1))


def test_slice_location_keeps_a_scanners_sign(plain: Source) -> None:
    flipped = edited(plain)
    for k, header in enumerate(flipped.headers):
        header.SliceLocation = 100 - 5 * k
    series = derive(flipped)
    assert [float(series.header(j).SliceLocation) for j in (0, 1, 5)] == [100, 99, 95]


def test_a_senseless_slice_location_is_replaced_by_the_position(plain: Source) -> None:
    for locations in (["0"] * 4, ["1", "x", "2", "3"], [None] * 4):
        odd = edited(plain, SliceLocation=None)
        for header, location in zip(odd.headers, locations, strict=True):
            if location is not None:
                raw = RawDataElement(Tag(0x00201041), "DS", len(location), location.encode(), 0, False, True)
                header[Tag(0x00201041)] = raw
        series = derive(odd)
        assert [float(series.header(j).SliceLocation) for j in (0, 1, 5)] == [41.25, 42.25, 46.25]


def test_source_images_are_the_thick_neighbours(plain: Source, headers: list[Dataset]) -> None:
    uids = [header.SOPInstanceUID for header in plain.headers]
    for j, header in enumerate(headers):
        expected = [uids[j // 5]] if j % 5 == 0 else [uids[j // 5], uids[j // 5 + 1]]
        assert [image.ReferencedSOPInstanceUID for image in header.SourceImageSequence] == expected
        for image in header.SourceImageSequence:
            assert image.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
            (purpose,) = image.PurposeOfReferenceCodeSequence
            assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("121322", "DCM")
            assert purpose.CodeMeaning == "Source image for image processing operation"


def test_source_uids_may_lie_in_the_file_meta(plain: Source) -> None:
    series = derive(edited(plain, SOPInstanceUID=None, SOPClassUID=None))
    (image,) = series.header(0).SourceImageSequence
    assert image.ReferencedSOPInstanceUID == plain.headers[0].SOPInstanceUID


def test_per_slice_attributes_come_from_the_nearest_thick_slice(plain: Source) -> None:
    timed = edited(plain)
    for k, header in enumerate(timed.headers):
        header.AcquisitionTime = f"12000{k}"
    series = derive(timed, 4)
    assert [series.header(j).AcquisitionTime[-1] for j in range(13)] == list("0001111222233")


def test_a_resampled_grid_takes_its_own_positions(plain: Source) -> None:
    # As after shearing a tilted series: the grid leaves the source's line, and the tilt is gone.
    moved = replace(plain.geometry, origin_mm=(0.0, 0.0, plain.geometry.origin_mm[2]))
    series = derive(replace(edited(plain, GantryDetectorTilt=12), geometry=moved))
    assert not series.line.followed
    header = series.header(7)
    assert list(header.ImagePositionPatient) == [0, 0, 48.25]
    assert "GantryDetectorTilt" not in header
    uids = [thick.SOPInstanceUID for thick in plain.headers]
    assert [image.ReferencedSOPInstanceUID for image in header.SourceImageSequence] == uids[1:3]
    assert [image.ReferencedSOPInstanceUID for image in series.header(5).SourceImageSequence] == uids[1:2]


def test_uneven_source_slices_are_found_by_depth(plain: Source) -> None:
    # Source slices at 0, 5, 8 and 15 mm, read as 1 + 5 slices of 3 mm, thin ones of 1 mm.
    uneven = edited(plain)
    for header, depth_mm in zip(uneven.headers, (0, 5, 8, 15), strict=True):
        x, y, _ = plain.geometry.origin_mm
        header.ImagePositionPatient = [x, y, 41.25 + depth_mm]
    grid = replace(plain.geometry, shape=(6, 16, 16), spacing_mm=(3.0, 0.7, 0.7)).thin_grid(3)
    series = DerivedSeries(grid, provenance_of(uneven, 3), now=NOW)
    pairs = [series.line.sources(j) for j in (0, 4, 5, 6, 15)]
    assert [(pair.lower, pair.upper) for pair in pairs] == [(0, 0), (0, 1), (1, 1), (1, 2), (3, 3)]
    assert pairs[1].weight == Decimal("0.8")
    assert pairs[1].nearest == 1
