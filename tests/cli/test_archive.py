"""`thinslice archive`: what is printed, exit codes, tables and reports without identity."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from support.archives import write_archive
from support.command_line import Run
from support.dicom_factory import assert_no_canary


@pytest.fixture
def index(tmp_path: Path, run: Run) -> Path:
    """The index of an archive with two good series and one that lacks a slice."""
    write_archive(tmp_path / "ct", 2, gaps=1)
    assert run("archive", "scan", tmp_path / "ct", "--index", tmp_path / "index", "--processes", 1).code == 0
    return tmp_path / "index"


def test_a_scan_prints_counts_and_a_second_one_what_is_unchanged(tmp_path: Path, index: Path, run: Run) -> None:
    outcome = run("archive", "scan", tmp_path / "ct", "--index", index, "--processes", 1)
    assert "7 unchanged" in outcome.text and "3, 2 of them can be upscaled" in outcome.text
    assert run("archive", "scan", tmp_path / "ct", "--index", index, "--quiet").text == ""


def test_status_report_and_export_name_nobody(tmp_path: Path, index: Path, run: Run) -> None:
    outcome = run("archive", "status", "--index", index, "--json")
    values = json.loads(outcome.out)
    assert values["schema"] == "thinslice-archive-status/1" and values["plan"] is None
    assert (values["catalogue"]["series"], values["catalogue"]["fit"]) == (3, 2)
    for name in ("a.html", "a.md", "a.json", "a.csv"):
        command = "export" if name.endswith("csv") else "report"
        assert run("archive", command, tmp_path / name, "--index", index).code == 0
        text = (tmp_path / name).read_text()
        assert "Doe" not in text and ("missing" in text or name == "a.json")
        assert_no_canary(text.replace("CANARYCT1", ""))
    with (tmp_path / "a.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["eligible"] for row in table].count("True") == 2
    assert run("archive", "export", tmp_path / "a.csv", "--index", index).code == 5
    assert run("archive", "export", tmp_path / "a.txt", "--index", index).code == 2


def test_commands_without_index_or_plan_say_what_comes_first(tmp_path: Path, index: Path, run: Run) -> None:
    outcome = run("archive", "status", "--index", tmp_path / "none")
    assert outcome.code == 2 and "archive scan ROOT" in outcome.text
    outcome = run("archive", "run", "--index", index)
    assert outcome.code == 2 and "archive plan OUT" in outcome.text
    assert run("archive", "scan", tmp_path / "nowhere", "--index", index).code == 3
