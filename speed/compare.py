"""Comparison of speeds with a plain reference TVSRN: seconds, memory, operations, bytes.

    python speed/compare.py                  # all measurements, on an idle machine: about an hour on two cores
    python speed/compare.py --quick          # the main measurements, about two minutes
    python speed/compare.py --write          # no measurements: figure and table of docs/results/speed.md from the JSON

Contestants take turns, each in its own process, and medians are reported: the plain reference with its default
allocator (speed/plain_tvsrn.py), the same weights in each installed backend, the embedded networks, and interpolation.

A volume that would take a contestant longer than --longest is not run. Its time is computed: the thick voxels in all
windows of its plan times the measured seconds per voxel of a window. For equal windows, as in the released plan, this
is the number of windows times the seconds per window. All tables and figures mark computed values.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

WINDOW = (4, 256, 256)
FACTOR = 5
PLAIN = "plain"
TVSRN = "tvsrn-released"
EMBEDDED = ("default", "fast", "best")
INTERPOLATION = "cubic-consistent"

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER / "results" / "compare.json"


class Worker:
    """A contestant's process."""

    def __init__(self, name: str, threads: int, weights: Path | None) -> None:
        self.name = name
        command = [sys.executable, str(FOLDER / "compare_worker.py"), name, str(threads)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self._process = subprocess.Popen(
            [*command, *([str(weights)] if weights else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.peak_mib = 0.0

    def ask(self, do: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            print(json.dumps({"do": do, **arguments}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise RuntimeError(f"{self.name} ended with exit code {self._process.wait()}; was there enough memory?")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{self.name}: {answer['error']}")
        self.peak_mib = answer["peak_mib"]
        return answer["answer"]

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Comparison:
    """Measurements of all contestants, whose workers take turns.

    Args:
        options: options of the command.
        counter: worker for counts without a clock, for all contestants.
    """

    def __init__(self, options: argparse.Namespace, counter: Worker) -> None:
        self._options = options
        self._counter = counter
        self.windows: list[dict[str, Any]] = []
        self.volumes: list[dict[str, Any]] = []
        self.agreement: dict[str, float] = {}
        self.left_out: list[str] = []

    def measure(self, names: list[str], shape: tuple[int, int, int], factor: int, runs: int) -> list[dict[str, Any]]:
        """Rows of all contestants that support a shape and factor; the first turn, which fills caches, is left out."""
        workers = {name: self._worker(name) for name in names}
        seconds: dict[str, list[float]] = {name: [] for name in names}
        try:
            for turn in range(-1, runs):
                for name in list(workers):
                    try:
                        taken = workers[name].ask("run", shape=shape, factor=factor)
                    except RuntimeError as error:
                        self.left_out.append(str(error))
                        workers.pop(name).end()
                        continue
                    if turn >= 0:
                        seconds[name].append(taken)
                        note(f"  {name:26} {'x'.join(map(str, shape)):12} factor {factor}  {taken:8.2f} s")
            return [
                {
                    "contestant": name,
                    "shape": list(shape),
                    "factor": factor,
                    "computed": False,
                    "seconds": seconds[name],
                    "median_s": statistics.median(seconds[name]),
                    "peak_mib": worker.peak_mib,
                }
                for name, worker in workers.items()
            ]
        finally:
            for worker in workers.values():
                worker.end()

    def count(self, rows: list[dict[str, Any]], *, with_bytes: bool) -> None:
        """Add counted values to rows: operations, windows, bytes."""
        for row in rows:
            where = {key: row[key] for key in ("contestant", "shape", "factor")}
            row |= self._counter.ask("facts", **where)
            row["bytes"] = self._counter.ask("bytes", **where) if with_bytes else None

    def compute(self, name: str, shape: tuple[int, int, int], factor: int) -> dict[str, Any] | None:
        """The row of a volume, computed from the seconds per window; None where no window was timed."""
        window = next((row for row in self.windows if (row["contestant"], row["factor"]) == (name, factor)), None)
        if window is None:
            return None
        row = {"contestant": name, "shape": list(shape), "factor": factor, "computed": True, "peak_mib": None}
        self.count([row], with_bytes=False)
        row["median_s"] = window["median_s"] * row["fed_voxels"] / window["fed_voxels"]
        return row

    def compare_numbers(self, names: list[str], shape: tuple[int, int, int]) -> None:
        """Measure the largest difference of each contestant from the plain reference on one window."""
        import numpy as np

        with TemporaryDirectory() as folder:
            outputs = {}
            for name in names:
                path = Path(folder) / f"{len(outputs)}.npy"
                if self._counter.ask("output", contestant=name, shape=shape, path=str(path)):
                    outputs[name] = np.load(path)
        for name, thin in outputs.items():
            if name != PLAIN:
                self.agreement[name] = float(np.abs(thin - outputs[PLAIN]).max())

    def _worker(self, name: str) -> Worker:
        return Worker(name, self._options.threads, self._options.weights)


def note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def contestants() -> list[str]:
    from thinslice.inference.backends.choice import available_backends
    from thinslice.models import catalog

    models = [TVSRN, *(name for name in EMBEDDED if name in catalog.names())]
    return [
        PLAIN,
        *(f"{model}/{backend}" for model in models for backend in available_backends()),
        f"{INTERPOLATION}/torch",
    ]


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def run(options: argparse.Namespace) -> dict[str, Any]:
    names = [name for name in contestants() if not options.only or name.partition("/")[0] in options.only]
    if options.quick:
        names = [name for name in names if not name.startswith(TVSRN) or name.endswith("/torch")]
    begun = time.time()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    machine = Worker("machine", options.threads, options.weights)
    comparison = Comparison(options, machine)
    rates = [machine.ask("facts")]

    note("one window")
    comparison.windows = comparison.measure(names, WINDOW, FACTOR, options.runs)
    comparison.count(comparison.windows, with_bytes=not options.quick)
    rates.append(machine.ask("facts"))
    if PLAIN in names:
        comparison.compare_numbers(names, WINDOW)

    note("one window, by factor")
    for factor in options.factors:
        if factor != FACTOR:
            able = [name for name in names if name != PLAIN]
            rows = comparison.measure(able, WINDOW, factor, max(1, options.runs // 2))
            comparison.count(rows, with_bytes=False)
            comparison.windows += rows

    note("volumes")
    for shape in volumes(options):
        runnable = []
        for name in names:
            computed = comparison.compute(name, shape, FACTOR)
            if computed is None:
                continue
            if name == PLAIN or computed["median_s"] > options.longest:
                comparison.volumes.append(computed)
                note(f"  {name:26} {'x'.join(map(str, shape)):12} computed   {computed['median_s']:8.0f} s")
            else:
                runnable.append(name)
        rows = comparison.measure(runnable, shape, FACTOR, options.volume_runs)
        comparison.count(rows, with_bytes=False)
        comparison.volumes += rows
    rates.append(machine.ask("facts"))
    machine.end()
    return {
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "load_before": load,
            **{key: statistics.median(rate[key] for rate in rates) for key in rates[0]},
        },
        "settings": {
            "threads": options.threads,
            "runs": options.runs,
            "volume_runs": options.volume_runs,
            "quick": options.quick,
            "longest_s": options.longest,
            "weights": "a released checkpoint" if options.weights else "random",
            "torch": metadata.version("torch"),
            "thinslice": metadata.version("thinslice"),
            "minutes": round((time.time() - begun) / 60, 1),
        },
        "agreement": comparison.agreement,
        "windows": comparison.windows,
        "volumes": comparison.volumes,
        "left_out": comparison.left_out,
    }


def volumes(options: argparse.Namespace) -> list[tuple[int, int, int]]:
    return sorted({(depth, side, side) for depth in options.slices for side in options.matrix}, key=math.prod)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="TVSRN in torch only, fewer runs, factors and volumes: about two minutes"
    )
    parser.add_argument("--write", action="store_true", help="only draw the figure and write the table")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file; figure and table are written beside it")
    parser.add_argument("--only", nargs="+", metavar="MODEL", help=f"a subset, such as {PLAIN} {TVSRN} default")
    parser.add_argument("--slices", nargs="+", type=int, help="thick slices of the volumes; 16 64 320")
    parser.add_argument("--matrix", nargs="+", type=int, help="rows and columns of the volumes; 256 512 1024")
    parser.add_argument("--factors", nargs="+", type=int, help="factors of the windows; 2 3 4 5 6 8")
    parser.add_argument("--runs", type=int, help="runs per window; 5")
    parser.add_argument("--volume-runs", type=int, help="runs per volume; 3")
    parser.add_argument("--longest", type=float, help="seconds of a run above which its time is computed; 120")
    parser.add_argument("--threads", type=int, help="threads of each contestant; all cores")
    parser.add_argument("--weights", type=Path, help="released checkpoint for both TVSRNs; random weights by default")
    options = parser.parse_args()
    if options.threads is None:
        from thinslice.system.cores import sensible_threads

        options.threads = sensible_threads()
    full = {"slices": [16, 64, 320], "matrix": [256, 512, 1024], "factors": [2, 3, 4, 5, 6, 8]}
    quick = {"slices": [16, 64], "matrix": [256], "factors": [5]}
    numbers = {"runs": (5, 2), "volume_runs": (3, 1), "longest": (120.0, 10.0)}
    for key, value in {**(quick if options.quick else full)}.items():
        setattr(options, key, getattr(options, key) or value)
    for key, (usual, short) in numbers.items():
        setattr(options, key, getattr(options, key) or (short if options.quick else usual))
    return options


def main() -> None:
    from compare_page import draw, table, write_page

    options = parse()
    if options.write:
        results = json.loads(options.out.read_text(encoding="utf-8"))
        write_page(results)
        return
    results = run(options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    options.out.with_suffix(".md").write_text(table(results), encoding="utf-8")
    draw(results, options.out.with_suffix(".png"))
    print(table(results))


if __name__ == "__main__":
    main()
