"""Sizes of a ThinNet and its inputs beside the thick slices, in NumPy alone: what every runtime of one needs."""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from thinslice.planning import ModelWindow
from thinslice.profile import DEEP, SliceProfile, damping
from thinslice.typing import Doubles, Floats

DEFAULT_FACTOR = 5

POSITIONS = 6
"""Values that describe the position of a thin slice (`thin_positions`)."""

DEVIATION_WIDTH, DEVIATION_BASIS, DEVIATION_HIDDEN = 32, 6, 32
"""Of the head for standard deviations: channels inside, functions along z, width of the network that samples them."""


class ThinNetConfig(BaseModel):
    """Sizes of the network.

    Attributes:
        features: channels inside.
        blocks: residual blocks.
        basis: functions along z that the head combines.
        unshuffle: in-plane pixels per side that become channels.
        condition: width of the two small networks whose inputs are the factor and the profile.
        factors: smallest and largest factor.
        deviation: whether a second head estimates the standard deviation (`thinslice.models.deviation`).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: int = Field(48, ge=4, le=512)
    blocks: int = Field(5, ge=1, le=128)
    basis: int = Field(12, ge=2, le=128)
    unshuffle: int = Field(2, ge=1, le=8)
    condition: int = Field(64, ge=4, le=1024)
    factors: tuple[Annotated[int, Field(ge=2, le=64)], Annotated[int, Field(ge=2, le=64)]] = (2, 8)
    deviation: bool = False

    @model_validator(mode="after")
    def _factors_ascend(self) -> Self:
        if self.factors[0] > self.factors[1]:
            raise ValueError("factors are the smallest and the largest one, in this order")
        return self

    @property
    def all_factors(self) -> range:
        """Every factor from the smallest to the largest."""
        return range(self.factors[0], self.factors[1] + 1)

    @property
    def window(self) -> ModelWindow:
        """Size and margins of the windows that the network is meant for."""
        channels = self.unshuffle**2
        # Convolutions reach so many unshuffled pixels; a pixel may be the first or the last of its group.
        reach = self.unshuffle * (self.blocks + 2) + self.unshuffle - 1
        return ModelWindow(
            min_depth=2,
            tile=(512, 512),
            # One slice more than the convolutions reach: a thin slice may belong to the thick slice after it.
            halo=(self.blocks + 3, reach, reach),
            # Features of three layers, the workspace of convolutions, and the input as channels (measured).
            working_bytes=4.0 * (4 * self.features / channels + 4),
            # Features once, and the input as channels.
            in_pieces_bytes=4.0 * (self.features / channels + 2),
        )


def weight_shapes(config: ThinNetConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of each weight of a ThinNet, as in its weights file and in its graph.

    >>> weight_shapes(ThinNetConfig(features=8, blocks=1))["blocks.0.across.weight"]
    (8, 8, 3, 3, 3)
    """
    features, condition, pixels = config.features, config.condition, config.unshuffle**2
    layers: dict[str, tuple[int, ...]] = {
        "describe.0": (condition, 4),
        "stem": (features, pixels, 3, 3, 3),
        "head.filters": (config.basis * pixels, features, 3, 3, 3),
        "head.position.0": (condition, POSITIONS),
        "head.position.2": (config.basis, condition),
    }
    for index in range(config.blocks):
        layers[f"blocks.{index}.across"] = (features, features, 3, 3, 3)
        layers[f"blocks.{index}.across.modulation"] = (2 * features, condition)
        layers[f"blocks.{index}.mix"] = (features, features)
    if config.deviation:
        width, basis, hidden = DEVIATION_WIDTH, DEVIATION_BASIS, DEVIATION_HIDDEN
        layers["deviation.gather"] = (width, features, 1, 1, 1)
        layers["deviation.modulation"] = (2 * width, condition)
        layers["deviation.filters"] = (basis * pixels, width, 3, 3, 3)
        layers["deviation.position.0"] = (hidden, POSITIONS)
        layers["deviation.position.2"] = (basis + 1, hidden)
    return {
        f"{layer}.{part}": shape if part == "weight" else shape[:1]
        for layer, shape in layers.items()
        for part in ("weight", "bias")
    }


class Description(NamedTuple):
    """Thick slices as a graph takes them.

    Attributes:
        condition: (4,) from `condition_features`, float32.
        positions: (factor, 6) from `thin_positions`, float32; its length is the factor.
        profile: (odd number,) weights of thin slices in a thick one, float64.
        damping: () what is added to the diagonal of A A^T (`thinslice.profile.damping`), float64.
    """

    condition: Floats
    positions: Floats
    profile: Doubles
    damping: Doubles


def description(factor: int, profile: SliceProfile | None = None) -> Description:
    """The inputs of a graph beside the thick slices.

    Args:
        factor: thin slices per thick interval.
        profile: of the thick slices; None for contiguous ones.

    >>> contiguous = description(5)
    >>> contiguous.positions.shape, contiguous.profile.tolist(), contiguous.damping.tolist()
    ((5, 6), [0.2, 0.2, 0.2, 0.2, 0.2], 0.0)
    """
    profile = profile or SliceProfile.mean(factor)
    averages = profile.matrix(DEEP + 2 * profile.supported(0).start)
    return Description(
        condition_features(factor, profile),
        thin_positions(factor),
        np.asarray(profile.weights),
        np.asarray(damping(averages @ averages.T)),
    )


def condition_features(factor: int, profile: SliceProfile) -> Floats:
    """Description of the thick slices for the body: (4,) float32, roughly within [-1, 1]."""
    fineness = math.log2(factor) - 2.0
    return np.array([fineness, fineness**2, profile.width - 1.0, (profile.width - 1.0) * fineness], dtype=np.float32)


def thin_positions(factor: int) -> Floats:
    """Description of the thin slices of one thick slice, in the order of the heads' results: (factor, 6) float32.

    The first value is twice the distance from the thick slice's centre in thick spacings, [-1, 1].

    >>> [f"{first:.1f}" for first in thin_positions(5)[:, 0]]
    ['-0.8', '-0.4', '0.0', '0.4', '0.8']
    """
    offset = (np.arange(factor) - factor // 2) / factor
    fineness = np.full_like(offset, math.log2(factor) - 2.0)
    angle = 2.0 * math.pi * offset
    columns = [2.0 * offset, np.cos(angle), np.sin(angle), np.sin(2.0 * angle), fineness, 2.0 * offset * fineness]
    return np.stack(columns, axis=-1).astype(np.float32)
