"""Every model by name: a visible table. torch is loaded only when a model is built.

Other packages add theirs through the entry-point group `thinslice.models`: name -> a callable that returns a model
meeting the contract of `thinslice.models.base`. Called without arguments it gives the model as it is meant to be; where
a recipe or a weights file has a config, its values come as keyword arguments. `examples/` holds such a package.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.errors import CheckpointError, ModelError, UsageError

if TYPE_CHECKING:
    from thinslice.models.base import ThroughPlaneModel

ENTRY_POINT_GROUP = "thinslice.models"


@dataclass(frozen=True)
class Entry:
    """One row of the table.

    Attributes:
        model: "module:Class" of the network.
        config: "module:Class" of its frozen pydantic config.
        preset: config values that differ from the config's defaults.
        summary: one line for `thinslice models list`.
        weights: file name of the weights embedded in the package, or None for networks that need none or that must
            be trained or converted first.
        learned: whether the network has weights at all.
    """

    model: str
    config: str
    summary: str
    preset: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    learned: bool = True


def _interpolation(name: str, summary: str) -> Entry:
    module = "thinslice.models.interpolate"
    return Entry(f"{module}:Interpolate", f"{module}:InterpolateConfig", summary, {"method": name}, learned=False)


def _own(module: str, name: str, summary: str, **rest: Any) -> Entry:
    path = f"thinslice.models.{module}"
    return Entry(f"{path}:{name}", f"{path}:{name}Config", summary, **rest)


CATALOG: dict[str, Entry] = {
    "default": _own("thinnet", "ThinNet", "our network with embedded weights, factors 2 to 8", weights="default"),
    "fast": _own(
        "thinnet",
        "ThinNet",
        "the same, smaller: about half of default's time",
        preset={"features": 32, "blocks": 4},
        weights="fast",
    ),
    "best": _own(
        "thinnet",
        "ThinNet",
        "the same, larger: two to three times default's time",
        preset={"features": 64, "blocks": 8},
        weights="best",
    ),
    "nearest": _interpolation("nearest", "copies the nearest thick slice"),
    "linear": _interpolation("linear", "linear interpolation along z"),
    "cubic": _interpolation("cubic", "not-a-knot cubic spline along z"),
    "cubic-consistent": _interpolation(
        "cubic-consistent", "cubic, then the smallest change that gives the thick slices back"
    ),
    "thinnet": _own("thinnet", "ThinNet", "our network, untrained"),
    "tvsrn": _own("tvsrn", "TVSRN", "TVSRN as the paper describes it, untrained"),
    "tvsrn-released": _own(
        "tvsrn",
        "TVSRN",
        "TVSRN as the authors released it, untrained",
        preset={
            "embedding": "patch",
            "mask_tokens": "zero",
            "through_plane_window": (4, 4),
            "head": "released",
            "plan": "released",
        },
    ),
    "tvsrn-no-tab": _own(
        "tvsrn",
        "TVSRN",
        "TVSRN without through-plane attention (the paper's ablation), untrained",
        preset={"through_plane_blocks": 0},
    ),
    "tvsrn-encoder": _own(
        "tvsrn_ablations", "TVSRNEncoder", "TVSRN's encoder and sub-pixel up-sampling (ablation), untrained"
    ),
    "tvsrn-vit-encoder": _own(
        "tvsrn_ablations", "TVSRNViTEncoder", "standard transformer layers (ablation), untrained"
    ),
    "resvox": _own("resvox", "ResVox", "3D multi-scale residual blocks (Ge et al. 2019), untrained"),
    "mpunet": _own("mpunet", "MPUNet", "encoder-decoder that grows along z in steps (Liu et al. 2020), untrained"),
    "saint": _own(
        "saint", "SAINT", "two plane-wise views and their fusion, after the published description, untrained"
    ),
    "davsr": _own(
        "davsr", "DAVSR", "shared features and a head per view, adapts to a volume, after the description, untrained"
    ),
    "acvtt": _own("acvtt", "ACVTT", "ACVTT: planes along z restored with texture of axial slices, untrained"),
    "cthnet": _own("cthnet", "CTHNet", "CTHNet: convolutions and 3D attention, then TVSRN's two attentions, untrained"),
    "i3net": _own("i3net", "I3Net", "I3Net: slices as channels, pixels and frequencies side by side, untrained"),
}


def names() -> list[str]:
    """Names in the table and from installed plug-ins, the table's first.

    >>> "default" in names() and "tvsrn" in names()
    True
    """
    return [*CATALOG, *sorted(_plugins().keys() - CATALOG.keys())]


def build(name: str, **config: Any) -> ThroughPlaneModel:
    """Build an untrained network by name.

    Args:
        name: a row of `CATALOG` or a plug-in.
        config: config values that override the row's preset.

    Raises:
        UsageError: when there is no such name.
        ModelError: when a plug-in fails to give a model.
    """
    if name in CATALOG:
        entry = CATALOG[name]
        model: ThroughPlaneModel = _resolve(entry.model)(_resolve(entry.config)(**{**entry.preset, **config}))
        return model
    plugin = _plugins().get(name)
    if plugin is None:
        raise UsageError(
            f"There is no model named {name!r}; choose one of {', '.join(names())}, or give a weights file."
        )
    try:
        built: ThroughPlaneModel = plugin.load()(**config)
    except Exception as error:
        raise ModelError(f"The plug-in model {name!r} ({plugin.value}) could not be built: {error}") from error
    return built


def weights_of(name_or_path: str | Path) -> Path:
    """The weights file that a name of the catalog or a path stands for.

    Raises:
        UsageError: for an unknown name that is no file either.
        CheckpointError: for a network of the catalog without weights.
    """
    name = str(name_or_path)
    if name in CATALOG:
        return weights_path(name)
    path = Path(name_or_path)
    if not path.is_file():
        raise UsageError(f"{name!r} is neither a model name ({', '.join(names())}) nor a weights file that exists.")
    return path


def weights_path(name: str) -> Path:
    """The embedded weights file of a catalog row.

    Raises:
        CheckpointError: when the row has none.
    """
    entry = CATALOG.get(name)
    if entry is None or entry.weights is None:
        raise CheckpointError(f"The package carries no weights for {name!r}.")
    return Path(__file__).parent / "weights" / f"{entry.weights}.safetensors"


def _resolve(target: str) -> Callable[..., Any]:
    module, _, attribute = target.partition(":")
    resolved: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return resolved


def _plugins() -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINT_GROUP)}
