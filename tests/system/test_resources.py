"""What this machine has left, and the refusal to begin what it cannot hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from thinslice.system import resources


def test_control_group_limits_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\ninactive_file 100000\n")
    monkeypatch.setattr(resources, "control_groups", lambda controller: [tmp_path])
    assert resources.available_memory_bytes() == 400_000
    (tmp_path / "memory.max").write_text("max\n")
    available = resources.available_memory_bytes()
    assert available is None or available > 1 << 20
