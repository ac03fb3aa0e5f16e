"""Table of all models by name. torch is loaded only when a model is built.

Other packages add models through the entry-point group `thinslice.models`: name -> a callable that returns a model
meeting the contract of `thinslice.models.base`. Without arguments it returns the model in its default configuration;
the config values of a recipe or a weights file are passed as keyword arguments. `examples/` contains such a package.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
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
        config: "module:Class" of the network's frozen pydantic config.
        preset: config values that differ from the config's defaults.
        summary: one line for `thinslice models list`.
        weights: name of the weights file embedded in the package, or None for networks without weights and for
            those that must be trained or converted first.
        learned: whether the network has weights.
    """

    model: str
    config: str
    summary: str
    preset: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    learned: bool = True


def _entry(module: str, name: str, summary: str, **rest: Any) -> Entry:
    """The row of a network of this package, whose config is called after its class."""
    path = f"thinslice.models.{module}"
    return Entry(f"{path}:{name}", f"{path}:{name}Config", summary, **rest)


_interpolation = partial(_entry, "interpolate", "Interpolate", learned=False)

CATALOG: dict[str, Entry] = {
    "default": _entry(
        "thinnet", "ThinNet", "our network ThinNet with embedded weights, factors 2 to 8", weights="default"
    ),
    "fast": _entry(
        "thinnet",
        "ThinNet",
        "smaller ThinNet: about half of default's time",
        preset={"features": 32, "blocks": 4},
        weights="fast",
    ),
    "best": _entry(
        "thinnet",
        "ThinNet",
        "larger ThinNet: two to three times default's time",
        preset={"features": 64, "blocks": 8},
        weights="best",
    ),
    "nearest": _interpolation("copy of the nearest thick slice", preset={"method": "nearest"}),
    "linear": _interpolation("linear interpolation along z", preset={"method": "linear"}),
    "cubic": _interpolation("not-a-knot cubic spline along z", preset={"method": "cubic"}),
    "cubic-consistent": _interpolation(
        "cubic, with the smallest change after which thin slices average back to the thick ones",
        preset={"method": "cubic-consistent"},
    ),
    "thinnet": _entry("thinnet", "ThinNet", "our network ThinNet, untrained"),
    "tvsrn": _entry("tvsrn", "TVSRN", "TVSRN as the paper describes it, untrained"),
    "tvsrn-released": _entry(
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
    "tvsrn-no-tab": _entry(
        "tvsrn",
        "TVSRN",
        "TVSRN without through-plane attention (the paper's ablation), untrained",
        preset={"through_plane_blocks": 0},
    ),
    "tvsrn-encoder": _entry(
        "tvsrn_ablations", "TVSRNEncoder", "TVSRN's encoder and sub-pixel up-sampling (ablation), untrained"
    ),
    "tvsrn-vit-encoder": _entry(
        "tvsrn_ablations", "TVSRNViTEncoder", "standard transformer layers (ablation), untrained"
    ),
    "resvox": _entry("resvox", "ResVox", "ResVox: 3D multi-scale residual blocks (Ge et al. 2019), untrained"),
    "mpunet": _entry(
        "mpunet", "MPUNet", "MPU-Net: encoder-decoder that grows along z in steps (Liu et al. 2020), untrained"
    ),
    "saint": _entry(
        "saint",
        "SAINT",
        "SAINT: sagittal and coronal planes and their fusion, after the published description, untrained",
    ),
    "davsr": _entry(
        "davsr",
        "DAVSR",
        "DA-VSR: shared features and a head per view, adapts to a volume, after the description, untrained",
    ),
    "acvtt": _entry("acvtt", "ACVTT", "ACVTT: planes along z restored with the texture of axial slices, untrained"),
    "cthnet": _entry(
        "cthnet", "CTHNet", "CTHNet: convolutions and 3D attention, then TVSRN's two attentions, untrained"
    ),
    "i3net": _entry(
        "i3net", "I3Net", "I3Net: slices as channels, one branch for pixels and one for frequencies, untrained"
    ),
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
        UsageError: for an unknown name; the message lists all names.
        ModelError: when a plug-in fails to build its model; repair or remove the plug-in.
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
        UsageError: for a name that is neither in the catalog nor a file; the message lists all names.
        CheckpointError: for a network of the catalog without weights; train it, then give its file.
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
        CheckpointError: when the row has none; train the network, then give its file.
    """
    entry = CATALOG.get(name)
    if entry is None or entry.weights is None:
        raise CheckpointError(
            f"The package contains no weights for {name!r}; train it (thinslice train), then give the weights file."
        )
    return Path(__file__).parent / "weights" / f"{entry.weights}.safetensors"


def _resolve(target: str) -> Callable[..., Any]:
    module, _, attribute = target.partition(":")
    resolved: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return resolved


def _plugins() -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINT_GROUP)}
