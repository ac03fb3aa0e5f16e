"""Swin blocks: the same numbers as the published way (roll, mask, pad), at any plane."""

from __future__ import annotations

import itertools

import pytest
import torch
from einops import rearrange

from thinslice.models.blocks import swin
from thinslice.models.blocks.swin import (
    CACHED_POSITIONS,
    Perceptron,
    StochasticDepth,
    SwinBackbone,
    SwinBlock,
    WindowSpan,
    cut,
    relative_position_index,
    window_pieces,
)


@pytest.mark.parametrize(("extent", "window"), list(itertools.product([1, 2, 5, 8, 13, 16, 24], [1, 4, 8])))
def test_windows_cover_the_axis_once_and_in_order(extent: int, window: int) -> None:
    for shift in {0, window // 2}:
        covered = [at for span in cut(extent, window, shift) for at in range(span.start, span.stop)]
        assert covered == list(range(extent))
        for span in cut(extent, window, shift):
            assert (span.stop - span.start) % span.window == 0 and span.window <= window


def test_position_index_is_the_usual_swin_table() -> None:
    height, width = 3, 5
    index = relative_position_index((height, width))
    positions = list(itertools.product(range(height), range(width)))
    for (qh, qw), (kh, kw) in itertools.product(positions, positions):
        assert index[qh, qw, kh, kw] == (qh - kh + height - 1) * (2 * width - 1) + qw - kw + width - 1
    assert index.unique().numel() == (2 * height - 1) * (2 * width - 1)


def published_attention(block: SwinBlock, x: torch.Tensor) -> torch.Tensor:
    """Attention of a block as Swin publishes it: pad to whole windows, roll, mask with -100, softmax, roll back."""
    window, (height, width) = block.window, x.shape[1:3]
    # Padding is a region of its own, so that the mask keeps it out.
    region = torch.zeros(height, width)
    x = torch.nn.functional.pad(x, (0, 0, 0, -width % window[1], 0, -height % window[0]), value=7.0)
    region = torch.nn.functional.pad(region, (0, -width % window[1], 0, -height % window[0]), value=1.0)
    padded = x.shape[1:3]
    shifted = block.shifted and padded[0] > window[0] and padded[1] > window[1]
    shift = (window[0] // 2, window[1] // 2) if shifted else (0, 0)
    x = x.roll((-shift[0], -shift[1]), (1, 2))
    region = region.roll((-shift[0], -shift[1]), (0, 1))
    if shifted:
        region[-shift[0] :] += 2
        region[:, -shift[1] :] += 4

    sides = {"wh": window[0], "ww": window[1]}
    tokens = rearrange(x, "b (h wh) (w ww) c -> b (h w) (wh ww) c", **sides)
    regions = rearrange(region, "(h wh) (w ww) -> (h w) (wh ww)", **sides)
    mask = (regions[:, :, None] != regions[:, None, :]).float() * -100.0
    attention = block.attention
    query, key, value = rearrange(
        attention.qkv(tokens), "b n t (three heads c) -> three b n heads t c", three=3, heads=attention.heads
    )
    index = relative_position_index(window).flatten(2).flatten(0, 1)
    bias = attention.position_bias[index].permute(2, 0, 1)
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1) + bias + mask[:, None]
    mixed = rearrange(scores.softmax(-1) @ value, "b n heads t c -> b n t (heads c)")
    planes = rearrange(
        attention.projection(mixed), "b (h w) (wh ww) c -> b (h wh) (w ww) c", h=padded[0] // window[0], **sides
    )
    return planes.roll(shift, (1, 2))[:, :height, :width]


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(
    ("window", "plane"),
    [((8, 8), (16, 24)), ((8, 8), (8, 24)), ((4, 4), (16, 8)), ((4, 8), (16, 16))]
    + [((4, 8), (depth, 16)) for depth in (3, 5, 6, 7, 9, 11)],
)
def test_cut_windows_equal_rolled_masked_padded_ones(
    window: tuple[int, int], plane: tuple[int, int], shifted: bool
) -> None:
    torch.manual_seed(0)
    block = SwinBlock(16, 4, window, shifted=shifted).eval()
    torch.nn.init.normal_(block.attention.position_bias)
    torch.nn.init.normal_(block.attention.qkv.weight, std=0.3)
    x = torch.randn(2, *plane, 16)
    with torch.inference_mode():
        torch.testing.assert_close(block.attend(x), published_attention(block, x), atol=1e-5, rtol=1e-5)


def test_a_shifted_block_joins_what_an_unshifted_one_separates() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 16, 16, 8)
    changed = x.clone()
    changed[0, 7, 7] += 1.0
    for shifted in (False, True):
        block = SwinBlock(8, 2, (8, 8), shifted=shifted).eval()
        torch.nn.init.normal_(block.attention.qkv.weight, std=0.5)
        with torch.inference_mode():
            difference = (block.attend(changed) - block.attend(x)).abs().sum(-1)[0]
        assert (difference[8, 8] > 0) == shifted
        assert difference[7, 7] > 0


