"""Operations in pieces and in place: the same numbers; whole runs where gradients or a graph are recorded."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit
from torch import nn

from thinslice.models.blocks import pieces
from thinslice.models.blocks.pieces import (
    Padding,
    add_across_slices,
    add_in_pieces,
    add_product,
    depth_pieces,
    in_pieces,
    kept,
    map_across_slices,
    rows_in_pieces,
    runs_in_pieces,
    scaled,
)


def cube(channels: int = 6, depth: int = 5, batch: int = 1) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(batch, channels, depth, 7, 9).contiguous(memory_format=torch.channels_last_3d)


def test_only_without_gradients_and_graph() -> None:
    x = torch.ones(2)
    assert not runs_in_pieces(x) and kept(x) is x
    with torch.no_grad():
        assert runs_in_pieces(x) and kept(x) is not x
        assert not runs_in_pieces(x.to("meta"))
        traced = torch.jit.trace(lambda x: x + float(runs_in_pieces(x)), x, check_trace=False)
    assert torch.equal(traced(x), x)


@pytest.mark.parametrize("depth", [1, 2, 5, 8])
@pytest.mark.parametrize("slices", [1, 2, 3, 100])
def test_pieces_convolve_to_the_whole(depth: int, slices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = nn.Conv3d(6, 6, 3, padding=1), cube(depth=depth)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 4 * slices * x[:, :, :1].numel())
    with torch.inference_mode():
        expected = layer(x)
        parts = [(at, F.conv3d(piece, layer.weight, layer.bias, padding=(0, 1, 1))) for at, piece in depth_pieces(x)]
        assert [index for at, _ in parts for index in range(at.start, at.stop)] == list(range(depth))
        torch.testing.assert_close(torch.cat([part for _, part in parts], dim=2), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("depth", [1, 2, 5, 8])
@pytest.mark.parametrize("slices", [1, 2, 3, 100])
def test_operations_across_slices_give_the_same_in_pieces(
    depth: int, slices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, x = nn.Conv3d(6, 6, 3, padding=1), cube(depth=depth, batch=2)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 4 * slices * x[:, :, :1].numel())

    def convolved(slices: torch.Tensor, padding: Padding) -> torch.Tensor:
        return F.conv3d(slices, layer.weight, layer.bias, padding=padding)

    def doubled(slices: torch.Tensor, padding: Padding) -> torch.Tensor:
        return convolved(slices, padding).transpose(1, 2).flatten(1, 2).repeat_interleave(2, dim=1)[:, ::6]

    whole, mapped = add_across_slices(x, convolved), map_across_slices(x, doubled, per_slice=2, before=torch.relu)
    assert whole.requires_grad and mapped.requires_grad
    with torch.inference_mode():
        assert map_across_slices(x, doubled, per_slice=2, before=torch.relu).shape == (2, 2 * depth, 7, 9)
        torch.testing.assert_close(
            map_across_slices(x, doubled, per_slice=2, before=torch.relu), mapped, atol=1e-5, rtol=1e-5
        )
        # In place, where a slice must not read the new values of its neighbour.
        overwritten = x.clone()
        assert add_across_slices(overwritten, convolved) is overwritten
        torch.testing.assert_close(overwritten, whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("step", [1, 2, 4, 100])
def test_operations_along_an_axis_give_the_same_in_pieces(axis: int, step: int) -> None:
    layer, x = nn.Linear(6, 6), torch.randn(3, 4, 5, 6)
    runs: list[Callable[[], torch.Tensor]] = [
        lambda: in_pieces(x, layer, axis=axis, step=step),
        lambda: rows_in_pieces(x, layer, step=step),
        lambda: add_in_pieces(kept(x), x, layer, axis=axis, step=step),
    ]
    for run in runs:
        before, whole = x.clone(), run()
        assert whole.requires_grad
        with torch.inference_mode():
            torch.testing.assert_close(run(), whole.detach(), atol=1e-6, rtol=1e-6)
        assert torch.equal(x, before)


def test_operations_in_place_write_over_their_first_argument_alone() -> None:
    first, second = torch.randn(1, 3, 4), torch.randn(1, 4, 5)
    for run in (lambda x: add_product(x, first, second), lambda x: scaled(x, 1.5)):
        x = torch.randn(1, 3, 5)
        before, whole = x.clone(), run(x)
        assert torch.equal(x, before)
        with torch.inference_mode():
            assert run(x) is x
        torch.testing.assert_close(x, whole, atol=1e-6, rtol=1e-6)
