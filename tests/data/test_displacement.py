"""Pairs that do not belong together: the orientation or the shift in which they do is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.dataset_factory import pair_hu, thin_hu, true_volumes
from thinslice.data.manifest import open_dataset, read_pair
from thinslice.data.pairing import alignment
from thinslice.errors import GeometryError
from thinslice.profile import SliceProfile
from thinslice.volume import Volume

CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mirrored along the width axis": lambda thin: thin[:, :, ::-1],
    "mirrored along the height axis": lambda thin: thin[:, ::-1],
    "mirrored along the width axis and in reversed order": lambda thin: thin[::-1, :, ::-1],
    "turned by 180 degrees": lambda thin: thin[:, ::-1, ::-1],
    "turned by 90 degrees": lambda thin: np.rot90(thin, axes=(1, 2)),
    "rows and columns exchanged": lambda thin: thin.swapaxes(1, 2),
    "pixel (row + 1, column) of the thin": lambda thin: np.roll(thin, 1, axis=1),
    "pixel (row - 3, column + 2) of the thin": lambda thin: np.roll(thin, (-3, 2), axis=(1, 2)),
}


@pytest.mark.parametrize("expected", CHANGES)
def test_another_orientation_or_place_in_plane_is_named(expected: str) -> None:
    thick, thin = pair_hu(thick_depth=10, plane=40)
    found = alignment(thick, CHANGES[expected](thin), 5)
    assert found is not None and found.fault is not None
    assert expected in found.fault
    assert "again" in found.remedy


@pytest.mark.parametrize(("down", "across", "along"), [(2, 0, 0), (0, 0, 2), (3, -4, -1)])
def test_an_orientation_and_shifts_together_are_named(down: int, across: int, along: int) -> None:
    thick, thin = pair_hu(thick_depth=10, plane=48)
    found = alignment(thick, np.roll(thin, (along, down, across), axis=(0, 1, 2))[:, :, ::-1], 5)
    assert found is not None and found.displaced is not None
    signs = [f" {'+' if by > 0 else '-'} {abs(by)}" if by else "" for by in (down, across, along)]
    parts = ["the thin slices are mirrored along the width axis"]
    if down or across:
        parts.append(
            f"pixel (row, column) of the thick slices is pixel (row{signs[0]}, column{signs[1]}) of the thin ones"
        )
    if along:
        parts.append(f"thick slice k shows thin slice factor * k{signs[2]}")
    assert found.displaced.fault == ", and ".join(parts)
    assert found.displaced.correlation > 0.99


@pytest.mark.parametrize("shift", [-15, 12])
def test_a_shift_by_more_than_a_thick_interval_is_named(shift: int) -> None:
    long = thin_hu(120, 32)
    thick = SliceProfile.mean(5).apply(long[20:100])  # thick 0 is centred on slice 22
    thin = long[22 - shift :][: 5 * (len(thick) - 1) + 1]
    found = alignment(thick, thin, 5)
    assert found is not None and found.fault is not None
    assert f"factor * k {'+' if shift > 0 else '-'} {abs(shift)}" in found.fault


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("noise_hu", [0.0, 200.0])
def test_an_aligned_pair_under_noise_is_not_displaced(seed: int, noise_hu: float) -> None:
    thick, thin = pair_hu(thick_depth=9, seed=seed)
    noise = np.random.default_rng(seed).normal(0, noise_hu, thin.shape)
    found = alignment(thick, thin + noise, 5)
    assert found is not None and found.fault is None


def test_a_symmetric_body_is_not_taken_for_a_mirrored_one() -> None:
    thick, thin = pair_hu(thick_depth=9)
    thick, thin = thick + thick[:, :, ::-1], thin + thin[:, :, ::-1]
    found = alignment(thick, thin, 5)
    assert found is not None and found.fault is None


def test_reading_a_mirrored_pair_names_the_case_the_fault_and_what_to_do(tmp_path: Path) -> None:
    thick, thin = true_volumes(2)
    thinslice.write(thick, tmp_path / "thick.nii.gz")
    thinslice.write(Volume(np.ascontiguousarray(thin.hu[:, :, ::-1]), thin.geometry), tmp_path / "thin.nii.gz")
    (tmp_path / "manifest.csv").write_text("thick,thin,split,case\nthick.nii.gz,thin.nii.gz,train,first\n")
    with pytest.raises(GeometryError, match="Case first: .*mirrored along the width axis .*leave the pair out"):
        read_pair(open_dataset(tmp_path).cases[0])
