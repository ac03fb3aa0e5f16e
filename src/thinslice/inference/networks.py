"""The network of a run: of torch, or as data where torch is not loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from thinslice.inference.backends.choice import loads_torch
from thinslice.models.stored import Stored, load_stored

if TYPE_CHECKING:
    from thinslice.models.base import ThroughPlaneModel


def load_network(
    model: str | Path | ThroughPlaneModel | Stored, *, backend: str, device: str = "cpu"
) -> ThroughPlaneModel | Stored:
    """The network of a name or a weights file, as a backend takes it; a network is returned as it is.

    Args:
        model: a name of the catalog, a weights file, or a network.
        backend: a name from `thinslice.inference.backends.choice.choose_backend`.
        device: where torch will run it.

    Raises:
        ThinsliceError: as `thinslice.models.load.load_model` and `thinslice.models.stored.load_stored`.

    >>> type(load_network("fast", backend="onnxruntime")).__name__
    'StoredNetwork'
    """
    if not isinstance(model, (str, Path)):
        return model
    if not loads_torch(backend):
        return load_stored(model)
    from thinslice.models.load import load_model

    return load_model(model, device=device)
