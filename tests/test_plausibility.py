"""What values look like: each way of losing HU is named, and CT of every kind at hand is left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from thinslice.data.phantoms.painting import render
from thinslice.data.phantoms.thorax import phantom_grid, thorax
from thinslice.io.files import read
from thinslice.plausibility import REFUSALS, WARNINGS, examine


@pytest.fixture(scope="module")
def hu() -> np.ndarray:
    return render(thorax(0), phantom_grid((12, 120, 120), (5.0, 3.0, 3.0))).hu.astype(np.float64)


LOST: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "unit": lambda hu: np.clip((hu + 1024) / 3072, 0, 1),
    "signed unit": lambda hu: np.clip(hu / 1000, -1, 1),
    "normalised": lambda hu: (hu - hu.mean()) / hu.std(),
    "labels": lambda hu: (hu > -300).astype(float) + (hu > 200),
    "8 bit": lambda hu: np.rint(np.clip((hu + 160) / 400 * 255, 0, 255)),
    "raw": lambda hu: np.clip(hu, -1024, None) + 1024,
    "masked": lambda hu: np.where(hu > -300, hu, 0),
    "wrapped": lambda hu: np.where(hu < 0, hu + 65536, hu),
    "shifted": lambda hu: hu - 1024,
    "other": lambda hu: np.clip(hu + 1000, 0, None) * 0.4,
    "beyond": lambda hu: np.where(np.arange(hu.size).reshape(hu.shape) == 4711, -12_000, hu),
}


@pytest.mark.parametrize("kind", LOST)
def test_every_way_of_losing_hu_is_named(hu: np.ndarray, kind: str) -> None:
    found = examine(LOST[kind](hu))
    assert found.kind == kind
    assert found.is_refused == (kind in REFUSALS)
    assert found.sentence() is not None


def test_one_value_throughout_is_neither_refused_nor_warned_of(hu: np.ndarray) -> None:
    found = examine(np.full_like(hu, -1000.0))
    assert (found.kind, found.is_refused, found.sentence()) == ("empty", False, None)


def test_every_kind_has_one_sentence() -> None:
    assert set(LOST) == set(REFUSALS) | set(WARNINGS)
    assert not set(REFUSALS) & set(WARNINGS)


def test_a_unit_volume_names_what_states_the_unit(hu: np.ndarray) -> None:
    assert "intensity='unit'" in str(examine(LOST["unit"](hu)).sentence())


@pytest.mark.parametrize(
    "change",
    [
        lambda hu: hu,
        lambda hu: np.clip(hu, -1000, None),  # floor of some makers
        lambda hu: np.clip(hu, -1024, 3071),
        lambda hu: np.where(hu < -990, -3024, hu),  # padding that is not declared
        lambda hu: np.where(np.arange(hu.shape[2]) < 3, 30000.0, hu),  # metal on an extended scale
        lambda hu: hu[:, 45:75, 45:75],  # the middle of the chest
        lambda hu: hu + 0.25,  # fractions of HU
    ],
    ids=["as it is", "floor -1000", "12 bits", "padding -3024", "metal", "crop", "fractions"],
)
def test_hu_is_left_alone(hu: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> None:
    found = examine(change(hu))
    assert (found.kind, found.sentence()) == ("hu", None)


def test_declared_padding_is_left_out(hu: np.ndarray) -> None:
    padded = np.where(hu < -900, -2000.0, np.clip(hu, -1024, None) + 1024)
    assert examine(padded, padding=-2000.0).kind == "raw"


def test_real_ct_is_left_alone(shared: Path) -> None:
    paths = sorted((shared / "ct").glob("*/*.nii.gz"))
    assert len(paths) >= 5
    for path in paths:
        assert examine(read(path).hu).kind == "hu", path.name
