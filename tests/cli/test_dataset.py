"""`thinslice dataset verify | analyse | mini` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.command_line import Run
from support.dataset_factory import pair_hu, released_set, save_unit, thin_hu
from thinslice.geometry import Geometry
from thinslice.volume import Volume


@pytest.fixture
def released(tmp_path: Path) -> Path:
    return released_set(tmp_path / "set", {"train": 2, "val": 1})


def test_a_sound_set_is_good(run: Run, released: Path) -> None:
    done = run("dataset", "verify", released)
    assert done.code == 0
    lines = done.out.splitlines()
    assert len(lines) == 4
    assert all(line.endswith("good") for line in lines[1:])
    assert "cases: 100 % (3 of 3)" in done.err
    assert "3 cases, no faults" in done.err
    assert run("dataset", "verify", released, "--quiet").err == ""


def test_a_bad_case_is_named_and_has_its_exit_code(run: Run, released: Path) -> None:
    save_unit(np.roll(pair_hu(seed=1)[1], 2, axis=0), released / "train/1mm/CT00000001.nii.gz")
    done = run("dataset", "verify", released)
    assert done.code == 3
    line = next(line for line in done.out.splitlines() if line.startswith("CT00000001"))
    assert "MISALIGNED: The pair is misaligned: thick slice k shows thin slice factor * k + 2" in line
    assert "error: 1 of 3 cases have faults; repair them" in done.err
    assert run("dataset", "verify", released, "--split", "val").code == 0
    as_json = run("dataset", "verify", released, "--json", "--expect", "full", "--quiet")
    assert as_json.code == 3
    values = json.loads(as_json.out)
    assert [case["shift"] for case in values["cases"]] == [0, 2, 0]
    assert "1 of 3 cases have faults and 3 about the set as a whole" in as_json.err
    assert values["faults"][0]["message"].startswith("train lacks 98 of 100 cases: CT00000002")


def test_analysis_prints_a_table_and_writes_files(run: Run, released: Path, tmp_path: Path) -> None:
    done = run("dataset", "analyse", released, "--out", tmp_path / "out")
    assert done.code == 0
    assert [line.split()[:3] for line in done.out.splitlines()[1:]] == [
        [split, category, count]
        for split, count in (("train", "2"), ("val", "1"))
        for category in ("Match", "Near", "Far")
    ]  # fmt: skip
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"match-near-far.{s}" for s in ("csv", "json", "png")}
    again = run("dataset", "analyse", released, "--out", tmp_path / "out")
    assert again.code == 5
    assert "--overwrite" in again.err
    assert run("dataset", "analyse", released, "--out", tmp_path / "out", "--overwrite", "--quiet").err == ""


def test_analysis_without_a_case_is_partly_done(run: Run, released: Path) -> None:
    (released / "train/1mm/CT00000001.nii.gz").write_bytes(b"damaged")
    done = run("dataset", "analyse", released)
    assert done.code == 8
    assert "left out: Case CT00000001" in done.err
    assert "1 of 3 cases were left out" in done.err


def test_a_small_set_is_made_and_is_sound(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(3):
        hu = thin_hu(40, 40, seed=number).astype(np.int16)
        thinslice.write(Volume(hu, Geometry(hu.shape, (1.0, 0.8, 0.8))), source / f"{number}.nii.gz")
    options = ("--cases", 3, 1, 1, "--size", 32, 32, "--thick-depth", 5, "--test", "2*", "--noise", 3)
    done = run("dataset", "mini", source, tmp_path / "out", *options)
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == "train: 3 cases of 1 patient"
    assert "cases: 100 % (5 of 5)" in done.err
    assert run("dataset", "verify", tmp_path / "out").code == 0
    refused = run("dataset", "mini", source, tmp_path / "out", *options)
    assert refused.code == 5
    assert run("dataset", "mini", source, tmp_path / "other", "--val", "nothing*").code == 2
    assert run("dataset", "mini", source, tmp_path / "other", "--cases", 3, 1, 200).code == 2
    assert run("dataset", "mini", tmp_path / "gone", tmp_path / "other").code == 3


@pytest.mark.parametrize("command", ["verify", "analyse", "mini"])
def test_help_has_examples(run: Run, command: str) -> None:
    done = run("dataset", command, "--help")
    assert done.code == 0
    assert f"thinslice dataset {command} " in done.out
    assert done.out.count(f"thinslice dataset {command}") >= 2


def test_what_is_no_data_set_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run("dataset", "verify", tmp_path / "empty")
    assert done.code == 3
    assert "train/1mm" in done.err
