"""Every fault is found and listed by case; a sound set has none."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.dataset_factory import pair_hu, released_set, save_raw, save_unit, true_volumes
from thinslice.data.manifest import open_dataset
from thinslice.data.rplhr import SPLITS, case_name
from thinslice.data.verify import verify
from thinslice.errors import UsageError
from thinslice.geometry import Geometry
from thinslice.volume import Volume


@pytest.fixture
def released(tmp_path: Path) -> Path:
    return released_set(tmp_path / "set", {"train": 8, "val": 1})


def test_a_sound_set_has_no_faults(released: Path) -> None:
    seen: list[tuple[int, int]] = []
    found = verify(open_dataset(released), progress=lambda done, total: seen.append((done, total)))
    assert found.ok
    assert seen == [(n, 9) for n in range(1, 10)]
    assert [c.case_id for c in found.checks] == [case_name(n) for n in (*range(8), 100)]
    for check in found.checks:
        assert (check.thick_shape, check.thin_shape, check.shift) == ((8, 24, 24), (36, 24, 24), 0)
        assert check.correlation is not None
        assert check.correlation > 0.99
        assert check.low is not None
        assert 0.0 < check.low < 0.2
    assert found.to_json()["ok"] is True


def test_every_bad_case_is_named_and_the_others_are_looked_at(released: Path) -> None:
    train = released / "train"
    name = [f"{case_name(n)}.nii.gz" for n in range(8)]
    (train / "5mm" / name[0]).unlink()
    (train / "1mm" / name[1]).write_bytes((train / "1mm" / name[1]).read_bytes()[:-300])
    save_unit(pair_hu(seed=2)[1][:-2], train / "1mm" / name[2])
    save_raw(pair_hu(seed=3)[1], train / "1mm" / name[3])
    values = (pair_hu(seed=4)[0] + 1024) / 3072
    values[1, 2, 3:5] = np.inf
    save_raw(values, train / "5mm" / name[4])
    save_unit(np.roll(pair_hu(seed=5)[1], -2, axis=0), train / "1mm" / name[5])
    (train / "1mm" / name[6]).write_text("not a volume")
    found = verify(open_dataset(released))
    assert not found.ok
    assert found.bad == 7
    faults_of = {check.case_id: [(fault.kind, fault.message) for fault in check.faults] for check in found.checks}
    expected = [
        ("missing", "thick volume is missing"),
        ("unreadable", "cut short"),
        ("shape", "8 thick slices go with 36 thin ones, not 34"),
        ("range", "these are probably HU"),
        ("not finite", "2 voxels of the thick volume"),
        ("misaligned", "factor * k - 2"),
        ("unreadable", "is not NIfTI"),
    ]
    for number, (kind, message) in enumerate(expected):
        faults = faults_of[case_name(number)]
        assert len(faults) == 1
        assert faults[0][0] == kind
        assert message in faults[0][1]
    assert faults_of[case_name(7)] == faults_of[case_name(100)] == []
    assert found.checks[5].shift == -2
    assert found.checks[3].high is not None
    assert found.checks[3].high > 100
    # The readable part of a bad case is reported.
    assert found.checks[0].thin_shape == (36, 24, 24)
    assert found.checks[0].thick_shape is None
    json = found.to_json()
    assert json["ok"] is False
    assert json["cases"][5]["faults"][0]["kind"] == "misaligned"


def test_one_value_a_little_outside_and_constant_volumes_are_told(released: Path) -> None:
    thick, thin = ((hu + 1024) / 3072 for hu in pair_hu(seed=0))
    thin[3, 3, 3] = 1.2
    save_raw(thin, released / "train/1mm/CT00000000.nii.gz")
    save_raw(np.full_like(thick, 0.25), released / "train/5mm/CT00000001.nii.gz")
    checks = verify(open_dataset(released), split="train").checks
    assert [fault.kind for fault in checks[0].faults] == ["range"]
    assert "to 1.2, not from 0 to 1." in checks[0].faults[0].message
    assert [fault.message for fault in checks[1].faults] == ["All voxels of the thick volume are 0.25."]


def test_one_patient_in_two_splits_and_one_volume_twice_are_told(released: Path) -> None:
    (released / "manifest.csv").write_text(
        "split,case,patient,thick,thin\ntrain,CT00000003,SECRET,a,b\nval,CT00000100,SECRET,a,b\n"
    )
    for folder in (released / "train" / "1mm", released / "train" / "5mm"):
        shutil.copy(folder / "CT00000001.nii.gz", folder / "CT00000002.nii.gz")
    found = verify(open_dataset(released))
    assert found.bad == 0
    assert {fault.kind: fault.message for fault in found.faults} == {
        "leak": "One patient is in several splits: CT00000003 (train), CT00000100 (val).",
        "twice": "Cases CT00000001 and CT00000002 have the same thin volume.",
    }


def test_cases_of_the_release_that_are_missing_are_listed(released: Path) -> None:
    for folder in ("1mm", "5mm"):
        path = released / "train" / folder
        (path / "CT00000007.nii.gz").rename(path / "CT00000170.nii.gz")
    full = [fault.message for fault in verify(open_dataset(released), expect="full").faults]
    assert full[0].startswith("train lacks 93 of 100 cases: CT00000007, CT00000008, ")
    assert full[0].endswith(" and 81 more.")
    assert full[1] == "train holds cases the release does not have there: CT00000170."
    assert full[2].startswith("val lacks 49 of 50 cases: CT00000101")
    assert full[3].startswith("test lacks 100 of 100 cases")
    only = verify(open_dataset(released), split="val", expect="full").faults
    assert [fault.kind for fault in only] == ["incomplete"]
    tiny = [fault.message for fault in verify(open_dataset(released), expect="tiny").faults]
    assert tiny[0] == "train holds 8 cases; the tiny set has 20."


def test_the_release_has_250_cases() -> None:
    numbers = [n for split in SPLITS.values() for n in split]
    assert numbers == list(range(250))
    assert [len(split) for split in SPLITS.values()] == [100, 50, 100]


def test_volumes_in_hu_are_checked_by_position(tmp_path: Path) -> None:
    thick, thin = true_volumes(2)
    off = Geometry(thick.hu.shape, (5.0, 0.7, 0.7), origin_mm=(10.0, -20.0, 33.4))
    unit = Volume(((thin.hu + 1024) / 3072).astype(np.float32), thin.geometry)
    raw = Volume((thin.hu + 1024).astype(np.int16), thin.geometry)
    moved = Volume(thick.hu, Geometry(thick.hu.shape, (5.0, 0.7, 0.7), origin_mm=(10.0, -20.0, 31.0)))
    files = {"good": (thick, thin), "off": (Volume(thick.hu, off), thin), "unit": (thick, unit)}
    files |= {"raw": (thick, raw), "moved": (moved, thin)}
    lines = ["thick,thin,split,case"]
    for name, (above, below) in files.items():
        thinslice.write(above, tmp_path / f"{name}5.nii.gz")
        thinslice.write(below, tmp_path / f"{name}1.nii.gz")
        lines.append(f"{name}5.nii.gz,{name}1.nii.gz,test,{name}")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    checks = {check.case_id: check for check in verify(open_dataset(tmp_path)).checks}
    assert checks["good"].faults == ()
    assert (checks["good"].thin_shape, checks["good"].shift) == ((50, 24, 24), 0)
    kinds = {name: [fault.kind for fault in check.faults] for name, check in checks.items()}
    assert kinds == {"good": [], "off": ["misaligned"], "unit": ["range"], "raw": ["range"], "moved": ["misaligned"]}
    assert "apart along the depth axis" in checks["off"].faults[0].message
    assert "intercept" in checks["raw"].faults[0].message
    assert checks["moved"].shift == 1


def test_an_unknown_release_split_or_number_of_jobs_is_refused(released: Path) -> None:
    data = open_dataset(released)
    with pytest.raises(UsageError, match="no release 'small'"):
        verify(data, expect="small")
    with pytest.raises(UsageError, match="no split 'test'"):
        verify(data, split="test")
    with pytest.raises(UsageError, match="not 0"):
        verify(data, jobs=0)
