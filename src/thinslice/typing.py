"""Types of arrays and callbacks that several packages name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    """An array of single precision; shape, axes and unit stand where the array is used."""

    Doubles = npt.NDArray[np.float64]
    """An array of double precision; shape, axes and unit stand where the array is used."""

else:

    def __getattr__(name: str) -> Any:
        """The array types, made on first use: the command line names callbacks, and its --help loads no numpy."""
        if name not in ("Floats", "Doubles"):
            raise AttributeError(f"module 'thinslice.typing' has no attribute {name!r}")
        import numpy as np
        import numpy.typing as npt

        return npt.NDArray[np.float32 if name == "Floats" else np.float64]


Notify = Callable[[str], None]
"""Called with one plain line about the work in progress."""

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

Transfer = Callable[[str, int, int], None]
"""Called with (name of the step, bytes done, bytes in all)."""

PhaseProgress = Callable[[str, float], None]
"""Called with (name of the phase, share of it that is done, between 0 and 1)."""
