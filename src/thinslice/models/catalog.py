"""Table of all models by name. torch is loaded only when a model is built.

Other packages add models through the entry-point group `thinslice.models`: name -> a callable that returns a model
meeting the contract of `thinslice.models.base`. Without arguments it returns the model in its default configuration;
the config values of a recipe or a weights file are passed as keyword arguments. `examples/` contains such a package.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.errors import CheckpointError, ModelError, UsageError

if TYPE_CHECKING:
    from thinslice.models.base import ThroughPlaneModel

ENTRY_POINT_GROUP = "thinslice.models"

WEIGHTS_FOLDER = Path(__file__).parent / "weights"

MOST_PARAMETERS = 500_000_000
"""Most trained values of a network, 2 GB: nearly twenty times the largest network of the table."""


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


def _entry(module: str, name: str, summary: str, *, config_module: str | None = None, **rest: Any) -> Entry:
    """The row of a network of this package, whose config is called after its class."""
    path = "thinslice.models"
    return Entry(f"{path}.{module}:{name}", f"{path}.{config_module or module}:{name}Config", summary, **rest)


_interpolation = partial(_entry, "interpolate", "Interpolate", config_module="along_z", learned=False)
_thinnet = partial(_entry, "thinnet", "ThinNet", config_module="thinnet_config")

CATALOG: dict[str, Entry] = {
    "default": _thinnet("our network ThinNet with embedded weights, factors 2 to 8", weights="default"),
    "fast": _thinnet(
        "smaller ThinNet: about half of default's time",
        preset={"features": 32, "blocks": 4},
        weights="fast",
    ),
    "best": _thinnet(
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
    "thinnet": _thinnet("our network ThinNet, untrained"),
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
    "dpnsl": _entry(
        "dpnsl", "DPNSL", "DP-NSL: detail from a mixture of splines that thick slices do not see, untrained"
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
        UsageError: for an unknown name, and for a config that does not fit the network or makes it larger than
            `MOST_PARAMETERS`; the message lists the names, or names the key.
        ModelError: when a plug-in fails to build its model; repair or remove the plug-in.
    """
    if name in CATALOG:
        return _build_own(name, config)
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


def check_config(name: str, values: Mapping[str, Any], *, where: str) -> None:
    """Refuse config values that a network of the table does not take; nothing is built.

    Args:
        name: a row of `CATALOG`; for other names nothing is checked.
        values: config values of a recipe.
        where: the file that holds them, for the message.

    Raises:
        UsageError: naming file and key.
    """
    from pydantic import ValidationError

    from thinslice.recipes.checked import first_fault

    if name not in CATALOG:
        return
    entry = CATALOG[name]
    try:
        _resolve(entry.config)(**{**entry.preset, **values})
    except (ValidationError, TypeError) as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else str(error)
        raise UsageError(f"{where}, network.config.{fault} (network {name!r}); correct it.") from error


def _build_own(name: str, values: Mapping[str, Any]) -> ThroughPlaneModel:
    """A network of the table; one of other sizes than its preset's is counted before it takes memory."""
    import torch
    from pydantic import ValidationError

    from thinslice.recipes.checked import first_fault

    entry = CATALOG[name]
    network = _resolve(entry.model)
    try:
        config = _resolve(entry.config)(**{**entry.preset, **values})
    except (ValidationError, TypeError) as error:
        fault = first_fault(error) if isinstance(error, ValidationError) else str(error)
        raise UsageError(f"The config of the network {name!r} does not fit, {fault}; correct it.") from error
    if values:
        with torch.device("meta"):
            count = sum(parameter.numel() for parameter in network(config).parameters())
        if count > MOST_PARAMETERS:
            raise UsageError(
                f"The config of the network {name!r} makes {count} parameters, more than {MOST_PARAMETERS}; lower its "
                f"sizes ({', '.join(sorted(values))})."
            )
    model: ThroughPlaneModel = network(config)
    return model


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
        near = get_close_matches(name, names(), n=1)
        raise UsageError(
            f"{name!r} is neither a model name ({', '.join(names())}) nor a weights file that exists."
            + (f" Did you mean {near[0]}?" if near else "")
        )
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
    return WEIGHTS_FOLDER / f"{entry.weights}.safetensors"


def embedded_sha256(path: Path) -> str | None:
    """SHA-256 that an embedded weights file was released with, hexadecimal; None for a file outside the package.

    The list beside the weights has the form of `sha256sum`, so `sha256sum -c SHA256SUMS` checks it as well.
    """
    if path.parent != WEIGHTS_FOLDER:
        return None
    lines = (WEIGHTS_FOLDER / "SHA256SUMS").read_text(encoding="ascii").splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}.get(path.name, "")


def _resolve(target: str) -> Callable[..., Any]:
    module, _, attribute = target.partition(":")
    resolved: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return resolved


def _plugins() -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in metadata.entry_points(group=ENTRY_POINT_GROUP)}
