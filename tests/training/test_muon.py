"""Muon: its steps against torch's own on matrices, its rule for kernels, and that it goes on from a saved state."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from thinslice.training.muon import SMALLEST, Muon, is_kernel, orthogonal


def gradients(*shape: int, steps: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(*shape, generator=generator) for _ in range(steps)]


@pytest.mark.parametrize("shape", [(64, 160), (160, 64), (96, 96)])
def test_singular_values_come_out_alike_and_directions_stay(shape: tuple[int, int]) -> None:
    left, right = (torch.linalg.qr(torch.randn(n, min(shape)))[0] for n in shape)
    values = torch.logspace(0, -2, min(shape))
    found = orthogonal((left * values) @ right.T)
    seen = (left.T @ found @ right).diagonal()
    assert float(seen.min()) > 0.6 and float(seen.max()) < 1.25
    assert float((found - (left * seen) @ right.T).norm() / found.norm()) < 1e-3


def test_the_scale_of_a_gradient_does_not_matter() -> None:
    gradient = gradients(48, 200)[0]
    torch.testing.assert_close(orthogonal(gradient * 1e-6), orthogonal(gradient), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("shape", [(64, 160), (160, 64)])
def test_steps_of_a_matrix_are_those_of_torch(shape: tuple[int, int]) -> None:
    start = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    options = {"lr": 1e-2, "weight_decay": 0.1}
    optimisers = [Muon([ours], **options), torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **options)]
    for gradient in gradients(*shape):
        for parameter, optimiser in zip((ours, theirs), optimisers, strict=True):
            parameter.grad = gradient.clone()
            optimiser.step()
    moved = float((theirs - start).detach().norm())
    # Torch's iterates in bfloat16.
    assert float((ours - theirs).detach().norm()) < 0.02 * moved


def test_a_kernel_moves_as_the_matrix_it_is() -> None:
    shape = (32, 16, 3, 3, 3)
    kernel = nn.Parameter(torch.zeros(shape).contiguous(memory_format=torch.channels_last_3d))
    matrix = nn.Parameter(torch.zeros(32, 16 * 27))
    assert is_kernel(kernel) and kernel.numel() >= SMALLEST
    for parameter, gradient in zip((kernel, matrix), (gradients(*shape)[0],) * 2, strict=True):
        parameter.grad = gradient.reshape(parameter.shape)
        Muon([parameter], lr=1e-2, weight_decay=0.0).step()
    torch.testing.assert_close(kernel.detach().flatten(1), matrix.detach())


def test_small_tensors_move_as_by_adamw() -> None:
    ours, theirs = nn.Parameter(torch.ones(5, 3)), nn.Parameter(torch.ones(5, 3))
    options = {"lr": 1e-2, "weight_decay": 0.1}
    optimisers = [Muon([ours], **options), torch.optim.AdamW([theirs], betas=(0.9, 0.99), **options)]
    for gradient in gradients(5, 3):
        for parameter, optimiser in zip((ours, theirs), optimisers, strict=True):
            parameter.grad = gradient.clone()
            optimiser.step()
    torch.testing.assert_close(ours.detach(), theirs.detach())


def test_a_loaded_state_goes_on_as_the_first_would_have() -> None:
    whole = [nn.Parameter(torch.ones(128, 100)), nn.Parameter(torch.ones(7))]
    optimiser = Muon(whole, lr=1e-2, weight_decay=1e-2)
    drawn = list(zip(gradients(128, 100), gradients(7), strict=True))
    for step, both in enumerate(drawn):
        if step == 2:
            parts = [nn.Parameter(parameter.detach().clone()) for parameter in whole]
            resumed = Muon(parts, lr=1e-2, weight_decay=1e-2)
            resumed.load_state_dict(copy.deepcopy(optimiser.state_dict()))
        for parameter, gradient in zip(whole, both, strict=True):
            parameter.grad = gradient.clone()
        optimiser.step()
    for both in drawn[2:]:
        for parameter, gradient in zip(parts, both, strict=True):
            parameter.grad = gradient.clone()
        resumed.step()
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_parameters_without_a_gradient_stay() -> None:
    parameter = nn.Parameter(torch.ones(100, 100))
    Muon([parameter], lr=1.0, weight_decay=0.5).step()
    assert torch.equal(parameter.detach(), torch.ones(100, 100))
