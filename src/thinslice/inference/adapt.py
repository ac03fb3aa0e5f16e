"""Adapts a network to one thick volume, on that volume alone.

A thick slice is sharp along both its axes. One of them takes the part of the through-plane axis: along x (or y) pixels
are averaged by the slice profile, `factor` of them per step, and the network learns to give them back.

    axial slice (y, x) ── profile along x ── planes whose depth is x ── network ──┐
                    └──────────────────────────────────────────────────────────┴── mean absolute difference

Three things differ from upscaling, unavoidably. The simulated thick slices are `factor` pixels apart, which is finer
than the volume's own (3.5 mm instead of 5 mm, say, at 0.7 mm pixels); the network has no input for that and applies the
spacings of its training. A plane's neighbours are thick slices, several mm away, where the network was trained with
neighbouring columns; so each plane replaces its own neighbours. Noise within a slice differs from noise across slices.

Source: Peng et al., "DA-VSR", MICCAI 2021: the feature extractor alone is fine-tuned, on in-plane pairs made from the
test volume. Ours, where it is silent: Adam, mean absolute difference, both axes in turn, crops of body.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from thinslice.errors import ModelError, NotEligibleError, UsageError
from thinslice.intensity import BODY_ABOVE_HU, to_unit
from thinslice.models.base import ThroughPlaneModel
from thinslice.planning import slice_profile
from thinslice.profile import SliceProfile
from thinslice.volume import Volume

DegradedAxis = Literal["x", "y", "both"]
"""The in-plane axis that stands for the through-plane one: columns, rows, or both in turn."""

DEPTH = 4
"""Simulated thick slices of a crop, as many as fit, for networks whose window sets no depth."""

EXTENT = 64
"""Pixels of a crop along the axis that stays sharp."""

CROPS = 16
"""Crops per step."""

LEAST_BODY = 0.5
"""Share of a crop that should not be air."""

DRAWS = 8
"""Most draws of a crop that holds too little body."""


@runtime_checkable
class Adaptable(Protocol):
    """Methods of a network that can adapt to a volume, besides the contract of `thinslice.models.base`."""

    def adaptable_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that adaptation may change."""

    def restore(self, x: torch.Tensor, view: Literal["sagittal", "coronal"], *, factor: int) -> torch.Tensor:
        """One view's result before fusion; "sagittal" planes have rows beside depth, "coronal" ones columns.

        x: (batch, 1, D, H, W); the result (batch, 1, (D - 1) * factor + 1, H, W).
        """


