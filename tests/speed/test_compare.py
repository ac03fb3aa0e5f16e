"""The comparison of speeds: answers of its worker, computed figures, and the page."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SPEED = Path(__file__).resolve().parents[2] / "speed"


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Any:
    sys.path.insert(0, str(SPEED))
    yield
    sys.path.remove(str(SPEED))


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def test_the_worker_answers_line_by_line_and_outlives_what_it_cannot_do(tmp_path: Path) -> None:
    asked = [
        {"do": "run", "shape": [4, 16, 16], "factor": 5},
        {"do": "facts", "shape": [6, 16, 16], "factor": 5},
        {"do": "run", "shape": [4, 16, 24], "factor": 5},
        {"do": "output", "shape": [4, 16, 16], "path": str(tmp_path / "thin.npy")},
    ]
    done = subprocess.run(
        [sys.executable, str(SPEED / "compare_worker.py"), "plain", "1"],
        input="".join(json.dumps(line) + "\n" for line in asked),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    run, facts, refused, output = map(json.loads, done.stdout.splitlines())
    assert run["answer"] > 0 and run["peak_mib"] > 50
    assert facts["answer"]["plan"] == "released" and facts["answer"]["windows"] == 2
    assert "square" in refused["error"]
    assert output["answer"] is True and (tmp_path / "thin.npy").is_file()


def test_traffic_counts_what_operators_read_and_write_and_no_views() -> None:
    traffic = script("compare_worker").Traffic()
    x, y = torch.zeros(10, 4), torch.zeros(10, 4)
    with traffic:
        x.t().view(4, 10)[1:]
    assert traffic.bytes == 0
    with traffic:
        x + y
    assert traffic.bytes == 3 * 160
    with traffic:
        x.add_(y[:1].expand(10, 4))
    assert traffic.bytes == 3 * 160 + 160 + 160 + 160  # the expanded row's storage, and x read and written


def results() -> dict[str, Any]:
    def row(name: str, depth: int, seconds: float, *, computed: bool = False, factor: int = 5) -> dict[str, Any]:
        return {
            "contestant": name,
            "shape": [depth, 256, 256],
            "factor": factor,
            "computed": computed,
            "median_s": seconds,
            "peak_mib": None if computed else 1000.0,
            "operations": 1e11,
            "windows": 7,
            "fed_voxels": 7,
            "bytes": 2e9,
        }

    return {
        "machine": {
            "processor": "a processor",
            "matrix_gflops": 100.0,
            "onednn_gflops": 200.0,
            "copy_gbs": 10.0,
            "load_before": 0.0,
        },
        "settings": {"threads": 2, "runs": 5, "volume_runs": 3, "torch": "2"},
        "agreement": {"tvsrn-released/torch": 5e-6},
        "windows": [row("plain", 4, 12.0), row("tvsrn-released/torch", 4, 2.0), row("default/torch", 4, 0.1, factor=2)],
        "volumes": [row("plain", 64, 1200.0, computed=True), row("default/torch", 64, 10.0)],
        "left_out": [],
    }


def test_the_table_marks_what_was_computed_and_gives_ratios() -> None:
    text = script("compare_page").table(results())
    assert "| plain TVSRN | 12 | 1 x | 1000 | 100.0 | 4% | 2.00 | 2% | - |" in text
    assert "| `tvsrn-released`, torch | 2 | 6 x | 1000 | 100.0 | 25% | 2.00 | 10% | 5.0e-06 |" in text
    assert "| 64 | 256 | plain TVSRN | ~1200 | 1 x | - | 7 | 0.10 |" in text
    assert "| 64 | 256 | `default`, torch | 10 | 120 x | 1000 | 7 | 0.10 |" in text


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    script("compare_page").draw(results(), tmp_path / "speed.png")
    assert (tmp_path / "speed.png").stat().st_size > 10_000


def test_the_page_holds_what_its_script_makes() -> None:
    page = script("compare_page")
    inside = page.PAGE.read_text(encoding="utf-8").split(page.BEGIN)[1].split(page.END)[0]
    measured = SPEED / "results" / "compare.json"
    expected = f"\n{page.table(json.loads(measured.read_text()))}\n" if measured.is_file() else ""
    assert inside == expected, "run: python speed/compare.py --write"
