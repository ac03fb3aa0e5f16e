"""The table on the page of the networks is current."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PAGE = (PROJECT / "docs" / "explanation" / "networks.md").read_text(encoding="utf-8")


def test_the_table_is_what_its_script_makes() -> None:
    spec = importlib.util.spec_from_file_location("networks_table", PROJECT / "speed" / "networks.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    _, written, _ = script.split(PAGE)
    assert written == script.table(), "run: python speed/networks.py --write"
