"""I3Net: its count, the reach of each branch, and planes of other sides than its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.fft import dctn

from thinslice.errors import ShapeError
from thinslice.models import catalog
from thinslice.models.i3net import (
    FREQUENCY_WINDOW,
    CosineTransform,
    CrossViewBlock,
    I3Net,
    I3NetConfig,
    IntraSliceBranch,
    ViewBranch,
)

SIDE = 32


def build(**config: object) -> I3Net:
    torch.manual_seed(0)
    model = catalog.build("i3net", **{"plane": SIDE, "blocks": 2, "features": 8, **config})
    assert isinstance(model, I3Net)
    return model.eval()


def touched(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Which pixels of a plane differ in any feature: (row, column)."""
    return (before != after).any(dim=(0, 1))


def test_parameters_are_the_published_ones() -> None:
    with torch.device("meta"):
        model = I3Net(I3NetConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 23_206_928  # published: 23.2M


def test_cosine_transform_is_scipys_and_has_an_inverse() -> None:
    transform = CosineTransform(SIDE)
    x = torch.rand(2, 3, SIDE, SIDE)
    bands = transform(x)
    np.testing.assert_allclose(bands.numpy(), dctn(x.numpy(), axes=(2, 3), norm="ortho"), atol=2e-5)
    torch.testing.assert_close(transform.inverse(bands), x, atol=2e-6, rtol=0)


def test_windows_of_frequencies_do_not_mix() -> None:
    torch.manual_seed(0)
    branch = IntraSliceBranch(4, CosineTransform(SIDE))
    windows = torch.rand(3, FREQUENCY_WINDOW**2, 4)
    changed = windows.clone()
    changed[1, 5, 2] += 1.0
    different = (branch.mixer(windows) != branch.mixer(changed)).any(dim=2)
    assert not different[[0, 2]].any() and different[1].all()


def test_the_intra_slice_branch_reaches_the_whole_plane() -> None:
    torch.manual_seed(0)
    branch = IntraSliceBranch(4, CosineTransform(SIDE))
    x = torch.rand(1, 4, SIDE, SIDE)
    changed = x.clone()
    changed[0, 0, 3, 4] += 1.0
    assert touched(branch(x), branch(changed)).float().mean() > 0.99


@pytest.mark.parametrize(("view", "axis"), [("coronal", 0), ("sagittal", 1)])
def test_a_view_reaches_all_pixels_across_it_and_few_along_it(view: str, axis: int) -> None:
    torch.manual_seed(0)
    branch = getattr(CrossViewBlock(16, SIDE), view)
    assert isinstance(branch, ViewBranch)
    x = torch.rand(1, 16, SIDE, SIDE)
    changed = x.clone()
    changed[0, :, 10, 20] += 1.0
    different = touched(branch(x), branch(changed))
    along = different.any(dim=axis).nonzero().flatten()
    center = (20, 10)[axis]
    # Two 3x3 convolutions on pixels of half the size reach one pixel to either side.
    assert along.min() == center - 1 and along.max() == center + 1
    assert different.any(dim=1 - axis).all()


def test_thick_slices_are_not_copied_into_the_output() -> None:
    x = torch.rand(1, 1, 4, SIDE, SIDE)
    with torch.inference_mode():
        thin = build()(x)
    assert (thin[:, :, ::5] - x).abs().mean() > 0.1


@pytest.mark.parametrize("plane", [(1, 1), (1, 17), (20, 9), (SIDE, SIDE - 1)])
def test_a_smaller_plane_is_the_mirrored_one_cropped(plane: tuple[int, int]) -> None:
    model = build()
    x = torch.rand(1, 1, 4, *plane)
    ends = tuple((0, SIDE - extent) for extent in plane)
    # numpy's reflection is the independent reference; of a single row it can only make copies.
    mirrored = torch.from_numpy(np.pad(x.numpy(), ((0, 0), (0, 0), (0, 0), *ends), mode="reflect"))
    with torch.inference_mode():
        torch.testing.assert_close(model(x), model(mirrored)[..., : plane[0], : plane[1]])


def test_a_larger_plane_is_done_square_by_square() -> None:
    model = build()
    x = torch.rand(2, 1, 4, 2 * SIDE, 3 * SIDE)
    with torch.inference_mode():
        whole = model(x)
        for row in range(2):
            for column in range(3):
                part = (..., slice(row * SIDE, (row + 1) * SIDE), slice(column * SIDE, (column + 1) * SIDE))
                torch.testing.assert_close(whole[part], model(x[part]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("depth", [2, 3, 5])
@pytest.mark.parametrize("factor", [2, 5, 8])
def test_any_depth_and_factor(depth: int, factor: int) -> None:
    model = build(depth=depth, factor=factor)
    with torch.inference_mode():
        thin = model(torch.rand(1, 1, depth, 9, 8))
    assert thin.shape == (1, 1, (depth - 1) * factor + 1, 9, 8) and thin.isfinite().all()


def test_windows_have_the_side_of_its_planes() -> None:
    window = I3Net(I3NetConfig(plane=48, blocks=2)).window
    assert window.tile == (48, 48) and window.depth == 4


def test_learns_to_copy() -> None:
    torch.manual_seed(0)
    model = build(factor=2, depth=2).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
    x = torch.rand(2, 1, 2, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    target = torch.cat([x[:, :, :1], x.mean(dim=2, keepdim=True), x[:, :, 1:]], dim=2)
    losses = []
    for _ in range(40):
        optimiser.zero_grad()
        loss = (model(x) - target).abs().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_empty_input_is_refused() -> None:
    with pytest.raises(ShapeError, match="empty"):
        build()(torch.rand(1, 1, 4, 0, 8))


@pytest.mark.parametrize("config", [{"plane": 40}, {"blocks": 3}, {"depth": 1}, {"factor": 1}, {"side": 256}])
def test_sizes_that_do_not_fit_are_refused(config: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        I3NetConfig(**config)
