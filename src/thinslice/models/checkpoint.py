"""Weights in one file: safetensors, with config and model card in its metadata. No pickle, ever.

The metadata holds one key, `thinslice`, whose JSON value is

    {"format": 1, "architecture": "thinnet", "config": {...}, "card": {...}}

`architecture` names a row of the catalog, `config` rebuilds the network, and `card` says what the weights are: name,
version, data, licences, recipe, seed, scores, limits.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.errors import CheckpointError, DeviceError, ModelError

if TYPE_CHECKING:
    from thinslice.models.base import ThroughPlaneModel

FORMAT = 1
METADATA_KEY = "thinslice"


@dataclass(frozen=True)
class CheckpointInfo:
    """What a weights file says about itself.

    Attributes:
        architecture: row of the catalog that the weights belong to.
        config: values that rebuild the network.
        card: the model card.
        sha256: of the whole file, hexadecimal.
        parameters: number of trained values.
    """

    architecture: str
    config: dict[str, Any]
    card: dict[str, Any]
    sha256: str
    parameters: int


def save(model: ThroughPlaneModel, path: Path, *, architecture: str, card: dict[str, Any]) -> None:
    """Write a model's weights, config and card to `path`, a file that must not exist half-written: the caller gives a
    path inside an atomic write (`thinslice.io.atomic`).

    Args:
        model: any network whose `config` attribute is a pydantic model.
        path: file to write.
        architecture: its row in the catalog.
        card: JSON values.
    """
    import torch
    from safetensors.torch import save_file

    tensors = {
        name: tensor.detach()
        .to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype)
        .contiguous()
        for name, tensor in model.state_dict().items()
    }
    config = model.config.model_dump(mode="json")  # type: ignore[union-attr, operator]
    meta = {"format": FORMAT, "architecture": architecture, "config": config, "card": card}
    save_file(tensors, str(path), metadata={METADATA_KEY: json.dumps(meta, sort_keys=True)})


def inspect(path: Path) -> CheckpointInfo:
    """Read what a weights file says about itself, without loading a tensor.

    Raises:
        CheckpointError: when it is not a thinslice weights file.
    """
    header = _header(path)
    try:
        meta = json.loads(header["__metadata__"][METADATA_KEY])
        if meta["format"] != FORMAT:
            raise CheckpointError(
                f"{path.name} has weights format {meta['format']!r}, this version reads {FORMAT}; update thinslice."
            )
        architecture, config, card = str(meta["architecture"]), dict(meta["config"]), dict(meta["card"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path.name} is a safetensors file without thinslice's config and card; thinslice convert makes one from "
            "the authors' weights."
        ) from error
    parameters = sum(_count(entry) for name, entry in header.items() if name != "__metadata__")
    return CheckpointInfo(architecture, config, card, sha256(path), parameters)


def load(path: Path, *, device: str = "cpu") -> ThroughPlaneModel:
    """Build the network that a weights file describes and load it, strictly, in eval mode.

    Raises:
        CheckpointError: when the file is damaged, not ours, or does not fit its architecture.
        DeviceError: when `device` is missing.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from thinslice.models import catalog

    info = inspect(path)
    if info.architecture not in catalog.CATALOG:
        raise CheckpointError(
            f"{path.name} holds weights for {info.architecture!r}, which this version of thinslice does not know."
        )
    try:
        model = catalog.build(info.architecture, **info.config)
        model.load_state_dict(load_file(str(path)), strict=True)
    except (SafetensorError, RuntimeError, ValueError, ModelError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path.name} does not fit its architecture {info.architecture!r}: {reason}"
        ) from error
    model.card = info.card  # type: ignore[assignment]
    model.sha256 = info.sha256  # type: ignore[assignment]
    return place(model, device)


def place(model: ThroughPlaneModel, device: str) -> ThroughPlaneModel:
    """The model on `device`, in eval mode.

    Raises:
        DeviceError: when the device is missing.
    """
    import torch

    try:
        target = torch.device(device)
        moved = model.to(target)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(
            f"The device {device!r} is not available on this machine; use --device cpu or auto."
        ) from error
    return moved.eval()


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file, read by hand so that a hostile length is refused before it is taken."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        prefix = stream.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > min(size - 8, 100_000_000):
            raise CheckpointError(
                f"{path.name} is not a safetensors file (or is truncated); pickled checkpoints go through thinslice convert."
            )
        try:
            header = json.loads(stream.read(length))
        except ValueError as error:
            raise CheckpointError(
                f"{path.name} is not a safetensors file: its header is not JSON."
            ) from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path.name} is not a safetensors file: its header is not an object.")
    return header


def _count(entry: dict[str, Any]) -> int:
    count = 1
    for extent in entry["shape"]:
        count *= int(extent)
    return count
