"""thinslice dataset build: output and exit codes."""

from __future__ import annotations

from pathlib import Path

from support.command_line import Run
from support.dicom_factory import assert_no_canary
from support.hospital import write_scan
from thinslice.data.manifest import open_dataset


def test_builds_lists_and_exits_0(tmp_path: Path, run: Run) -> None:
    for seed in range(3):
        write_scan(tmp_path / "in" / str(seed), seed)
    write_scan(tmp_path / "in" / "bad", 5, thin={"AcquisitionNumber": 2})
    outcome = run(
        "dataset", "build", tmp_path / "in", tmp_path / "out", "--fractions", "0.34,0.33,0.33", "--label", "A"
    )
    assert outcome.code == 0, outcome.err
    assert "two acquisitions" in outcome.out and "series 3 (6 x 5 mm, B30F) with series 4" in outcome.out
    assert all(f"{split} 1 case(s) of 1 patient(s)" in outcome.text for split in ("train", "val", "test"))
    assert_no_canary(outcome.text)
    assert {case.label for case in open_dataset(tmp_path / "out").cases} == {"A"}
    assert run("dataset", "verify", tmp_path / "out").code == 0


def test_quiet_prints_nothing(tmp_path: Path, run: Run) -> None:
    write_scan(tmp_path / "in", 1)
    outcome = run("dataset", "build", tmp_path / "in", tmp_path / "out", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_exit_codes(tmp_path: Path, run: Run) -> None:
    bad = write_scan(tmp_path / "in" / "bad", 2, thin={"transfer_syntax": "rle"})
    for path in bad.thin.files:
        path.write_bytes(path.read_bytes()[:-300] + bytes(300))
    outcome = run("dataset", "build", tmp_path / "in", tmp_path / "none")
    assert outcome.code == 3 and "No pair was found in 1 study" in outcome.text
    write_scan(tmp_path / "in" / "good", 1)
    outcome = run("dataset", "build", tmp_path / "in", tmp_path / "out")
    assert outcome.code == 8 and "1 of 2 studies failed" in outcome.text
    assert str(tmp_path) not in outcome.err
    assert run("dataset", "build", tmp_path / "in", tmp_path / "in" / "out").code == 2
    assert run("dataset", "build", tmp_path / "in", tmp_path / "x", "--fractions", "1,2").code == 2
    assert run("dataset", "build", tmp_path / "in", tmp_path / "x", "--patient-by", "name").code == 2
    assert run("dataset", "build", tmp_path / "absent", tmp_path / "x").code == 3


def test_help_describes_the_command(run: Run) -> None:
    text = run("dataset", "build", "--help").text
    assert "thinslice dataset build archive/ pairs/" in text and "rejected.csv" in text and "Exit code 8" in text
