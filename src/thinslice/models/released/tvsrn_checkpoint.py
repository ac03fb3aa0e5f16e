"""The authors' TVSRN weights: read safely, renamed, and loaded into our network.

The released training pickles a whole module object beside a config dict. Such a file is taken apart by
`thinslice.models.released.inert_pickle`, which runs nothing and imports nothing; the tensors are read from the
archive's records after their sizes have been checked. A safetensors file with the released names is taken as well.

Source: the names in the released code; `thinslice.models.tvsrn` describes the stages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from thinslice.errors import CheckpointError
from thinslice.models import checkpoint
from thinslice.models.catalog import CATALOG
from thinslice.models.released.inert_pickle import Record, TensorView, read_inert
from thinslice.models.released.torch_archive import TorchArchive
from thinslice.models.tvsrn import PLANE_WINDOW, TVSRN, TVSRNConfig
from thinslice.models.weights_header import tensor_shapes

ARCHITECTURE = "tvsrn-released"
"""Row of the catalog that released weights belong to."""

Scalar = str | int | float | bool | None

_HELD = ("_parameters", "_buffers", "_modules")
_MASK_TOKENS = "x_patch_mask"
_MAX_MODULES = 10_000
_MAX_DEPTH = 32
_MAX_TENSORS = 20_000
_LONGEST_NAME = 400

_STAGES = {"Encoder": "encoder", "Decoder_T1": "through_plane", "Decoder_I1": "in_plane"}
_LAYERS = {"LP": "embedding.linear", "conv_before_upsample.0": "head.hidden", "conv_last": "head.output"}
_NORMS = {"patch_embed.norm": "norm_in", "norm": "norm_out"}
_BLOCK_PARTS = {
    "norm1": "attention_norm",
    "attn.qkv": "attention.qkv",
    "attn.proj": "attention.projection",
    "norm2": "mlp_norm",
    "mlp.fc1": "mlp.expand",
    "mlp.fc2": "mlp.contract",
}
_BLOCK = re.compile(r"(\w+)\.layers\.(\d+)\.residual_group\.blocks\.(\d+)\.([\w.]+)")
_DERIVED = re.compile(
    r"([\w.]+\.)?\w+\.layers\.\d+\.residual_group\.blocks\.\d+\.(attn_mask|attn\.relative_position_index)"
)
"""Buffers that the released code stores although they follow from the plane's size; our network does not use them."""


@dataclass(frozen=True)
class ReleasedCheckpoint:
    """Content of a checkpoint that the authors' training wrote.

    Attributes:
        state: float32 tensors by their released names, without derived buffers; all finite.
        config: the scalar entries of its config dict, empty when there was none.
    """

    state: dict[str, torch.Tensor]
    config: dict[str, Scalar]


def read_released(path: Path) -> ReleasedCheckpoint:
    """Read a released checkpoint without running or importing anything that it names.

    Args:
        path: a file written by torch.save (a zip archive): the authors' {"net": module, "config_dict": ...}, a module
            by itself, or a state dict; or a safetensors file with the released names.

    Raises:
        CheckpointError: when it is damaged, asks for anything beyond plain tensors, or holds NaN.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(9)
            if start[:4] == b"PK\x03\x04":
                released = _read_archive(stream, path.name)
            elif start[:1] == b"\x80" and not _begins_safetensors(start, path.stat().st_size):
                raise CheckpointError(
                    f"{path.name} is a bare pickle, which torch.save wrote before version 1.6; where it was trained, "
                    "load it and save it again with a newer torch, then convert that."
                )
            else:
                released = ReleasedCheckpoint(_read_safetensors(path), {})
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror}; check the path.") from error
    checkpoint.check_finite(released.state, path.name)
    return released


def from_released_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors under our names and in our shapes (pointwise convolutions become linear layers).

    Args:
        state: tensors by their released names; a common prefix, such as "module." or "model.net.", is dropped.

    Raises:
        CheckpointError: naming tensors that the released network does not have.
    """
    # A released network has several modules at its top, so a first part that all names share is a wrapper's.
    while (
        len(state) > 1 and len({name.partition(".")[0] for name in state}) == 1 and all("." in name for name in state)
    ):
        state = {name.partition(".")[2]: tensor for name, tensor in state.items()}
    renamed: dict[str, torch.Tensor] = {}
    unknown = []
    for name, tensor in state.items():
        ours = _our_name(name)
        if ours is None:
            unknown.append(name)
        elif ours.startswith(("embedding.", "head.")) and all(extent == 1 for extent in tensor.shape[2:]):
            renamed[ours] = tensor.flatten(1) if tensor.ndim > 2 else tensor
        else:
            renamed[ours] = tensor
    if unknown:
        raise CheckpointError(
            f"The released TVSRN has no tensor named {checkpoint.few(unknown)}; these weights are of another network."
        )
    return renamed


