"""Times of whole commands on a thick volume with the embedded networks and interpolation, beside machine rates.

    python speed/chest.py INPUT [--runs 3] [--output nifti|dicom]

Each run is a whole command in its own process; models alternate; medians are printed. The rates of matrix products and
copies serve for comparison on a shared machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODELS = ("default", "fast", "best", "cubic-consistent")


def machine_rates() -> tuple[float, float]:
    """Rates of float32 matrix products (GFLOP/s) and copies (GB/s, bytes read and written), medians of seven."""
    import torch

    a, source = torch.randn(2048, 2048), torch.randn(64 << 20)
    target = torch.empty_like(source)
    return (
        2 * 2048**3 / _median_s(lambda: a @ a) / 1e9,
        2 * source.numel() * 4 / _median_s(lambda: target.copy_(source)) / 1e9,
    )


def _median_s(work: object) -> float:
    times = []
    for _ in range(8):
        start = time.perf_counter()
        work()  # type: ignore[operator]
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def run(model: str, source: Path, suffix: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "thinslice", "upscale", str(source), str(Path(folder) / f"thin{suffix}")]
        start = time.perf_counter()
        subprocess.run([*command, "--model", model, "--report", str(report), "--quiet"], check=True)
        whole = time.perf_counter() - start
        values = json.loads(report.read_text(encoding="utf-8"))
    return {
        "whole command s": whole,
        "network s": values["seconds"]["network"],
        "peak memory MiB": values["peak_memory_mib"],
        "consistency HU": values["consistency_rms_hu"],
        "thin slices": values["output"]["slices"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--output", choices=("nifti", "dicom"), default="nifti")
    options = parser.parse_args()
    matrix, copy = machine_rates()
    print(f"machine: matrix product {matrix:.0f} GFLOP/s (float32), copy {copy:.0f} GB/s")
    suffix = ".nii.gz" if options.output == "nifti" else ""
    runs = [(model, run(model, options.input, suffix)) for _ in range(options.runs) for model in MODELS]
    for model in MODELS:
        figures = [figures for name, figures in runs if name == model]
        medians = {key: statistics.median(f[key] for f in figures) for key in figures[0]}
        print(f"{model:18}" + "  ".join(f"{key} {value:.2f}" for key, value in medians.items()))


if __name__ == "__main__":
    main()
