"""Cutting a volume into planes along z and putting it back; residual dense networks; generated filters."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit

from thinslice.errors import ShapeError
from thinslice.models.blocks import views
from thinslice.models.blocks.residual_dense import ResidualDenseBlock, ResidualDenseNetwork
from thinslice.models.blocks.views import Fusion, MetaUpsampler, SubSlices, View, from_planes, in_chunks, to_planes

BOTH: tuple[View, View] = ("sagittal", "coronal")


@pytest.mark.parametrize("view", BOTH)
@pytest.mark.parametrize("plane", [(5, 7), (1, 4), (1, 1)])
def test_planes_put_back_are_the_volume(view: View, plane: tuple[int, int]) -> None:
    x = torch.rand(2, 1, 3, *plane)
    planes = to_planes(x, view)
    assert planes.shape == (2 * plane[view == "sagittal"], 3, 3, plane[view == "coronal"])
    assert torch.equal(from_planes(planes[:, 1], view, 2), x)


def test_a_planes_neighbours_are_its_channels_and_the_border_is_its_own() -> None:
    x = torch.rand(2, 1, 3, 5, 7)
    sagittal, coronal = to_planes(x, "sagittal"), to_planes(x, "coronal")
    for batch in range(2):
        for column in range(7):
            for channel, at in enumerate((max(0, column - 1), column, min(6, column + 1))):
                assert torch.equal(sagittal[7 * batch + column, channel], x[batch, 0, :, :, at])
        for row in range(5):
            for channel, at in enumerate((max(0, row - 1), row, min(4, row + 1))):
                assert torch.equal(coronal[5 * batch + row, channel], x[batch, 0, :, at])


def test_a_volume_without_voxels_is_refused() -> None:
    with pytest.raises(ShapeError, match="empty"):
        to_planes(torch.zeros(1, 1, 4, 0, 8), "sagittal")


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    planes, sizes = torch.rand(11, 3, 4, 6), []

    def network(some: torch.Tensor) -> torch.Tensor:
        sizes.append(len(some))
        return some.sum(1)

    monkeypatch.setattr(views, "CPU_CHUNK", 4 * 4 * 6)
    assert torch.equal(in_chunks(network, planes), planes.sum(1))
    assert sizes == [4, 4, 3]
    monkeypatch.setattr(views, "CPU_CHUNK", 1)
    assert torch.equal(in_chunks(network, planes), planes.sum(1))


@pytest.mark.parametrize("factor", range(2, 9))
def test_every_thin_slice_is_picked_where_it_lies(factor: int) -> None:
    depth = 4
    sub_slices = SubSlices.of_factor(factor, depth)
    assert len(sub_slices.offsets) == factor
    # Each sub-slice carries its own position as its value.
    at = torch.arange(depth)[:, None] + sub_slices.offsets[None]
    picked = sub_slices.pick(at.flatten()[None, :, None])
    expected = torch.arange((depth - 1) * factor + 1) / factor
    torch.testing.assert_close(picked[0, :, 0], expected, atol=1e-6, rtol=0)
    assert torch.equal(picked[0, ::factor, 0], torch.arange(depth).float()), "thick slices lie on themselves"


@pytest.mark.parametrize("wrong", [[-0.1], [3.01], [float("nan")], [], [[0.0]], [float("inf")]])
def test_positions_outside_the_volume_are_refused(wrong: list[float]) -> None:
    with pytest.raises(ShapeError, match="from 0 to 3"):
        SubSlices.at(torch.tensor(wrong), 4)


def test_a_generated_filter_is_applied_as_to_unfolded_features() -> None:
    torch.manual_seed(0)
    features, filters = torch.rand(2, 5, 4, 6), torch.randn(3, 5, 3, 3)
    found = MetaUpsampler.apply_filters(features, filters)
    patches = F.unfold(features, 3, padding=1).view(2, 5 * 9, 4, 6)
    for k in range(4):
        for i in range(3):
            expected = torch.einsum("npw,p->nw", patches[:, :, k], filters[i].flatten())
            torch.testing.assert_close(found[:, 3 * k + i], expected, atol=1e-5, rtol=1e-5)


def test_filters_are_read_from_distances_in_mm() -> None:
    torch.manual_seed(0)
    upsampler = MetaUpsampler(4, (8,))
    seen: list[torch.Tensor] = []
    upsampler.generate.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    upsampler.filters(torch.tensor([0.0, 0.2]), thick_spacing_mm=5.0, in_plane_spacing_mm=0.7)
    (distance,) = seen
    assert distance.shape == (2, 1, 3, 3)
    slant = (5.0**2 + 0.7**2) ** 0.5
    torch.testing.assert_close(
        distance[0, 0], torch.tensor([[slant, 5.0, slant], [0.7, 0.0, 0.7], [slant, 5.0, slant]])
    )
    # A fifth of 5 mm behind slice k: 6 mm from the slice before, 1 mm from k, 4 mm from the next.
    torch.testing.assert_close(distance[1, 0, :, 1], torch.tensor([6.0, 1.0, 4.0]))


def test_each_layer_of_a_block_uses_all_features_before_it() -> None:
    block = ResidualDenseBlock(4, layers=3, growth=2)
    assert [layer.in_channels for layer in block.layers] == [4, 6, 8]
    assert block.local_fusion.in_channels == 10
    torch.nn.init.zeros_(block.local_fusion.weight)
    torch.nn.init.zeros_(block.local_fusion.bias)
    x = torch.rand(1, 4, 5, 6)
    assert torch.equal(block(x), x), "without the fusion only the skip remains"


def test_the_network_skips_from_its_first_convolution() -> None:
    network = ResidualDenseNetwork(2, 4, blocks=2, layers=2, growth=3)
    torch.nn.init.zeros_(network.exit.weight)
    torch.nn.init.zeros_(network.exit.bias)
    planes = torch.rand(3, 2, 5, 6)
    torch.testing.assert_close(network(planes), network.shallow(planes))


def test_the_outputs_of_all_blocks_are_fused() -> None:
    torch.manual_seed(0)
    network = ResidualDenseNetwork(2, 4, blocks=3, layers=2, growth=3)
    planes = torch.rand(3, 2, 5, 6)
    shallow = network.shallow(planes)
    outputs = [network.entry(shallow)]
    for block in network.blocks:
        outputs.append(block(outputs[-1]))
    expected = shallow + network.exit(network.global_fusion(torch.cat(outputs[1:], dim=1)))
    torch.testing.assert_close(network(planes), expected, atol=1e-6, rtol=1e-5)


def test_fusion_without_its_residual_is_the_mean() -> None:
    fusion = Fusion(4, blocks=1, layers=2, growth=3)
    torch.nn.init.zeros_(fusion.residual.weight)
    torch.nn.init.zeros_(fusion.residual.bias)
    sagittal, coronal = torch.rand(2, 2, 1, 5, 6, 7)
    torch.testing.assert_close(fusion(sagittal, coronal), (sagittal + coronal) / 2)


def test_fusion_works_on_one_axial_slice_at_a_time() -> None:
    torch.manual_seed(0)
    fusion = Fusion(4, blocks=1, layers=2, growth=3)
    sagittal, coronal = torch.rand(2, 1, 1, 5, 6, 7)
    changed = sagittal.clone()
    changed[:, :, 2] += 1.0
    with torch.inference_mode():
        difference = (fusion(changed, coronal) - fusion(sagittal, coronal)).abs().amax((0, 1, 3, 4))
    assert difference[2] > 0.1 and difference[[0, 1, 3, 4]].max() < 1e-6
