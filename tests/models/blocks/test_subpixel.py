"""Sub-slices on the thin grid: thick k on thin factor * k, symmetric for odd and even factors."""

from __future__ import annotations

import pytest
import torch

from thinslice.errors import ShapeError
from thinslice.models.blocks.subpixel import interleave, sub_slices

FACTORS = range(2, 9)


def positions(depth: int, factor: int) -> torch.Tensor:
    """Sub-slices whose value is the thin position they belong to: (1, sub-slices, depth, 1, 1)."""
    offset = torch.arange(sub_slices(factor)) - factor // 2
    return (offset[:, None] + factor * torch.arange(depth)).float()[None, :, :, None, None]


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_every_sub_slice_lands_where_it_belongs(factor: int, depth: int) -> None:
    thin = interleave(positions(depth, factor), factor)
    assert thin.flatten().tolist() == list(range((depth - 1) * factor + 1))


@pytest.mark.parametrize("factor", FACTORS)
def test_the_middle_sub_slice_is_the_thick_one(factor: int) -> None:
    sub = torch.zeros(1, sub_slices(factor), 4, 1, 1)
    sub[:, factor // 2] = 1.0
    assert interleave(sub, factor).flatten().nonzero().flatten().tolist() == [factor * k for k in range(4)]


@pytest.mark.parametrize("factor", FACTORS)
def test_turning_the_volume_around_turns_the_result_around(factor: int) -> None:
    sub = torch.rand(2, sub_slices(factor), 4, 3, 2)
    torch.testing.assert_close(interleave(sub.flip(1, 2), factor), interleave(sub, factor).flip(2), atol=0, rtol=0)


def test_even_factors_share_the_slice_half_way() -> None:
    sub = torch.zeros(1, 5, 2, 1, 1)
    sub[0, 4, 0], sub[0, 0, 1] = 2.0, 4.0
    assert interleave(sub, 4).flatten().tolist() == [0.0, 0.0, 3.0, 0.0, 0.0]


def test_another_number_of_sub_slices_is_refused() -> None:
    with pytest.raises(ShapeError, match="needs 5 sub-slices per thick slice, not 4"):
        interleave(torch.zeros(1, 4, 2, 1, 1), 4)
