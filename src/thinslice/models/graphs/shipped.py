"""Graphs of the embedded networks that come with the package, without weights.

A graph without weights has 40 kB. Its weights are named as in the weights file, so a runtime takes them from there:
they exist once, and are checked where every run checks them (`thinslice.models.checkpoint`). One graph serves all
networks of the same sizes, fine-tuned ones too. `tools/write_graphs.py` writes the files.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from thinslice.typing import Floats

if TYPE_CHECKING:
    from torch import nn

    from thinslice.models.stored import StoredNetwork
    from thinslice.models.thinnet_config import ThinNetConfig

FOLDER = Path(__file__).parent

PREFIX = "network."
"""What precedes the name of a weight in a graph."""

LOCATION = "weights"
"""Name of the file that a graph without weights refers to; there is none."""

_DEVIATION_HEAD = "deviation."


def graph_path(config: ThinNetConfig, *, deviation: bool) -> Path:
    """The file of a network's graph, whether or not it exists.

    Args:
        config: sizes of the network.
        deviation: whether the graph has the second output.
    """
    sizes = (config.features, config.blocks, config.basis, config.unshuffle, config.condition)
    return FOLDER / f"thinnet-{'-'.join(map(str, sizes))}{'-deviation' if deviation else ''}.onnx"


def graph_weights(network: StoredNetwork, *, deviation: bool) -> dict[str, Floats]:
    """The weights that the graph of a network lacks, by their names in it."""
    return {
        f"{PREFIX}{name}": values
        for name, values in network.weights.items()
        if deviation or not name.startswith(_DEVIATION_HEAD)
    }


def stored_of(model: nn.Module) -> StoredNetwork | None:
    """A ThinNet of torch as data, which shares its memory; None for another network.

    Args:
        model: a ThinNet, with or without its standard deviation (`thinslice.models.deviation.Learned`).
    """
    from thinslice.models.deviation import Learned
    from thinslice.models.stored import StoredNetwork
    from thinslice.models.thinnet import ThinNet

    network, scale = (model.network, model.scale) if isinstance(model, Learned) else (model, None)
    if not isinstance(network, ThinNet):
        return None
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
    return StoredNetwork(network.config, weights, deviation_scale=scale)


def without_weights(graph: Any, names: set[str]) -> None:
    """Replace weights in an `onnx.ModelProto` by references to a file that does not exist.

    Args:
        graph: changed in place.
        names: of the weights.
    """
    for tensor in graph.graph.initializer:
        if tensor.name in names:
            length = len(tensor.raw_data)
            tensor.ClearField("raw_data")
            tensor.data_location = tensor.EXTERNAL
            for key, value in (("location", LOCATION), ("offset", "0"), ("length", str(length))):
                entry = tensor.external_data.add()
                entry.key, entry.value = key, value
