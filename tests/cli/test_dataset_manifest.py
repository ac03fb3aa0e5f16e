"""thinslice dataset manifest: output and exit codes; verify and training take the manifest that it writes."""

from __future__ import annotations

from pathlib import Path

from support.command_line import Run
from support.pair_factory import write_pair


def test_the_manifest_lists_pairs_and_warns_of_the_rest(tmp_path: Path, run: Run) -> None:
    write_pair(tmp_path, "test", 150)
    write_pair(tmp_path, "test", 151)
    next((tmp_path / "test" / "5mm").glob("*151*")).unlink()
    words = ["dataset", "manifest", str(tmp_path), "--thin", "{split}/1mm/{case}.nii.gz"]
    words += ["--thick", "{split}/5mm/{case}.nii.gz"]
    outcome = run(*words)
    assert outcome.code == 0
    assert "test: 1 pair\n" in outcome.err
    assert "1 case has a thin file alone, left out: CT00000151." in outcome.text
    assert (tmp_path / "manifest.csv").read_text().splitlines()[1].startswith("CT00000150,test/5mm/")
    assert run(*words).code == 5
    assert run(*words, "--overwrite", "--quiet").text == ""


def test_a_pattern_without_a_case_is_a_fault_of_usage_that_names_the_option(tmp_path: Path, run: Run) -> None:
    outcome = run("dataset", "manifest", tmp_path, "--thin", "x.nii", "--thick", "{case}", "--split", "a")
    assert outcome.code == 2 and "--thin" in outcome.text
