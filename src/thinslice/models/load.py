"""Networks ready for inference, by name or from a weights file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from thinslice.arguments import check_path, check_text
from thinslice.errors import CheckpointError
from thinslice.models import catalog, checkpoint
from thinslice.system.packages import require_torch

if TYPE_CHECKING:
    from thinslice.models.base import ThroughPlaneModel


def load_model(name_or_path: str | Path, *, device: str = "cpu") -> ThroughPlaneModel:
    """The network of a name or a weights file, ready for inference: in eval mode, on `device`.

    Args:
        name_or_path: a name of the catalog that needs no training, or a safetensors file made by `thinslice train`
            or `thinslice convert`.
        device: "cpu", "cuda", "cuda:N" or "mps".

    Raises:
        ArgumentTypeError: for an argument of another type, such as a network; it needs no loading.
        UsageError: for an unknown name.
        CheckpointError: for a network that has no weights yet, or a damaged file.
        DeviceError: when the device is missing.
        ModelError: where PyTorch is not installed; the message holds the line that installs it.
    """
    name = str(check_path("name_or_path", name_or_path, "a name of a network, or a path of its weights"))
    check_text("device", device, "a name such as 'cpu' or 'cuda'")
    require_torch("This network")
    if name not in catalog.names():
        return checkpoint.load(catalog.weights_of(name_or_path), device=device)
    entry = catalog.CATALOG.get(name)
    if entry is not None and entry.learned:
        if entry.weights is None:
            raise CheckpointError(
                f"{name!r} has no weights in the package: train it (thinslice train) or convert a checkpoint "
                "(thinslice convert), then give the file."
            )
        return checkpoint.load(catalog.weights_path(name), device=device)
    return checkpoint.place(catalog.build(name), device)


def has_random_weights(name: str) -> bool:
    """Whether a name stands for a plug-in network whose weights are random: two of them differ.

    Args:
        name: of the catalog or a plug-in.

    Raises:
        ModelError: when the plug-in fails to build its network.

    >>> has_random_weights("default"), has_random_weights("cubic")
    (False, False)
    """
    if name in catalog.CATALOG or name not in catalog.names():
        return False
    import torch

    digests = set()
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            digests.add(checkpoint.weights_digest(catalog.build(name)))
    return len(digests) > 1


def with_deviation() -> list[str]:
    """Names of the networks with embedded weights and a deviation head."""
    able = []
    for name, entry in catalog.CATALOG.items():
        path = None if entry.weights is None else catalog.weights_path(name)
        if path is not None and path.is_file() and checkpoint.inspect(path).config.get("deviation"):
            able.append(name)
    return able
