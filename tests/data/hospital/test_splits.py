"""Patients into splits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinslice.data.hospital.splits import SPLITS, assign_splits, check_fractions
from thinslice.errors import UsageError

SHARES = {"train": 0.4, "val": 0.2, "test": 0.4}


@given(count=st.integers(0, 60), seed=st.integers(0, 100))
def test_counts_are_as_near_to_the_shares_as_whole_patients_allow(count: int, seed: int) -> None:
    found = assign_splits({f"p{n}": f"c{n}" for n in range(count)}, SHARES, seed=seed)
    assert len(found) == count
    for split, share in SHARES.items():
        assert abs(sum(there == split for there in found.values()) - share * count) <= 1


def test_the_seed_decides_and_names_do_not() -> None:
    one = assign_splits({f"p{n}": f"c{n}" for n in range(30)}, SHARES, seed=3)
    renamed = assign_splits({f"q{n}": f"c{n}" for n in reversed(range(30))}, SHARES, seed=3)
    assert {name[1:]: split for name, split in one.items()} == {name[1:]: split for name, split in renamed.items()}
    assert one != assign_splits({f"p{n}": f"c{n}" for n in range(30)}, SHARES, seed=4)


def test_who_has_a_split_keeps_it_and_the_others_fill_up() -> None:
    fixed = {f"p{n}": "test" for n in range(5)}
    found = assign_splits({f"p{n}": f"c{n}" for n in range(10)}, SHARES, seed=0, fixed={**fixed, "gone": "train"})
    assert all(found[name] == "test" for name in fixed) and "gone" not in found
    assert sorted(found.values()) == ["test"] * 5 + ["train"] * 4 + ["val"]


def test_a_share_of_nothing_gets_nobody() -> None:
    assert check_fractions((1.0, 0.0, 0.0)) == {"train": 1.0}
    assert set(assign_splits({"a": "1", "b": "2"}, check_fractions((0.0, 0.0, 1.0)), seed=0).values()) == {"test"}
    assert tuple(check_fractions((0.4, 0.2, 0.4))) == SPLITS


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.6, 0.2), (-0.1, 0.6, 0.5), (float("nan"), 0.5, 0.5)])
def test_shares_that_make_no_sense(fractions: tuple[float, ...]) -> None:
    with pytest.raises(UsageError):
        check_fractions(fractions)
