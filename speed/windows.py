"""Effect of the size of windows: voxels read, seconds in the network and peak memory under several budgets.

    python speed/windows.py [--shape 64 512 512] [--budgets 0.75 1.25 1.75 2.5] [--turns 3] [--model default]
    python speed/windows.py --cuts [--shape 64 512 512]     # no run: ratio of voxels read to voxels, and windows

Each run has its own process and a synthetic round body of noise in air; budgets take turns; medians are printed. The
default windows are those of `thinslice.planning.overlap.BUDGET_BYTES`.
"""

from __future__ import annotations

import argparse
import math
import statistics
import subprocess
import sys
from functools import partial


def run(shape: tuple[int, int, int], gib: float, model: str) -> tuple[float, int, float, float]:
    """Ratio of voxels read to voxels, windows, seconds in the network, and peak memory in MiB."""
    import numpy as np

    from thinslice.geometry import Geometry
    from thinslice.inference import upscale
    from thinslice.system.resources import peak_memory_mib
    from thinslice.volume import Volume

    upscale.plan_windows = partial(upscale.plan_windows, budget=int(gib * 2**30))
    rows, columns = np.mgrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    random, hu = np.random.default_rng(0), np.empty(shape, np.int16)
    for plane in hu:
        plane[...] = np.where(rows**2 + columns**2 < 0.8, 40.0, -985.0) + random.normal(0, 25, plane.shape)
    stream = upscale.upscale_slabs(Volume(hu, Geometry(shape, (5.0, 0.7, 0.7))), model=model)
    for _ in stream:
        pass
    read = sum(math.prod(window.shape) for window in stream.window_plan.windows)
    return read / hu.size, stream.windows_total, stream.network_s, peak_memory_mib() or math.nan


def cuts(shape: tuple[int, int, int], model: str) -> None:
    """Print the windows of each backend for a volume at factor 5."""
    from thinslice.models.load import load_model
    from thinslice.planning import plan_windows
    from thinslice.profile import SliceProfile

    whole = load_model(model).window
    for backend in ("openvino", "torch"):
        window = whole.run_by(backend, "cpu")
        shapes = [one.shape for one in plan_windows(shape, 5, window, profile=SliceProfile.mean(5)).windows]
        read = sum(map(math.prod, shapes)) / math.prod(shape)
        print(f"{backend:9}{window.working_bytes:5.0f} bytes a voxel{read:6.2f} in {len(shapes)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, default=(64, 512, 512))
    parser.add_argument("--budgets", type=float, nargs="+", default=(0.75, 1.25, 1.75, 2.5), help="GiB")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--model", default="default")
    parser.add_argument("--cuts", action="store_true", help="only print the windows of the volume")
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(*run(tuple(options.shape), options.one, options.model))
        return
    if options.cuts:
        cuts(tuple(options.shape), options.model)
        return
    measured: dict[float, list[list[float]]] = {gib: [] for gib in options.budgets}
    again = [sys.executable, __file__, "--model", options.model, "--shape", *map(str, options.shape)]
    for _ in range(options.turns):
        for gib in options.budgets:
            line = subprocess.run([*again, "--one", str(gib)], check=True, capture_output=True, text=True).stdout
            measured[gib].append([float(part) for part in line.split()])
    print(f"{' x '.join(map(str, options.shape))}, {options.model}; medians of {options.turns}")
    print("budget GiB   voxels read   windows   network s   peak MiB")
    for gib, runs in measured.items():
        read, windows, seconds, peak = (statistics.median(column) for column in zip(*runs, strict=True))
        print(f"{gib:10.2f}{read:14.2f}{windows:10.0f}{seconds:12.1f}{peak:11.0f}")


if __name__ == "__main__":
    main()
