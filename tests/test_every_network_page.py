"""The page of the kept benchmark is what its script makes of the leaderboard beside it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from thinslice.models import catalog
from thinslice.recipes import read_suite, read_train_recipe

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("every_network_page", PROJECT / "tools" / "every_network_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def entry(label: str, psnr: float, date: str, **rest: Any) -> dict[str, Any]:
    values = {
        "suite": "every-network", "suite_sha256": "0", "label": label, "method": label, "adapt_steps": 0,
        "dataset": "real-thin", "split": "test", "cases": 12, "patients": 1, "data_sha256": "a" * 64,
        "protocol": "rplhr", "plan": "overlap", "factor": 5, "psnr": psnr, "psnr_sd": 1.0, "ssim": 0.9, "ssim_sd": 0.01,
        "parameters": 1000, "operations": 1e9, "seconds": 1.5, "memory_mib": None, "weights_sha256": None,
        "recipe_sha256": None, "commit": "c0ffee", "version": "1", "seed": 0, "device": "cpu", "device_name": "a CPU",
        "threads": 1, "date": date,
        "place": {"weights": None, "catalog_name": label, "recipe": None, "data": "d", "dataset": {"root": "d"},
                  "limit": None},
    }  # fmt: skip
    return {**values, **rest}


def test_the_table_ranks_the_latest_row_of_each_method(script: ModuleType, tmp_path: Path) -> None:
    rows = [
        entry("cubic", 30.0, "2026-01-01"),
        entry("default", 40.0, "2026-01-01", weights_sha256="w"),
        entry("cubic", 31.0, "2026-01-02"),
        entry("other", 50.0, "2026-01-02", suite="mini"),
    ]
    path = tmp_path / "board.json"
    path.write_text(json.dumps({"schema": "thinslice-leaderboard/1", "rows": rows}))
    text = script.filled(path)
    assert text.index("| default | 40.00 ± 1.00 |") < text.index("| cubic | 31.00 ± 1.00 |")
    assert "30.00" not in text and "other" not in text and "12 cases of 1 patient," in text
    path.write_text(json.dumps({"schema": "thinslice-leaderboard/1", "rows": rows[3:]}))
    with pytest.raises(ValueError, match="no row of the suite"):
        script.filled(path)


def test_the_page_is_what_its_script_makes(script: ModuleType) -> None:
    before, written, after = script.split(script.PAGE.read_text(encoding="utf-8"))
    board = script.FOLDER / script.LEADERBOARD
    if board.is_file():
        assert written == script.filled(board), "run: python tools/every_network_page.py"
    else:
        assert "not been published yet" in written and "|" not in written
    assert before.count(script.BEGIN) == 1 and after.count(script.END) == 1


def test_the_suite_has_every_network_of_the_catalog() -> None:
    suite = read_suite(PROJECT / "suites" / "every-network.toml")
    names = {method.model for method in suite.methods}
    for method in suite.methods:
        if method.recipe is not None:
            names.add(read_train_recipe(suite.folder / method.recipe).network.name)
    assert set(catalog.CATALOG) <= names