def test_perceptron_gives_the_same_in_pieces_and_whole() -> None:
    torch.manual_seed(0)
    perceptron = Perceptron(8, 32)
    x = torch.randn(3, CACHED_POSITIONS + 7, 8)
    whole = perceptron(x)
    with torch.inference_mode():
        in_pieces = perceptron(x)
    assert whole.requires_grad and not in_pieces.requires_grad
    torch.testing.assert_close(in_pieces, whole.detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("values", [1, 600, 1 << 20])
@pytest.mark.parametrize("plane", [(8, 8), (13, 20), (16, 24)])
@pytest.mark.parametrize("window", [(4, 4), (4, 8)])
def test_a_backbone_in_pieces_is_the_backbone(
    window: tuple[int, int], plane: tuple[int, int], values: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    backbone = SwinBackbone(8, (2, 2), heads=2, window=window).eval()
    for parameter in backbone.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(3, *plane, 8)
    kept = x.clone()
    whole = backbone(x)  # gradients are recorded here
    monkeypatch.setattr(swin, "CACHED_VALUES", values)
    with torch.inference_mode():
        in_pieces = backbone(x)
        block, overwritten = backbone.groups[0].blocks[1], x.clone()
        assert block(overwritten) is overwritten
    torch.testing.assert_close(overwritten, block(x).detach(), atol=1e-5, rtol=1e-5)
    assert whole.requires_grad and not in_pieces.requires_grad
    torch.testing.assert_close(in_pieces, whole.detach(), atol=1e-5, rtol=1e-5)
    assert torch.equal(x, kept), "the caller's tensor is not written over"


@pytest.mark.parametrize("positions", [1, 16, 40, 100, 10_000])
def test_pieces_hold_whole_windows_and_cover_the_region_once(positions: int) -> None:
    row, column = WindowSpan(2, 14, 4), WindowSpan(4, 24, 4)
    counts = torch.zeros(3, 16, 24, dtype=torch.int64)
    for piece in window_pieces(3, row, column, positions):
        counts[piece] += 1
        extents = [part.stop - part.start for part in piece]
        assert extents[1] % 4 == extents[2] % 4 == 0
        assert extents[0] * extents[1] * extents[2] <= max(16, positions)
    assert (counts[:, 2:14, 4:24] == 1).all() and counts.sum() == 3 * 12 * 20


def test_stochastic_depth_drops_whole_samples_in_training_only() -> None:
    torch.manual_seed(0)
    drop = StochasticDepth(0.25)
    x = torch.ones(4000, 2, 3)
    dropped = drop(x)
    per_sample = dropped.flatten(1)
    assert torch.equal(per_sample.amin(1), per_sample.amax(1))
    assert sorted(set(per_sample[:, 0].tolist())) == pytest.approx([0.0, 1 / 0.75])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.04)
    assert drop.eval()(x) is x


def test_stochastic_depth_rises_linearly_over_all_groups() -> None:
    backbone = SwinBackbone(8, (4, 4), heads=2, window=(4, 4), drop_rate=0.1)
    rates = [module.rate for module in backbone.modules() if isinstance(module, StochasticDepth)]
    assert rates == pytest.approx([0.1 * index / 7 for index in range(8)])


def test_index_tables_are_not_saved() -> None:
    block = SwinBlock(8, 2, (4, 4), shifted=True)
    assert "attention.position_index" in dict(block.named_buffers())
    assert not [name for name in block.state_dict() if "index" in name]


def test_trains_through_fused_attention_in_smaller_windows() -> None:
    torch.manual_seed(0)
    backbone = SwinBackbone(8, (2,), heads=2, window=(4, 4))
    backbone(torch.randn(1, 10, 9, 8)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in backbone.parameters())
