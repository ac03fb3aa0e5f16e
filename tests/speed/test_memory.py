"""The memory estimated before a run is the memory that the run takes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "speed" / "memory.py"


def measuring() -> ModuleType:
    spec = importlib.util.spec_from_file_location("speed_memory", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


measure = measuring()


@pytest.mark.heavy
@pytest.mark.parametrize("case", measure.CASES, ids=str)
def test_memory_is_within_a_quarter_of_the_estimate(case: Any, tmp_path: Path) -> None:
    if not case.runs_here:
        pytest.skip("OpenVINO is not installed")
    figures = measure.run(case, tmp_path)
    assert 1 / measure.MOST <= figures["estimated_over_measured"] <= measure.MOST, figures


@pytest.mark.skipif(sys.platform != "linux", reason="measured on Linux")
def test_memory_of_a_small_run_is_within_a_quarter_of_the_estimate(tmp_path: Path) -> None:
    figures = measure.run(measure.Case((8, 96, 128), "cubic-consistent", "dicom"), tmp_path)
    assert 1 / measure.MOST <= figures["estimated_over_measured"] <= measure.MOST, figures
