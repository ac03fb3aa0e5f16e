"""Types of arrays and callbacks that several packages name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
"""An array of single precision; shape, axes and unit stand where the array is used."""

Doubles = npt.NDArray[np.float64]
"""An array of double precision; shape, axes and unit stand where the array is used."""

Notify = Callable[[str], None]
"""Called with one plain line about the work in progress."""

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

Transfer = Callable[[str, int, int], None]
"""Called with (name of the step, bytes done, bytes in all)."""
