"""Write what onnxruntime needs to run the embedded networks without torch.

    python tools/write_graphs.py             the graphs without weights into src/thinslice/models/graphs, and the record
    python tools/write_graphs.py --record    torch's results on the golden case alone: after a change of weights

Needs the extra export. The graphs are needed again after a change of ThinNet or of the sizes of an embedded network;
the tests of the backend onnxruntime compare each graph, and the record, with torch.
"""

from __future__ import annotations

import sys

from safetensors.numpy import save_file

from thinslice.inference.backends.golden import golden_cases, golden_windows
from thinslice.inference.backends.recorded import RECORD, key_of, sample
from thinslice.inference.backends.torch_backend import TorchBackend
from thinslice.models import catalog
from thinslice.models.deviation import Learned
from thinslice.models.graphs import onnx_export, shipped
from thinslice.models.load import load_model
from thinslice.models.thinnet import ThinNet


def main(arguments: list[str]) -> None:
    """Write every graph, unless the record alone is wanted, and the record."""
    if "--record" not in arguments:
        write_graphs()
    write_record()


def write_record() -> None:
    """Record torch's float32 on the golden case (`thinslice.inference.backends.recorded`)."""
    values, digests = {}, {}
    for name, entry in catalog.CATALOG.items():
        if entry.weights is None:
            continue
        network = load_model(name)
        digests[name] = str(network.sha256)
        for channels in (1, 2) if network.has_deviation else (1,):
            model = network if channels == 1 else Learned(network)
            for factor, profile in golden_cases(network):
                thin = TorchBackend(model, "cpu", factor=factor, profile=profile, channels=channels)(
                    golden_windows(network)
                )
                values[key_of(name, channels, factor)] = sample(thin)
    save_file(values, RECORD, metadata=digests)
    print(f"{RECORD.name}: {RECORD.stat().st_size} bytes")


def write_graphs() -> None:
    """Write every graph."""
    for name, entry in catalog.CATALOG.items():
        if entry.weights is None:
            continue
        network = load_model(name)
        assert isinstance(network, ThinNet)
        stored = shipped.stored_of(network)
        assert stored is not None
        for deviation in (False, True) if network.has_deviation else (False,):
            recording = onnx_export.Recording(5, None, 1.0 if deviation else None, all_inputs=True, keeps_names=True)
            graph = onnx_export.to_onnx(network, recording, name=name)
            shipped.without_weights(graph, set(shipped.graph_weights(stored, deviation=deviation)))
            path = shipped.graph_path(network.config, deviation=deviation)
            path.write_bytes(graph.SerializeToString())
            print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
