"""Cores that the process may use: physical ones, affinity, control groups, OMP_NUM_THREADS."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from thinslice.system import cores


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine of eight processors on four cores, without any limit."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "_TOPOLOGY", tmp_path / "cpu")
    monkeypatch.setattr(cores, "control_groups", lambda controller: [])
    for processor in range(8):
        folder = tmp_path / "cpu" / f"cpu{processor}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{processor % 4},{processor % 4 + 4}\n")


def group(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_two_threads_of_a_core_count_once() -> None:
    assert cores.sensible_threads() == 4


def test_only_processors_this_process_may_use_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 5, 6}, raising=False)
    assert cores.sensible_threads() == 2


def test_a_system_without_a_list_of_cores_gives_its_processors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cores, "_TOPOLOGY", tmp_path / "nowhere")
    assert cores.sensible_threads() == 8


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu__max": "300000 100000"}, 3),
        ({"cpu__max": "250000 100000"}, 2),
        ({"cpu__max": "50000 100000"}, 1),
        ({"cpu__max": "max 100000"}, 4),
        ({"cpu__max": "nonsense"}, 4),
        ({"cpu__cfs_quota_us": "200000", "cpu__cfs_period_us": "100000"}, 2),
        ({"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "100000"}, 4),
        ({}, 4),
    ],
)
def test_a_control_group_limits(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    monkeypatch.setattr(cores, "control_groups", lambda controller: [group(tmp_path / "group", **files)])
    assert cores.sensible_threads() == expected


def test_the_tightest_of_nested_groups_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    inner = group(tmp_path / "a" / "b", cpu__max="400000 100000")
    (tmp_path / "a" / "cpu.max").write_text("200000 100000")
    monkeypatch.setattr(cores, "control_groups", lambda controller: [inner, tmp_path / "a"])
    assert cores.sensible_threads() == 2


@pytest.mark.parametrize(("value", "expected"), [("2", 2), ("3,1", 3), ("64", 4), ("", 4), ("0", 4), ("many", 4)])
def test_omp_num_threads_is_respected(monkeypatch: pytest.MonkeyPatch, value: str, expected: int) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert cores.sensible_threads() == expected
