"""What this machine has left, and the refusal to begin what it cannot hold."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from thinslice.system import resources
from thinslice.system.resources import PeakMemory, peak_memory_mib

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports resident memory in /proc")


def test_control_group_limits_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 500000\ninactive_file 100000\n")
    monkeypatch.setattr(resources, "control_groups", lambda controller: [tmp_path])
    assert resources.available_memory_bytes() == 400_000
    (tmp_path / "memory.max").write_text("max\n")
    available = resources.available_memory_bytes()
    assert available is None or available > 1 << 20


TWO_BLOCKS = """
import json
import numpy as np
from thinslice.system.resources import PeakMemory
with PeakMemory() as first:
    held = np.ones(40 << 17)  # 40 MiB
    del held
with PeakMemory() as later:
    pass
print(json.dumps([first.added_mib, first.peak_mib, later.added_mib, later.peak_mib]))
"""


@LINUX
def test_memory_taken_and_given_back_inside_the_block_is_seen() -> None:
    # A process of its own: what earlier tests left free on the heap would serve these arrays, or keep them resident.
    done = subprocess.run([sys.executable, "-c", TWO_BLOCKS], check=True, capture_output=True, text=True)
    first_added, first_peak, later_added, later_peak = json.loads(done.stdout)
    assert 38 <= first_added <= 60
    assert later_added < 20, "an earlier peak must not count"
    assert later_peak < first_peak


@LINUX
def test_without_a_resettable_mark_only_a_new_peak_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "_reset_peak", lambda: False)
    marks = iter([500.0, 500.0])
    monkeypatch.setattr(resources, "peak_memory_mib", lambda: next(marks))
    with PeakMemory() as unknown:
        pass
    assert unknown.peak_mib is None and unknown.added_mib is None
    marks = iter([500.0, 5000.0])
    monkeypatch.setattr(resources, "peak_memory_mib", lambda: next(marks))
    with PeakMemory() as known:
        pass
    assert known.peak_mib == 5000.0


@pytest.mark.skipif(sys.platform != "linux", reason="Linux hands the mark of whoever starts a program on to it")
def test_peak_memory_leaves_out_who_started_the_program() -> None:
    held = np.ones(600 << 17)  # 600 MiB
    program = "from thinslice.system.resources import peak_memory_mib; print(peak_memory_mib())"
    peak_mib = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert held.nbytes >> 20 == 600
    assert float(peak_mib) < 500


def test_peak_memory_counts_what_was_held() -> None:
    before = peak_memory_mib()
    if before is None:
        pytest.skip("this system does not report it")
    held = np.ones(int(before + 64) * 1024 * 1024 // 8)
    after = peak_memory_mib()
    assert after is not None and after > held.nbytes / 2**20 > before
