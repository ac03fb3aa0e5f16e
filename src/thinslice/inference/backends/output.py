"""Check of a backend's output."""

from __future__ import annotations

import numpy as np

from thinslice.errors import ModelError
from thinslice.options import option
from thinslice.typing import Floats


def checked_output(thin: Floats, windows: Floats, factor: int, *, channels: int, name: str) -> Floats:
    """The output of a network, if its shape is right and its values are finite.

    Args:
        thin: output of the network, unit intensity.
        windows: its input, (batch, 1, D, H, W).
        factor: thin slices per thick interval.
        channels: expected number of channels.
        name: the model's name, for messages.

    Raises:
        ModelError: for another shape, or values that are not finite; use other weights.

    >>> checked_output(np.zeros((1, 1, 6, 2, 2), np.float32), np.zeros((1, 1, 2, 2, 2), np.float32), 5,
    ...                channels=1, name="demo").shape
    (1, 1, 6, 2, 2)
    """
    batch, _, depth, height, width = windows.shape
    expected = (batch, channels, (depth - 1) * factor + 1, height, width)
    if thin.shape != expected:
        raise ModelError(
            f"{name} gave {thin.shape} for windows {windows.shape} at factor {factor}, not {expected}; it does not "
            "meet the contract of thinslice.models.base."
        )
    # NaN propagates to minimum and maximum, and these need no temporary array.
    if not (np.isfinite(thin.min()) and np.isfinite(thin.max())):
        raise ModelError(
            f"{name} gave values that are not finite numbers; its weights are damaged or its training diverged. Use "
            f"other weights, or {option('model', 'cubic-consistent')}, which needs none."
        )
    return thin
