"""A flat body with lungs and noise of known size, spectrum and blur, and a network whose map is of the wrong size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from thinslice.inference.texture.field import NoiseField
from thinslice.inference.texture.law import Averages, open_noise
from thinslice.models.base import ThroughPlaneModel
from thinslice.planning import ModelWindow
from thinslice.profile import SliceProfile
from thinslice.volume import Volume

SOFT_HU = 40.0
"""Mean of the soft tissue."""

SPECTRUM = (0.3, 0.8, 1.0, 0.8, 0.4, 0.15, 0.05, 0.01)


@dataclass(frozen=True)
class Phantom:
    """A thin volume of soft tissue and its thick slices.

    Attributes:
        thin: (slices, height, width) HU.
        thick: averages of it; thick slice k lies on thin slice factor * k.
    """

    thin: np.ndarray
    thick: Volume


def phantom(
    factor: int, width: float = 1.0, *, noise_hu: float = 30.0, blur: float = 0.5, depth: int = 12, side: int = 96
) -> Phantom:
    """Soft tissue with noise; thick slices `width` times as thick as they are apart."""
    profile = SliceProfile.mean(factor, width=width)
    field = NoiseField((side, side), SPECTRUM, blur, seed=99)
    planes = [SOFT_HU + noise_hu * field.plane(i) for i in range((depth - 1) * factor + 1 + 2 * profile.reach)]
    thin = np.stack(planes).astype(np.float32)
    thick = np.rint(profile.apply(thin)).astype(np.int16)
    volume = Volume.from_array(thick, spacing_mm=(float(factor), 0.7, 0.7), thickness_mm=factor * width)
    return Phantom(thin[profile.reach : len(thin) - profile.reach], volume)


class EvenMap(ThroughPlaneModel):
    """The best estimate of noise from thick slices, around soft tissue, with an even standard deviation.

    What a network is that has learned all there is of noise; it averages back to the thick slices.

    Args:
        deviation_hu: the standard deviation, right or wrong.
        blur: of the noise along z.
    """

    factors = range(2, 9)
    default_factor = 5
    consistent = True
    has_deviation = True

    def __init__(self, deviation_hu: float = 10.0, blur: float = 0.5) -> None:
        super().__init__()
        self.blur = blur
        self.deviation = torch.nn.Parameter(torch.tensor(deviation_hu / 3072.0))
        self.window = ModelWindow(min_depth=2, tile=(48, 48), halo=(9, 0, 0), working_bytes=60.0)

    def forward(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> torch.Tensor:
        """Soft tissue of `SOFT_HU`, and the noise that the thick slices let expect."""
        averages = Averages.of_profile(profile or SliceProfile.mean(factor or 5), x.shape[2])
        back = torch.tensor(open_noise(averages, self.blur).back, dtype=x.dtype)
        level = (SOFT_HU + 1024.0) / 3072.0
        return torch.einsum("td,bcdhw->bcthw", back, x - level) + level

    def with_deviation(
        self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The estimate and the even map."""
        thin = self(x, factor=factor, profile=profile)
        return thin, torch.ones_like(thin) * self.deviation
