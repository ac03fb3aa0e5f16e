"""Write the graphs of the embedded networks without their weights into src/thinslice/models/graphs.

    python tools/write_graphs.py

Needs the extra onnx. Needed again after a change of ThinNet or of the sizes of an embedded network; the tests of the
backend onnxruntime compare each graph with torch.
"""

from __future__ import annotations

from thinslice.models import catalog
from thinslice.models.graphs import onnx_export, shipped
from thinslice.models.load import load_model
from thinslice.models.thinnet import ThinNet


def main() -> None:
    """Write every graph."""
    for name, entry in catalog.CATALOG.items():
        if entry.weights is None:
            continue
        network = load_model(name)
        assert isinstance(network, ThinNet)
        for deviation in (False, True) if network.has_deviation else (False,):
            recording = onnx_export.Recording(5, None, 1.0 if deviation else None, all_inputs=True, keeps_names=True)
            graph = onnx_export.to_onnx(network, recording, name=name)
            shipped.without_weights(graph, set(shipped.weights_of(network, deviation=deviation)))
            path = shipped.graph_path(network.config, deviation=deviation)
            path.write_bytes(graph.SerializeToString())
            print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
