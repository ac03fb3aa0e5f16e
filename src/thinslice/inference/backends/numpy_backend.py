"""An interpolation run by NumPy: one product of matrices a window, without torch."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from thinslice.errors import ModelError, ResourceError
from thinslice.inference.backends.base import Choice
from thinslice.inference.backends.output import checked_output
from thinslice.models.along_z import z_matrix
from thinslice.models.stored import Stored, StoredInterpolation
from thinslice.options import option
from thinslice.typing import Floats

if TYPE_CHECKING:
    from torch import nn

    from thinslice.profile import SliceProfile


class NumpyBackend:
    """An interpolation on the CPU.

    Args:
        model: the interpolation, as data.
        factor: thin slices per thick interval.
        profile: weights of thin slices in a thick one; only the consistent methods use it.
        name: the model's name, for messages.

    Attributes:
        choice: NumPy on the CPU in float32.
        batch: 1: windows go one by one.
        seconds: time spent in the product.
        warnings: empty.

    Raises:
        ModelError: for a network, which NumPy does not run.
    """

    def __init__(
        self, model: nn.Module | Stored, *, factor: int, profile: SliceProfile, name: str = "the network"
    ) -> None:
        if not isinstance(model, StoredInterpolation):
            raise ModelError(
                f"The backend 'numpy' runs interpolations, not {name}; use {option('backend', 'onnxruntime')} or torch."
            )
        self._method = model.config.method
        self._factor = factor
        self._profile = profile
        self._model_name = name
        self.choice = Choice("numpy", "cpu")
        self.batch = 1
        self.seconds = 0.0
        self.warnings: list[str] = []

    def __call__(self, windows: Floats) -> Floats:
        """Upscale windows.

        Args:
            windows: (batch, 1, D, H, W), unit intensity.

        Returns:
            (batch, 1, (D - 1) * factor + 1, H, W), unit intensity, not clamped.

        Raises:
            ResourceError: when memory is short.
        """
        start = time.perf_counter()
        batch, _, depth, height, width = windows.shape
        rows = z_matrix(self._method, depth, self._profile, self._factor).astype(np.float32)
        try:
            thin: Floats = rows @ windows.reshape(batch, 1, depth, height * width)
        except MemoryError as error:
            raise ResourceError(
                f"A window of {windows.shape[2:]} voxels does not fit into main memory; close other programs."
            ) from error
        finally:
            self.seconds += time.perf_counter() - start
        thin = thin.reshape(batch, 1, len(rows), height, width)
        return checked_output(thin, windows, self._factor, channels=1, name=self._model_name)