def build_released(released: ReleasedCheckpoint, *, source: str = "the checkpoint") -> TVSRN:
    """The network that a released checkpoint belongs to, with its weights, in eval mode.

    Its depth, factor and features are read off the shapes of the tensors.

    Args:
        released: from `read_released`.
        source: name of its file, for messages.

    Raises:
        CheckpointError: when tensors are missing, unknown or of another shape, or contradict the config dict.
    """
    state = from_released_names(released.state)
    config = _derived_config(state, released.config, source)
    with torch.device("meta"):
        skeleton = TVSRN(config)
    checkpoint.check_fit(skeleton, {name: tuple(tensor.shape) for name, tensor in state.items()}, source)
    model = TVSRN(config)
    model.load_state_dict(state, strict=True)
    return model.eval()


def _our_name(name: str) -> str | None:
    """Our name of a released tensor, or None when the released network has no such tensor."""
    stem, _, leaf = name.rpartition(".")
    if (block := _BLOCK.fullmatch(name)) is not None and block[1] in _STAGES:
        place = f"{_STAGES[block[1]]}.groups.{block[2]}.blocks.{block[3]}"
        if block[4] == "attn.relative_position_bias_table":
            return f"{place}.attention.position_bias"
        part, _, leaf = block[4].rpartition(".")
        return f"{place}.{_BLOCK_PARTS[part]}.{leaf}" if part in _BLOCK_PARTS else None
    if stem in _LAYERS:
        return f"{_LAYERS[stem]}.{leaf}"
    stage, _, norm = stem.partition(".")
    if stage in _STAGES and norm in _NORMS:
        return f"{_STAGES[stage]}.{_NORMS[norm]}.{leaf}"
    return None


def _derived_config(state: dict[str, torch.Tensor], stated: dict[str, Scalar], source: str) -> TVSRNConfig:
    """The config that the shapes of the tensors imply, checked against the config stated in the checkpoint."""
    try:
        features = state["head.hidden.weight"].shape[1]
        depth, surplus = divmod(state["embedding.linear.weight"].shape[1], PLANE_WINDOW**2)
        thin_depth, surplus_thin = divmod(len(state["in_plane.norm_in.weight"]), features)
        factor, surplus_factor = divmod(thin_depth - 1, depth - 1)
        if surplus or surplus_thin or surplus_factor:
            raise ValueError("extents that do not divide")
        config = TVSRNConfig(depth=depth, factor=factor, features=features, **CATALOG[ARCHITECTURE].preset)
    except KeyError as error:
        raise CheckpointError(f"{source} is not a released TVSRN: it has no {error.args[0]} (in our names).") from error
    except (ValidationError, ValueError, IndexError, TypeError, ArithmeticError) as error:
        raise CheckpointError(f"{source} is not a released TVSRN: its tensors fit no depth and factor.") from error
    for key, ours in (("c_z", depth), ("ratio", factor), ("net_idx", "TVSRN")):
        if key in stated and stated[key] != ours:
            raise CheckpointError(
                f"{source} contradicts itself: {key} is {str(stated[key])[:40]!r} in its config, but {ours!r} by its "
                "tensors; fetch the checkpoint again."
            )
    return config


def _begins_safetensors(start: bytes, size: int) -> bool:
    """Whether the first 9 bytes of a file are the length of a header and its brace.

    The length of one header in 32 has 0x80 as its first byte, as pickles have.

    >>> _begins_safetensors(bytes([0x80, 1, 0, 0, 0, 0, 0, 0]) + b"{", 5000)
    True
    >>> _begins_safetensors(b"\\x80\\x04\\x95\\x10\\x00\\x00\\x00\\x00{", 5000)
    False
    """
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= size - 8


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    if any(not name for name in tensor_shapes(path)):
        raise CheckpointError(f"{path.name} has a tensor without a name.")
    try:
        tensors = load_file(str(path))
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path.name} is damaged: {str(error).splitlines()[0]}.") from error
    kept = {name: tensor for name, tensor in tensors.items() if not _DERIVED.fullmatch(name)}
    other = sorted(name for name, tensor in kept.items() if not tensor.is_floating_point())
    if other:
        raise CheckpointError(f"{path.name} holds {checkpoint.few(other)} as whole numbers; weights are floats.")
    return {name: tensor.float() for name, tensor in kept.items()}


