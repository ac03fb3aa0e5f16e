"""Time of a convolution of our network with torch's choice of kernel, and with oneDNN chosen by name.

    python speed/convolutions.py [--features 32] [--threads 2] [--runs 7]

A 3x3x3 convolution and its ReLU over windows of 4 and of 32 slices of 128 x 128, as in `fast`; times are those of the
fastest run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own habit

from thinslice.models.blocks.onednn import convolution


def fastest(run: Callable[[], torch.Tensor], runs: int) -> float:
    """Seconds of the fastest run, after a first one that is not timed."""
    run()
    seconds = []
    for _ in range(runs):
        begun = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    weight, bias = torch.randn(options.features, options.features, 3, 3, 3) / 30, torch.randn(options.features)
    print("slices   torch's choice, s   oneDNN by name, s")
    with torch.inference_mode():
        for depth in (4, 32):
            x = torch.randn(1, options.features, depth, 128, 128).contiguous(memory_format=torch.channels_last_3d)
            chosen = fastest(lambda x=x: F.relu(F.conv3d(x, weight, bias, padding=1), inplace=True), options.runs)
            named = fastest(lambda x=x: convolution(x, weight, bias, padding=(1, 1, 1), relu=True), options.runs)
            print(f"{depth:6}{chosen:20.4f}{named:20.4f}")


if __name__ == "__main__":
    main()
