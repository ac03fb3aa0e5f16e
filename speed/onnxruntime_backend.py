"""Time of onnxruntime beside torch on the CPU, for the embedded networks.

    python speed/onnxruntime_backend.py [--rounds 7] [--threads 1]

CPU seconds of one window of 12 x 256 x 256 thick slices at factor 5; passes of both alternate, and the median of the
ratios is printed beside the load of the machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from thinslice.inference.backends.golden import load_per_core
from thinslice.inference.backends.onnxruntime_backend import OnnxRuntimeBackend, version
from thinslice.inference.backends.torch_backend import TorchBackend
from thinslice.models import catalog
from thinslice.models.load import load_model
from thinslice.profile import SliceProfile


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
        ours = OnnxRuntimeBackend(model, factor=5, profile=profile)
        reference = TorchBackend(model, "cpu", factor=5, profile=profile)
        pairs = [
            (cpu_seconds(lambda: reference(windows)), cpu_seconds(lambda: ours(windows)))  # noqa: B023 - run at once
            for _ in range(arguments.rounds + 1)
        ][1:]
        torch_s, ours_s = (statistics.median(times) for times in zip(*pairs, strict=True))
        ratio = statistics.median(second / first for first, second in pairs)
        print(f"{name}: torch {torch_s:.2f} s, onnxruntime {ours_s:.2f} s, ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
