"""Skips: listed at the end of every run; one that is not expected fails a run in continuous integration."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.skips import EXPECTED, PROJECT, ExpectedSkip, expected, reasons_in

SKIPPING = """
import pytest

def test_passes(): pass
def test_skips(): pytest.skip("no reason at all")
def test_skips_too(): pytest.skip("no reason at all")
def test_lacks_data(): pytest.skip("shared data absent: ct")
"""


@pytest.mark.parametrize(
    ("options", "ci", "code"), [((), "", 0), (("-n", "1"), "true", 1)], ids=["one process", "a worker, CI"]
)
def test_an_unexpected_skip_fails_a_run_in_ci(tmp_path: Path, options: tuple[str, ...], ci: str, code: int) -> None:
    shutil.copy(PROJECT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_some.py").write_text(SKIPPING)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = {
        **os.environ,
        "CI": ci,
        "PYTHONPATH": str(PROJECT / "tests"),
        "THINSLICE_SHARED": str(tmp_path / "no"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "."],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "   2  no reason at all  (NOT EXPECTED" in done.stdout
    assert "   1  shared data absent: ct  (expected: no folder THINSLICE_SHARED)" in done.stdout
    assert "1 passed, 3 skipped" in done.stdout


def test_every_skip_in_the_tests_has_a_row_in_the_table() -> None:
    for path in sorted((PROJECT / "tests").rglob("*.py")):
        for reason in reasons_in(path.read_text(encoding="utf-8")):
            assert any(re.search(row.reason, reason) for row in EXPECTED), f"{path.name}: {reason}"


def test_a_reason_counts_only_where_its_condition_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THINSLICE_SHARED", str(tmp_path))
    assert expected("shared data absent: ct/thick") is None
    monkeypatch.setenv("THINSLICE_SHARED", str(tmp_path / "nowhere"))
    assert expected("shared data absent: ct/thick") is EXPECTED[0]
    row = ExpectedSkip("never", "never", lambda: False)
    assert expected("never", [row]) is None
