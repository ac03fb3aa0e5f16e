"""Weights in one file: safetensors, with config and model card in its metadata. No pickle, ever.

The metadata holds one key, `thinslice`, whose JSON value is

    {"format": 1, "architecture": "thinnet", "config": {...}, "card": {...}, "tensors_sha256": "..."}

`architecture` names a row of the catalog, `config` rebuilds the network, and `card` says what the weights are: name,
version, data, licences, recipe, seed, scores, limits. `tensors_sha256` is the digest of everything after the header, so
that damage is found before anything is loaded.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.errors import CheckpointError, DeviceError, ModelError

if TYPE_CHECKING:
    import torch

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
        tensors_sha256: what the file says the digest of its tensors is, or None in files older than that.
    """

    architecture: str
    config: dict[str, Any]
    card: dict[str, Any]
    sha256: str
    parameters: int
    tensors_sha256: str | None = None


def save(model: ThroughPlaneModel, path: Path, *, architecture: str, card: dict[str, Any]) -> None:
    """Write a model's weights, config and card to `path`, a file that must not exist half-written: the caller gives a
    path inside an atomic write (`thinslice.system.atomic`).

    Args:
        model: any network; its `config` attribute, if it has one, is a pydantic model that rebuilds it.
        path: file to write.
        architecture: its row in the catalog.
        card: JSON values.
    """
    import torch
    from safetensors.torch import save

    tensors = {
        name: tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    told = getattr(model, "config", None)
    config = {} if told is None else told.model_dump(mode="json")
    plain = save(tensors)
    digest = hashlib.sha256(memoryview(plain)[8 + int.from_bytes(plain[:8], "little") :]).hexdigest()
    meta = {
        "format": FORMAT,
        "architecture": architecture,
        "config": config,
        "card": card,
        "tensors_sha256": digest,
    }
    # save_file would make the file readable by its owner alone, whatever the umask says.
    path.write_bytes(save(tensors, metadata={METADATA_KEY: json.dumps(meta, sort_keys=True)}))


def inspect(path: Path) -> CheckpointInfo:
    """Read what a weights file says about itself, without loading a tensor.

    Raises:
        CheckpointError: when it is not a thinslice weights file.
    """
    header, _ = _header(path)
    try:
        meta = json.loads(header["__metadata__"][METADATA_KEY])
        if meta["format"] != FORMAT:
            raise CheckpointError(
                f"{path.name} has weights format {meta['format']!r}, this version reads {FORMAT}; update thinslice."
            )
        architecture, config, card = str(meta["architecture"]), dict(meta["config"]), dict(meta["card"])
        digest = meta.get("tensors_sha256")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path.name} is a safetensors file without thinslice's config and card; thinslice convert makes one from "
            "the authors' weights."
        ) from error
    parameters = sum(math.prod(shape) for shape in _shapes(header).values())
    return CheckpointInfo(architecture, config, card, sha256(path), parameters, digest)


def load(path: Path, *, device: str = "cpu") -> ThroughPlaneModel:
    """Build the network that a weights file describes and load it, strictly, in eval mode.

    Raises:
        CheckpointError: when the file is damaged, not ours, or does not fit its architecture.
        DeviceError: when `device` is missing.
    """
    import torch
    from pydantic import ValidationError
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from thinslice.models import catalog

    info = inspect(path)
    header, start = _header(path)
    if info.architecture not in catalog.names():
        raise CheckpointError(
            f"{path.name} holds weights for {info.architecture!r}, which is neither a network of this version of "
            "thinslice nor of an installed plug-in."
        )
    if info.tensors_sha256 is not None and sha256(path, start=start) != info.tensors_sha256:
        raise CheckpointError(
            f"The weights in {path.name} are not the ones it was written with: the file is damaged; fetch it again."
        )
    try:
        # First without memory, so that a config of absurd sizes is refused before it takes any.
        with torch.device("meta"):
            skeleton = catalog.build(info.architecture, **info.config)
        check_fit(skeleton, _shapes(header), path.name)
        model = catalog.build(info.architecture, **info.config)
        model.load_state_dict(load_file(str(path)), strict=True)
    except CheckpointError:
        raise
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"]) or "as a whole"
        raise CheckpointError(
            f"The config in {path.name} does not fit {info.architecture!r} ({where}: {error.errors()[0]['msg']})."
        ) from error
    except (SafetensorError, RuntimeError, ValueError, TypeError, ModelError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path.name} does not fit its architecture {info.architecture!r}: {reason}") from error
    check_finite(model.state_dict(), path.name)
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


def check_fit(model: ThroughPlaneModel, shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Refuse tensors that are not exactly the ones a network has.

    Args:
        model: the network, which may lie on torch's "meta" device.
        shapes: name and shape of each tensor on offer.
        source: name of their file, for the message.

    Raises:
        CheckpointError: naming what is missing, unknown or of another shape; use the weights of this architecture.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    complaints = {
        "missing": sorted(wanted.keys() - shapes.keys()),
        "unknown": sorted(shapes.keys() - wanted.keys()),
        "of another shape": sorted(
            f"{name} {shapes[name]} instead of {wanted[name]}"
            for name in wanted.keys() & shapes.keys()
            if wanted[name] != shapes[name]
        ),
    }
    found = [f"{few(names)} {what}" for what, names in complaints.items() if names]
    if found:
        raise CheckpointError(f"{source} does not fit {type(model).__name__}: {'; '.join(found)}.")


def check_finite(tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Refuse weights that are not numbers.

    Raises:
        CheckpointError: naming the tensors; the training that made them diverged, or the file is damaged.
    """
    bad = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if bad:
        raise CheckpointError(f"{source} holds NaN or infinity in {few(sorted(bad))}; use other weights.")


def few(names: Sequence[str]) -> str:
    """At most four names, and how many more, for a message.

    >>> few(["a", "b", "c", "d", "e", "f"])
    'a, b, c, d and 2 more'
    """
    shown = ", ".join(name[:120] for name in names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"


def sha256(path: Path, *, start: int = 0) -> str:
    """SHA-256 of a file from byte `start` to its end, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        stream.seek(start)
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor in a safetensors file, without loading one.

    Raises:
        CheckpointError: when it is not a safetensors file, or a truncated one.
    """
    return _shapes(_header(path)[0])


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The JSON header of a safetensors file and where the tensors start.

    Read by hand so that a hostile length is refused before it is taken, and a truncated file before it is loaded.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            prefix = stream.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or length > min(size - 8, 100_000_000):
                raise CheckpointError(
                    f"{path.name} is not a safetensors file (or is truncated); pickled checkpoints go through "
                    "thinslice convert."
                )
            text = stream.read(length)
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror}; check the path.") from error
    try:
        header = json.loads(text)
        if not isinstance(header, dict):
            raise ValueError("not an object")
        end = max((int(entry["data_offsets"][1]) for entry in _tensors(header).values()), default=0)
        _shapes(header)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path.name} is not a safetensors file: its header is damaged.") from error
    if size != 8 + length + end:
        raise CheckpointError(
            f"{path.name} has {size} bytes instead of {8 + length + end}: truncated or added to; fetch it again."
        )
    return header, 8 + length


def _tensors(header: dict[str, Any]) -> dict[str, Any]:
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def _shapes(header: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(int(extent) for extent in entry["shape"]) for name, entry in _tensors(header).items()}