def _read_archive(stream: IO[bytes], source: str) -> ReleasedCheckpoint:
    with TorchArchive(stream, source) as archive:
        content = read_inert(archive.pickle(), source=source)
        network, config = _split(content, source)
        views: dict[str, TensorView] = {}
        if isinstance(network, Record):
            _Walk(source, views).visit(network)
            _refuse_mask_tokens(network, archive, source)
        else:
            views.update(network)
        views = {name: view for name, view in views.items() if not _DERIVED.fullmatch(name)}
        return ReleasedCheckpoint({name: archive.tensor(view) for name, view in views.items()}, config)


def _split(content: Any, source: str) -> tuple[Record | dict[str, TensorView], dict[str, Scalar]]:
    """The network and the config in a pickled object: {"net": ..., "config_dict": ...}, or a network by itself."""
    config: dict[str, Scalar] = {}
    if isinstance(content, dict) and "net" in content:
        stated = content.get("config_dict")
        if isinstance(stated, dict):
            config = {
                name: value
                for name, value in stated.items()
                if isinstance(name, str) and (value is None or isinstance(value, str | int | float))
            }
        content = content["net"]
    found = dict(_networks(content))
    if len(found) > 1:
        raise CheckpointError(
            f"{source} holds several networks ({checkpoint.few(sorted(found))}); save the one that is meant by itself."
        )
    if not found:
        raise CheckpointError(f"{source} holds neither a network nor a state dict; give a checkpoint of TVSRN.")
    return next(iter(found.values())), config


_MOST_NESTED = 3
"""Levels of dicts around a network, such as {"model": {"state_dict": ...}}."""


def _networks(
    content: Any, place: str = "the file", levels: int = _MOST_NESTED
) -> Iterator[tuple[str, Record | dict[str, TensorView]]]:
    """The networks in a pickled object with their keys: modules, and state dicts under any key.

    What a training keeps beside them holds no dict of tensors by name: an optimiser numbers its parameters.
    """
    if isinstance(content, Record):
        yield place, content
        return
    if not isinstance(content, dict) or not content or levels < 0:
        return
    names = [name for name in content if isinstance(name, str)]
    if len(names) == len(content) and all(isinstance(view, TensorView) for view in content.values()):
        yield place, content
        return
    for name in names:
        yield from _networks(content[name], name[:40], levels - 1)


class _Walk:
    """Collects the parameters and persistent buffers of a pickled module tree, as its state_dict() would."""

    def __init__(self, source: str, views: dict[str, TensorView]) -> None:
        self.source = source
        self.views = views
        self.visited = 0

    def visit(self, module: Any, prefix: str = "", depth: int = 0) -> None:
        """Add the tensors of `module` to `views`, each name with `prefix` before it."""
        self.visited += 1
        if self.visited > _MAX_MODULES or depth > _MAX_DEPTH:
            raise CheckpointError(f"The modules in {self.source} are nested without end, as in no real network.")
        if not isinstance(module, Record):
            raise CheckpointError(f"{self.source} has something that is not a module among its modules.")
        held: list[dict[Any, Any]] = [module.state.get(key) or {} for key in _HELD]
        if not all(isinstance(some, dict) and all(isinstance(name, str) for name in some) for some in held):
            raise CheckpointError(f"A module in {self.source} holds its tensors in an unusual way.")
        passing = module.state.get("_non_persistent_buffers_set") or set()
        parameters, buffers, children = held
        if len(self.views) + len(parameters) + len(buffers) > _MAX_TENSORS or len(prefix) > _LONGEST_NAME:
            raise CheckpointError(f"{self.source} has more tensors, or longer names, than any real network.")
        for name, view in {**parameters, **buffers}.items():
            if view is None or (name in buffers and name in passing):
                continue
            if not isinstance(view, TensorView):
                raise CheckpointError(f"{self.source} has something that is not a tensor among its parameters.")
            self.views[prefix + name] = view
        for name, child in children.items():
            if child is not None:
                self.visit(child, f"{prefix}{name}.", depth + 1)


def _refuse_mask_tokens(network: Record, archive: TorchArchive, source: str) -> None:
    """Refuse mask tokens other than zero, which would be lost.

    In the released network they are a plain attribute, which was never trained.
    """
    for module in (network, (network.state.get("_modules") or {}).get("module")):
        tokens = module.state.get(_MASK_TOKENS) if isinstance(module, Record) else None
        if isinstance(tokens, TensorView) and bool(archive.tensor(tokens).any()):
            raise CheckpointError(
                f"{source} has mask tokens other than zero, which the released network never has; not converted."
            )
