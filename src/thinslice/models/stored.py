"""Networks as data, without torch: sizes, card and weights as arrays, for runtimes that bring a network's layers along.

    load_stored("default")    the weights file of a ThinNet, checked as torch's loading checks it
    load_stored("cubic")      an interpolation, which is one matrix

Both have the attributes of `thinslice.models.base.ThroughPlaneModel` that are asked for before a run; neither can be
called. onnxruntime runs the one (`thinslice.inference.backends.onnxruntime_backend`), NumPy the other.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from thinslice.errors import CheckpointError, ModelError
from thinslice.models import catalog, checkpoint
from thinslice.models.along_z import DEFAULT_FACTOR, FACTORS, InterpolateConfig
from thinslice.models.thinnet_config import DEFAULT_FACTOR as THINNET_FACTOR
from thinslice.models.thinnet_config import ThinNetConfig, weight_shapes
from thinslice.models.weights_header import tensor_shapes
from thinslice.options import option
from thinslice.planning import ModelWindow
from thinslice.system.packages import TORCH_LINE, is_installed
from thinslice.typing import Floats


@dataclass(frozen=True)
class StoredNetwork:
    """A ThinNet as data.

    Attributes:
        config: its sizes.
        weights: by their names in the weights file, float32.
        card: of the weights file.
        sha256: of the weights file, hexadecimal; None for weights of another origin.
        deviation_scale: factor of the standard deviations, from their calibration; None where the estimate alone is
            wanted.
    """

    config: ThinNetConfig
    weights: Mapping[str, Floats] = field(repr=False)
    card: dict[str, Any] | None = None
    sha256: str | None = None
    deviation_scale: float | None = None

    default_factor: ClassVar[int] = THINNET_FACTOR
    consistent: ClassVar[bool] = True

    @property
    def factors(self) -> Collection[int]:
        """Through-plane factors that it supports."""
        return self.config.all_factors

    @property
    def window(self) -> ModelWindow:
        """Size and margins of its windows."""
        return self.config.window

    @property
    def has_deviation(self) -> bool:
        """Whether it has a head for standard deviations."""
        return self.config.deviation

    def parameters(self) -> Iterator[Floats]:
        """The trained values, as of a network of torch."""
        return iter(self.weights.values())


@dataclass(frozen=True)
class StoredInterpolation:
    """An interpolation as data.

    Attributes:
        config: its method.
    """

    config: InterpolateConfig

    factors: ClassVar[Collection[int]] = FACTORS
    default_factor: ClassVar[int] = DEFAULT_FACTOR
    has_deviation: ClassVar[bool] = False
    card: ClassVar[dict[str, Any] | None] = None
    sha256: ClassVar[str | None] = None

    @property
    def consistent(self) -> bool:
        """Whether thin slices average back to the thick ones."""
        return self.config.consistent

    @property
    def window(self) -> ModelWindow:
        """Size and margins of its windows."""
        return self.config.window

    def parameters(self) -> Iterator[Floats]:
        """Nothing, as it has no trained values."""
        return iter(())


Stored = StoredNetwork | StoredInterpolation


def load_stored(name_or_path: str | Path) -> Stored:
    """The network of a name or a weights file, without torch.

    Args:
        name_or_path: a name of the catalog that needs no training, or the weights file of a ThinNet.

    Raises:
        UsageError: for an unknown name.
        CheckpointError: for a network that has no weights yet, or a damaged file.
        ModelError: for a network that only torch can run; install PyTorch.

    >>> load_stored("cubic").config.method
    'cubic'
    >>> load_stored("fast").config.features
    32
    """
    name = str(name_or_path)
    entry = catalog.CATALOG.get(name)
    if entry is None and name in catalog.names():
        raise _needs_torch(f"The plug-in network {name!r}")
    if entry is not None and not entry.learned:
        return StoredInterpolation(InterpolateConfig(**entry.preset))
    return _load_file(catalog.weights_of(name_or_path))


def _load_file(path: Path) -> StoredNetwork:
    from pydantic import ValidationError
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    from thinslice.recipes.checked import first_fault

    info = checkpoint.inspect_with_digest(path)
    architecture = catalog.CATALOG.get(info.architecture)
    if architecture is None or architecture.model != catalog.CATALOG["default"].model:
        raise _needs_torch(f"{path.name}, a network of the architecture {info.architecture!r},")
    checkpoint.check_digest(path, info)
    try:
        config = ThinNetConfig(**{**architecture.preset, **info.config})
    except (ValidationError, TypeError) as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else str(error)
        raise CheckpointError(f"{path.name} is refused: its config does not fit, {fault}.") from error
    checkpoint.check_shapes(weight_shapes(config), tensor_shapes(path), path.name, "ThinNet")
    try:
        weights = load_file(str(path))
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path.name} holds weights of a type that thinslice does not write.") from error
    other = sorted(f"{name} as {value.dtype}" for name, value in weights.items() if value.dtype != np.float32)
    if other:
        raise CheckpointError(f"{path.name} holds {checkpoint.few(other)}; weights files of thinslice hold float32.")
    bad = sorted(name for name, value in weights.items() if not np.isfinite(value).all())
    if bad:
        raise CheckpointError(f"{path.name} holds NaN or infinity in {checkpoint.few(bad)}; use other weights.")
    return StoredNetwork(config, weights, info.card, info.sha256)


def _needs_torch(what: str) -> ModelError:
    instead = f"use {option('backend', 'torch')}" if is_installed("torch") else TORCH_LINE
    return ModelError(f"{what} runs with PyTorch alone: {instead}.")
