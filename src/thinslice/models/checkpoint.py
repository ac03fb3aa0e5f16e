"""Weights in one file: safetensors, with config and model card in its metadata. No pickle, ever.

The metadata holds one key, `thinslice`, whose JSON value is

    {"format": 1, "architecture": "thinnet", "config": {...}, "card": {...}, "tensors_sha256": "..."}

`architecture` names a row of the catalog, `config` rebuilds the network, and `card` describes the weights: name,
version, data, licences, recipe, seed, scores, limits (`thinslice.recipes.card` bounds it). `tensors_sha256` is the
digest of everything after the header: it finds damage before anything is loaded, and a file without it is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.errors import CheckpointError, DeviceError, ModelError, UsageError
from thinslice.models import catalog
from thinslice.models.weights_header import each_key_once, read_header, tensor_shapes, tensors_start
from thinslice.options import option
from thinslice.recipes.card import check_card
from thinslice.system.atomic import atomic_file
from thinslice.system.files import sha256_of

if TYPE_CHECKING:
    import torch
    from torch import nn

    from thinslice.models.base import ThroughPlaneModel

FORMAT = 1
METADATA_KEY = "thinslice"

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class CheckpointInfo:
    """Metadata of a weights file.

    Attributes:
        architecture: row of the catalog that the weights belong to.
        config: values that rebuild the network.
        card: model card, JSON values.
        sha256: digest of the whole file, hexadecimal.
        parameters: number of trained values.
        tensors_sha256: digest of its tensors as stated in the file, or None where it states none; `load` then refuses
            the file.
    """

    architecture: str
    config: dict[str, Any]
    card: dict[str, Any]
    sha256: str
    parameters: int
    tensors_sha256: str | None = None


def save(model: ThroughPlaneModel, path: Path, *, architecture: str, card: dict[str, Any]) -> None:
    """Write a model's weights, config and card to a file.

    Args:
        model: any network; its `config` attribute, if it has one, is a pydantic model that rebuilds it.
        path: file to write, inside an atomic write (`thinslice.system.atomic`) so that it never exists half-written.
        architecture: row of the catalog.
        card: JSON values.

    Raises:
        ValueError: a card that is not bounded, printable JSON (`thinslice.recipes.card.check_card`).
    """
    import torch
    from safetensors.torch import save

    check_card(card)
    tensors = {
        name: tensor.detach().to("cpu", torch.float32 if tensor.is_floating_point() else tensor.dtype).contiguous()
        for name, tensor in model.state_dict().items()
    }
    described = getattr(model, "config", None)
    config = {} if described is None else described.model_dump(mode="json")
    plain = save(tensors)
    digest = hashlib.sha256(memoryview(plain)[tensors_start(plain[:8]) :]).hexdigest()
    meta = {
        "format": FORMAT,
        "architecture": architecture,
        "config": config,
        "card": card,
        "tensors_sha256": digest,
    }
    # save_file would make the file readable by its owner alone, whatever the umask.
    path.write_bytes(save(tensors, metadata={METADATA_KEY: json.dumps(meta, sort_keys=True)}))


def inspect(path: Path) -> CheckpointInfo:
    """The metadata of a weights file; no tensor is loaded.

    Raises:
        CheckpointError: when it is not a thinslice weights file; convert the authors' weights, or fetch it again.
    """
    metadata, shapes = read_header(path)
    try:
        meta = json.loads(metadata[METADATA_KEY], object_pairs_hook=each_key_once)
        if meta["format"] != FORMAT:
            raise CheckpointError(
                f"{path.name} has weights format {meta['format']!r}, this version reads {FORMAT}; update thinslice."
            )
        architecture, config, card = str(meta["architecture"]), dict(meta["config"]), dict(meta["card"])
        digest = meta.get("tensors_sha256")
        if digest is not None and not _SHA256.fullmatch(digest):
            raise ValueError("the digest is no SHA-256")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path.name} is a safetensors file without thinslice's config and card; thinslice convert makes one from "
            "the authors' weights."
        ) from error
    try:
        check_card({"architecture": architecture, "config": config})
        check_card(card)
    except ValueError as error:
        raise CheckpointError(
            f"The card in {path.name} is refused: {error}. Ask the maker of the file for one with a sound card."
        ) from error
    parameters = sum(math.prod(shape) for shape in shapes.values())
    sha256 = sha256_of(path)
    if catalog.embedded_sha256(path) not in (None, sha256):
        raise CheckpointError(
            f"The embedded weights {path.name} are not those that this version was released with; install thinslice "
            "again."
        )
    return CheckpointInfo(architecture, config, card, sha256, parameters, digest)


def is_own(path: Path) -> bool:
    """Whether a file is a safetensors file with thinslice's metadata, sound or not."""
    try:
        return METADATA_KEY in read_header(path)[0]
    except CheckpointError:
        return False


def load(path: Path, *, device: str = "cpu") -> ThroughPlaneModel:
    """The network of a weights file, with all of its weights, in eval mode on `device`.

    Raises:
        CheckpointError: when the file is damaged, not ours, or does not fit its architecture; fetch it again.
        DeviceError: when `device` is missing; use the CPU.
    """
    return place(_verified(path, inspect_with_digest(path)), device)


def inspect_with_digest(path: Path) -> CheckpointInfo:
    """The metadata of a weights file that states a digest of its weights.

    Raises:
        CheckpointError: as `inspect`, and where it states none.
    """
    info = inspect(path)
    if info.tensors_sha256 is None:
        raise CheckpointError(
            f"{path.name} states no digest of its weights, which every file of thinslice does: it was changed by "
            f"another program, or is very old. If you trust it, thinslice convert {path.name} NEW.safetensors checks "
            "it and writes it with one."
        )
    return info