def adapt(
    network: ThroughPlaneModel,
    thick: Volume,
    *,
    factor: int,
    steps: int,
    learning_rate: float = 1e-4,
    plane: DegradedAxis = "both",
    seed: int = 0,
    profile: SliceProfile | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ThroughPlaneModel:
    """A copy of a network, fine-tuned on a volume; the network itself is not changed.

    Args:
        network: one that can adapt (`Adaptable`), such as DAVSR, on the device to use.
        thick: the volume, HU.
        factor: thin slices per thick interval.
        steps: steps of the optimiser, 0 or more, with `CROPS` crops each.
        learning_rate: learning rate of Adam.
        plane: the in-plane axis that is degraded: "x" (columns), "y" (rows), or both in turn.
        seed: seed of the crops. The same seed gives the same weights on the same machine.
        profile: weights of thin slices in a thick one; None for the profile of the volume's slice thickness.
        progress: called with the steps done and their number.

    Returns:
        The adapted copy, in eval mode. Its card records the adaptation, and it has no hash of a file. With 0 steps it
        is an unchanged copy.

    Raises:
        ModelError: when the network cannot adapt, or the loss is not finite; lower the learning rate, or repair the
            volume.
        ShapeError: for a factor that the network cannot do.
        NotEligibleError: when the volume is too small in plane for one crop.
        UsageError: for arguments out of range.
    """
    if steps < 0 or not (math.isfinite(learning_rate) and learning_rate > 0):
        raise UsageError(
            f"Adaptation takes 0 or more steps and a learning rate above 0, not {steps} and {learning_rate:g}."
        )
    crops = _Crops(network, thick, factor, plane, profile)
    with torch.inference_mode(mode=False):  # a copy made in inference mode could not be trained
        adapted = copy.deepcopy(network).eval()
    if steps == 0:
        return adapted
    trained_before = [parameter.requires_grad for parameter in adapted.parameters()]
    adapted.requires_grad_(False).zero_grad(set_to_none=True)
    parameters = [parameter.requires_grad_(True) for parameter in adapted.adaptable_parameters()]  # type: ignore[operator]
    optimiser = torch.optim.Adam(parameters, lr=learning_rate)
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(mode=False), torch.enable_grad(), exact:
        for step in range(steps):
            loss = crops.loss(adapted, (seed, step), step)
            if not math.isfinite(loss.item()):
                raise ModelError(
                    f"Adapting {type(network).__name__} gave a loss of {loss.item()} at step {step}; lower the "
                    "learning rate, and check that weights and volume hold finite numbers only."
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if progress:
                progress(step + 1, steps)
    adapted.zero_grad(set_to_none=True)
    for parameter, trained in zip(adapted.parameters(), trained_before, strict=True):
        parameter.requires_grad_(trained)
    _sign(adapted, {"steps": steps, "learning_rate": learning_rate, "plane": plane, "seed": seed, "factor": factor})
    return adapted


def restoration_loss(
    network: ThroughPlaneModel,
    thick: Volume,
    *,
    factor: int,
    plane: DegradedAxis = "both",
    seed: int = 0,
    draws: int = 8,
    profile: SliceProfile | None = None,
) -> float:
    """The loss that `adapt` lowers: error of a network on degraded pixels of a volume; nothing is changed.

    Args:
        network, thick, factor, plane, profile: as for `adapt`.
        seed: seed of the crops; another seed than that of `adapt` draws other crops.
        draws: batches of `CROPS` crops.

    Returns:
        Mean absolute difference, unit intensity.

    Raises:
        ModelError, ShapeError, NotEligibleError, UsageError: as for `adapt`.
    """
    crops = _Crops(network, thick, factor, plane, profile)
    with torch.inference_mode():
        return sum(crops.loss(network, (seed, draw), draw).item() for draw in range(draws)) / draws


class _Crops:
    """Pairs drawn from the axial slices of a volume, and the network's error on them."""

    def __init__(
        self, network: ThroughPlaneModel, thick: Volume, factor: int, plane: DegradedAxis, profile: SliceProfile | None
    ) -> None:
        if not isinstance(network, Adaptable):
            raise ModelError(
                f"{type(network).__name__} cannot adapt to a volume: it names no parameters that may change "
                "(adaptable_parameters). Use davsr, or leave adaptation out."
            )
        if plane not in ("x", "y", "both"):
            raise UsageError(f"There is no in-plane axis {plane!r} to adapt along; choose x, y or both.")
        self._hu = thick.hu
        self._factor = factor
        self._profile = profile or slice_profile(thick.geometry, factor)
        self._deepest = network.window.depth or network.window.max_depth or DEPTH
        self._axes: tuple[Literal["x", "y"], ...] = ("x", "y") if plane == "both" else (plane,)
        for axis in self._axes:
            if self._depth(axis) < network.window.min_depth:
                raise NotEligibleError(
                    f"The slices of {self._hu.shape[1]} x {self._hu.shape[2]} pixels are too small to adapt to at "
                    f"factor {factor}; leave adaptation out."
                )

    def _depth(self, axis: Literal["x", "y"]) -> int:
        """Simulated thick slices of a crop whose depth is that axis."""
        extent = self._hu.shape[2 if axis == "x" else 1]
        possible: int = (extent - 1 - 2 * self._profile.reach) // self._factor + 1
        return min(self._deepest, possible)

    def loss(self, network: ThroughPlaneModel, seed: tuple[int, int], turn: int) -> torch.Tensor:
        """Mean absolute difference over a batch of crops; axes take turns."""
        axis = self._axes[turn % len(self._axes)]
        thin = self._draw(np.random.default_rng(seed), axis)
        reach, device = self._profile.reach, next(network.parameters()).device
        degraded = torch.from_numpy(self._profile.apply(thin, axis=1)).to(device)
        truth = torch.from_numpy(thin[:, reach : thin.shape[1] - reach]).to(device)
        # In a volume one plane thick, padding at its border makes the plane its own neighbour.
        across, view = (-1, "sagittal") if axis == "x" else (-2, "coronal")
        restored = network.restore(degraded[:, None].unsqueeze(across), view, factor=self._factor)  # type: ignore[operator]
        difference: torch.Tensor = (restored[:, 0].squeeze(across) - truth).abs().mean()
        return difference

    def _draw(self, rng: np.random.Generator, axis: Literal["x", "y"]) -> npt.NDArray[np.float32]:
        """(crops, along the axis to degrade, along the other one), unit intensity, clipped to the window."""
        along = (self._depth(axis) - 1) * self._factor + 1 + 2 * self._profile.reach
        return np.stack([self._crop(rng, axis, along) for _ in range(CROPS)])

    def _crop(self, rng: np.random.Generator, axis: Literal["x", "y"], along: int) -> npt.NDArray[np.float32]:
        crop: npt.NDArray[Any] = np.empty(0)
        for _ in range(DRAWS):
            axial = self._hu[rng.integers(self._hu.shape[0])]
            plane = axial.T if axis == "x" else axial
            extent = min(EXTENT, plane.shape[1])
            first, second = (int(rng.integers(n - e + 1)) for n, e in zip(plane.shape, (along, extent), strict=True))
            crop = plane[first : first + along, second : second + extent]
            if np.mean(crop > BODY_ABOVE_HU) >= LEAST_BODY:
                break
        return np.clip(to_unit(crop), 0.0, 1.0)


def _sign(adapted: ThroughPlaneModel, settings: dict[str, Any]) -> None:
    """Record in the card that the weights are no longer those of a file."""
    card: dict[str, Any] = dict(getattr(adapted, "card", None) or {})
    name = card.get("name") or type(adapted).__name__
    adapted.card = {**card, "name": f"{name}-adapted", "adapted": settings}  # type: ignore[assignment]
    adapted.sha256 = None  # type: ignore[assignment]
