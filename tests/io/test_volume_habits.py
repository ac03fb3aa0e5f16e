"""NIfTI, MetaImage and NRRD as programs write them: read as SimpleITK and nibabel read them, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.habits_of_itk_files import HABITS as OF_ITK_FILES
from support.habits_of_nifti import HABITS as OF_NIFTI
from support.other_readers import Reading, disagreement, of_nibabel, of_simpleitk
from support.volume_habit import hu
from thinslice.errors import ThinsliceError

HABITS = {**OF_NIFTI, **OF_ITK_FILES}

READ = sorted(name for name, habit in HABITS.items() if not habit.refused)
REFUSED = sorted(name for name, habit in HABITS.items() if habit.refused)


def difference(name: str, read: Callable[[], Reading], volume: thinslice.Volume) -> str:
    try:
        return disagreement(volume, read())
    except RuntimeError as error:
        return f"it reads nothing of {name} ({type(error).__name__})"


@pytest.mark.parametrize("name", READ)
def test_what_is_read_lies_where_two_other_readers_put_it(name: str, tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    habit = HABITS[name]
    path = habit.write(tmp_path)
    volume = thinslice.read(path, axis=habit.axis)
    said = " ".join(volume.provenance.warnings)
    if habit.warns == "":
        assert said == ""
    elif habit.warns:
        assert habit.warns in said
    if habit.as_made:
        np.testing.assert_array_equal(volume.hu, hu().transpose(2, 1, 0))
    witnesses = [("SimpleITK", lambda: of_simpleitk(path), habit.simpleitk)]
    if name.startswith("nifti"):
        witnesses.append(("nibabel", lambda: of_nibabel(path), habit.nibabel))
    for reader, read, reason in witnesses:
        found = difference(name, read, volume)
        assert bool(found) == bool(reason), f"{reader}: {found or 'agrees'}; expected: {reason or 'agrees'}"


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_volume_of_hu_is_refused(name: str, tmp_path: Path) -> None:
    pytest.importorskip("SimpleITK")
    path = HABITS[name].write(tmp_path)
    with pytest.raises(ThinsliceError, match=HABITS[name].refused):
        thinslice.read(path)
