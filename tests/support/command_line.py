"""What the tests of the command line share: the outcome of a command, and a small volume to run it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from thinslice.geometry import Geometry
from thinslice.volume import Volume


@dataclass(frozen=True)
class Outcome:
    """What one command left: its exit code, and what it printed."""

    code: object
    out: str
    err: str

    @property
    def text(self) -> str:
        """Everything printed, as one line: help is wrapped to the terminal."""
        return " ".join((self.out + self.err).split())


Run = Callable[..., Outcome]


def smooth_volume(depth: int = 5, plane: int = 24, spacing_mm: float = 5.0) -> Volume:
    """Waves between -800 and 800 HU, different along each axis."""
    d, h, w = np.meshgrid(np.arange(depth), np.arange(plane), np.arange(plane), indexing="ij")
    hu = 400 * np.sin(0.9 * d) + 250 * np.cos(0.3 * h) + 150 * np.sin(0.2 * w + 0.1 * h)
    return Volume(np.rint(hu).astype(np.int16), Geometry((depth, plane, plane), (spacing_mm, 0.8, 0.8)))
