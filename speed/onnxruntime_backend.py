"""Time of onnxruntime, and of OpenVINO where it is installed, beside torch on the CPU, for the embedded networks.

    python speed/onnxruntime_backend.py [--rounds 7] [--threads 1]

CPU seconds of one window of 12 x 256 x 256 thick slices at factor 5; passes alternate, and the median of the ratios is
printed beside the load of the machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from thinslice.inference.backends import openvino_backend
from thinslice.inference.backends.golden import load_per_core
from thinslice.inference.backends.onnxruntime_backend import OnnxRuntimeBackend, version
from thinslice.inference.backends.openvino_backend import OpenVINOBackend
from thinslice.inference.backends.torch_backend import TorchBackend
from thinslice.models import catalog
from thinslice.models.load import load_model
from thinslice.profile import SliceProfile
from thinslice.typing import Floats


def cpu_seconds(run: Callable[[], object]) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    windows = np.random.default_rng(0).random((1, 1, 12, 256, 256), dtype=np.float32)
    profile = SliceProfile.mean(5)
    print(f"onnxruntime {version()}, torch {torch.__version__}, {arguments.threads} threads")
    print(f"load for each core: {load_per_core()}")
    for name in (name for name, entry in catalog.CATALOG.items() if entry.weights is not None):
        model = load_model(name)
        backends: dict[str, Callable[[Floats], Floats]] = {
            "torch": TorchBackend(model, "cpu", factor=5, profile=profile),
            "onnxruntime": OnnxRuntimeBackend(model, factor=5, profile=profile, threads=arguments.threads),
        }
        if openvino_backend.is_installed():
            backends["openvino"] = OpenVINOBackend(model, factor=5, profile=profile)
        rounds = [
            {each: cpu_seconds(lambda run=run: run(windows)) for each, run in backends.items()}  # type: ignore[misc]
            for _ in range(arguments.rounds + 1)
        ][1:]  # the first one warms up
        for each in backends:
            median_s = statistics.median(spent[each] for spent in rounds)
            ratio = statistics.median(spent[each] / spent["torch"] for spent in rounds)
            print(f"{name}: {each} {median_s:.2f} s, ratio to torch {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
