"""Losses: what they measure, and what does not count."""

from __future__ import annotations

import pytest
import torch

from thinslice.errors import UsageError
from thinslice.models import catalog
from thinslice.profile import SliceProfile
from thinslice.recipes import LossRecipe
from thinslice.training.objective import Conditions, ObjectiveModule, gradient_difference, half_neighbourhood, loss

SHAPE = (2, 1, 6, 5, 4)


def volumes(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    numbers = torch.Generator().manual_seed(seed)
    return torch.rand(SHAPE, generator=numbers), torch.rand(SHAPE, generator=numbers)


def of_error(error_hu: float, recipe: LossRecipe) -> float:
    return float(loss(torch.full(SHAPE, error_hu / 3072.0), torch.zeros(SHAPE), torch.ones(SHAPE), recipe))


def test_huber_is_square_below_the_knee_and_absolute_above() -> None:
    recipe = LossRecipe(kind="huber", knee_hu=100.0)
    assert of_error(50.0, recipe) == pytest.approx(0.5 * 0.25, rel=1e-4)
    assert of_error(300.0, recipe) - of_error(200.0, recipe) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize(("kind", "power"), [("l1", 1), ("mse", 2)])
def test_l1_and_mse_are_means_in_unit_intensity(kind: str, power: int) -> None:
    estimate, truth = volumes()
    expected = (estimate - truth).abs().pow(power).mean()
    got = loss(estimate, truth, torch.ones(SHAPE), LossRecipe(kind=kind))
    torch.testing.assert_close(got, expected)


def test_voxels_of_weight_zero_do_not_count() -> None:
    estimate, truth = volumes()
    weight = torch.ones(SHAPE)
    weight[:, :, 2] = 0
    recipe = LossRecipe(kind="l1", gradient=0.5, contrast=0.5)
    before = loss(estimate, truth, weight, recipe)
    estimate[:, :, 2] += 100.0
    torch.testing.assert_close(loss(estimate, truth, weight, recipe), before)
    assert loss(estimate, truth, torch.zeros(SHAPE), recipe) == 0


def test_trimmed_slices_do_not_count() -> None:
    estimate, truth = volumes()
    recipe = LossRecipe(kind="l1", trim=2)
    before = loss(estimate, truth, torch.ones(SHAPE), recipe)
    estimate[:, :, :2] += 1.0
    estimate[:, :, -2:] += 1.0
    torch.testing.assert_close(loss(estimate, truth, torch.ones(SHAPE), recipe), before)


def test_gradient_difference_sees_edges_and_no_offset() -> None:
    estimate, truth = volumes()
    weight = torch.ones(SHAPE)
    torch.testing.assert_close(gradient_difference(truth + 0.3, truth, weight), torch.tensor(0.0), atol=1e-6, rtol=0)
    # Against the definition: all 26 neighbours, one by one.
    error = estimate - truth
    terms: dict[tuple[int, int, int], torch.Tensor] = {}
    for shift in [s for h in half_neighbourhood() for s in (h, tuple(-x for x in h))]:
        rolled = torch.roll(error, [-s for s in shift], (2, 3, 4))
        valid = torch.ones(SHAPE, dtype=torch.bool)
        for axis, step in enumerate(shift, start=2):
            if step:
                valid.narrow(axis, SHAPE[axis] - 1 if step > 0 else 0, 1).fill_(False)
        terms[shift] = (rolled - error).abs()[valid].mean()
    assert len(terms) == 26
    torch.testing.assert_close(gradient_difference(estimate, truth, weight), torch.stack([*terms.values()]).mean())


def test_a_single_slice_has_no_neighbours_to_compare() -> None:
    one = torch.zeros(1, 1, 1, 1, 1)
    assert gradient_difference(one, one, torch.ones_like(one)) == 0


def test_contrast_sees_only_what_the_windows_show() -> None:
    recipe, plain = LossRecipe(kind="l1", contrast=1.0), LossRecipe(kind="l1")
    bone, brighter = torch.full(SHAPE, (1000 + 1024) / 3072), torch.full(SHAPE, (1100 + 1024) / 3072)
    weight = torch.ones(SHAPE)
    assert loss(bone, brighter, weight, recipe) == loss(bone, brighter, weight, plain)
    fat, soft = torch.full(SHAPE, (-100 + 1024) / 3072), torch.full(SHAPE, (0 + 1024) / 3072)
    assert loss(fat, soft, weight, recipe) > 2 * loss(fat, soft, weight, plain)


def test_a_network_without_views_cannot_train_on_them() -> None:
    with pytest.raises(UsageError, match="views"):
        ObjectiveModule(catalog.build("thinnet", features=8, blocks=1), "views", LossRecipe())


@pytest.mark.parametrize(("name", "objective"), [("saint", "views"), ("davsr", "views"), ("mpunet", "stages")])
def test_networks_with_parts_give_a_loss_that_reaches_them(name: str, objective: str) -> None:
    torch.manual_seed(0)
    module = ObjectiveModule(catalog.build(name), objective, LossRecipe(kind="l1", side_outputs=0.5))
    numbers = torch.Generator().manual_seed(1)
    thick, thin = torch.rand((1, 1, 3, 16, 16), generator=numbers), torch.rand((1, 1, 11, 16, 16), generator=numbers)
    value = module(thick, thin, torch.ones_like(thin), Conditions(5, SliceProfile.mean(5)))
    assert value.ndim == 0 and value.isfinite() and value > 0
    value.backward()
    reached = [name for name, p in module.network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert reached