def load_without_digest(path: Path) -> ThroughPlaneModel:
    """The network of a weights file that states no digest, after every other check; for `thinslice convert` alone.

    Raises:
        CheckpointError: as `load`.
    """
    return _verified(path, inspect(path)).eval()


def _verified(path: Path, info: CheckpointInfo) -> ThroughPlaneModel:
    """The network with the weights of a file, checked against the digest, the architecture and for finite values."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if info.architecture not in catalog.names():
        raise CheckpointError(
            f"{path.name} holds weights for {info.architecture!r}, which is neither a network of this version of "
            "thinslice nor of an installed plug-in."
        )
    check_digest(path, info)
    try:
        # First without memory, so that a config of absurd sizes is refused before memory is taken.
        with torch.device("meta"):
            skeleton = catalog.build(info.architecture, **info.config)
        check_fit(skeleton, tensor_shapes(path), path.name)
        model = catalog.build(info.architecture, **info.config)
        tensors = load_file(str(path))
        check_types(skeleton, tensors, path.name)
        model.load_state_dict(tensors, strict=True)
    except CheckpointError:
        raise
    except UsageError as error:
        raise CheckpointError(f"{path.name} is refused: {error}") from error
    except (SafetensorError, RuntimeError, ValueError, TypeError, ModelError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path.name} does not fit its architecture {info.architecture!r}: {reason}") from error
    check_finite(model.state_dict(), path.name)
    model.card = info.card  # type: ignore[assignment]
    model.sha256 = info.sha256  # type: ignore[assignment]
    return model


def check_digest(path: Path, info: CheckpointInfo) -> None:
    """Refuse a file whose weights differ from the digest that it states.

    Raises:
        CheckpointError: the file is damaged; fetch it again.
    """
    with path.open("rb") as stream:
        start = tensors_start(stream.read(8))
    if info.tensors_sha256 is not None and sha256_of(path, start=start) != info.tensors_sha256:
        raise CheckpointError(
            f"The weights in {path.name} do not match the digest in its header: the file is damaged; fetch it again."
        )


def update_card(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Replace the card of a weights file; weights and config stay, and the file is replaced atomically.

    Args:
        path: a weights file of ours.
        change: the card, JSON values -> the card to write.

    Raises:
        CheckpointError: when the file is damaged or not ours.
        OutputError: when it cannot be replaced.
    """
    info = inspect(path)
    model = load(path)
    with atomic_file(path, overwrite=True) as part:
        save(model, part, architecture=info.architecture, card=change(info.card))


def weights_digest(model: nn.Module) -> str | None:
    """SHA-256 of a network's weights: of their file where they were loaded from one, else of the tensors; None for a
    network without weights.
    """
    from_file = getattr(model, "sha256", None)
    if from_file is not None:
        return str(from_file)
    return None if next(model.parameters(), None) is None else tensors_digest(model)


def tensors_digest(model: nn.Module) -> str:
    """SHA-256 over name, type, shape and values of the tensors that a weights file would hold, sorted by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name}:{values.dtype}:{tuple(values.shape)};".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


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
            f"The device {device!r} is not available on this machine; use {option('device', 'cpu')}."
        ) from error
    return moved.eval()


def check_fit(model: ThroughPlaneModel, shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Refuse tensors whose names or shapes differ from those of a network.

    Args:
        model: the network, which may lie on torch's "meta" device.
        shapes: name and shape of each tensor of the file.
        source: name of the file, for the message.

    Raises:
        CheckpointError: naming the tensors that are missing, unknown or of another shape; use weights of this
            architecture.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    check_shapes(wanted, shapes, source, type(model).__name__)


def check_shapes(
    wanted: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]], source: str, network: str
) -> None:
    """Refuse tensors whose names or shapes differ from those wanted.

    Args:
        wanted: name and shape of each tensor of the network.
        shapes: the same of the file.
        source: name of the file, for the message.
        network: name of the network's class, for the message.

    Raises:
        CheckpointError: as `check_fit`.
    """
    differences = {
        "missing": sorted(wanted.keys() - shapes.keys()),
        "unknown": sorted(shapes.keys() - wanted.keys()),
        "of another shape": sorted(
            f"{name} {shapes[name]} instead of {wanted[name]}"
            for name in wanted.keys() & shapes.keys()
            if wanted[name] != shapes[name]
        ),
    }
    found = [f"{few(names)} {kind}" for kind, names in differences.items() if names]
    if found:
        raise CheckpointError(f"{source} does not fit {network}: {'; '.join(found)}.")


def check_types(model: ThroughPlaneModel, tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Refuse tensors of other types than `save` writes; torch would convert whole numbers without a remark.

    Args:
        model: the network, which may lie on torch's "meta" device.
        tensors: all tensors of the file, by name.
        source: name of the file, for the message.

    Raises:
        CheckpointError: naming the tensors; use weights that thinslice wrote.
    """
    import torch

    wanted = {name: torch.float32 if t.is_floating_point() else t.dtype for name, t in model.state_dict().items()}
    other = sorted(
        f"{name} as {t.dtype}".replace("torch.", "") for name, t in tensors.items() if t.dtype != wanted[name]
    )
    if other:
        raise CheckpointError(f"{source} holds {few(other)}; weights files of thinslice hold float32.")


def check_finite(tensors: Mapping[str, torch.Tensor], source: str) -> None:
    """Refuse weights that are NaN or infinite.

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
