"""CT as scanners, workstations and people leave it: read as SimpleITK and dcm2niix read it, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.dicom_factory import assert_no_canary
from support.habit import Habit
from support.habits_of_folders import HABITS as OF_FOLDERS
from support.habits_of_pixels import HABITS as OF_PIXELS
from support.habits_of_slices import HABITS as OF_SLICES
from support.other_readers import of_dcm2niix, slices_of_simpleitk, witnessed
from thinslice.errors import ThinsliceError
from thinslice.io.dicom.read import read_dicom

HABITS = {**OF_FOLDERS, **OF_PIXELS, **OF_SLICES}

READ = sorted(name for name, habit in HABITS.items() if habit.read)
REFUSED = sorted(name for name, habit in HABITS.items() if not habit.read)


def written(habit: Habit, folder: Path) -> Path:
    folder.mkdir()
    habit.write(folder)
    return folder


@pytest.mark.parametrize("name", READ)
def test_what_is_read_lies_where_two_other_readers_put_it(name: str, tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    pytest.importorskip("dcm2niix")
    habit = HABITS[name]
    folder = written(habit, tmp_path / "in")
    volume = read_dicom(folder, series=habit.series)
    assert volume.hu.shape[0] == habit.slices
    said = " ".join(volume.provenance.warnings)
    assert_no_canary(said)
    if habit.says == "":
        assert said == ""
    elif habit.says:
        assert habit.says in said
    for reader, readings, reason in (
        ("SimpleITK", slices_of_simpleitk(volume, folder), habit.simpleitk),
        ("dcm2niix", of_dcm2niix(folder, tmp_path / "out"), habit.dcm2niix),
    ):
        found = witnessed(volume, readings)
        assert bool(found) == bool(reason), f"{reader}: {found or 'agrees'}; expected: {reason or 'agrees'}"


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_one_volume_is_refused_by_name(name: str, tmp_path: Path) -> None:
    habit = HABITS[name]
    folder = written(habit, tmp_path / "in")
    with pytest.raises(ThinsliceError) as caught:
        read_dicom(folder, series=habit.series)
    assert habit.says
    assert habit.says in str(caught.value)
    assert_no_canary(caught.value)
