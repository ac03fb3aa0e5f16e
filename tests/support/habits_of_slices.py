"""Places and numbers of slices, as scanners and workstations write them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset

from support.habit import Habit, Habits, series, setting, typed_as

HABITS = Habits()


@HABITS.add()
def instances_numbered_from_0(folder: Path) -> None:
    series(folder, first_instance=0)


@HABITS.add()
def instances_all_numbered_1(folder: Path) -> None:
    series(folder, edit=setting(InstanceNumber=1))


@HABITS.add()
def instances_without_a_number(folder: Path) -> None:
    series(folder, edit=lambda dataset, _: typed_as(dataset, "InstanceNumber", "IS", ""), file_order="shuffled")


@HABITS.add(read=False, says="distinguished by InstanceNumber")
def instances_odd_first_then_even(folder: Path) -> None:
    order = [1, 4, 2, 5, 3, 6]
    series(folder, edit=lambda dataset, k: setattr(dataset, "InstanceNumber", order[k]))


@HABITS.add()
def instances_numbered_in_thousands(folder: Path) -> None:
    series(folder, first_instance=3001, instance_order="descending")


@HABITS.add()
def slice_locations_of_the_wrong_sign(folder: Path) -> None:
    series(folder, edit=lambda d, _: setattr(d, "SliceLocation", -float(d.SliceLocation)))


@HABITS.add()
def slice_locations_all_zero(folder: Path) -> None:
    series(folder, edit=setting(SliceLocation=0))


@HABITS.add()
def slice_locations_of_another_spacing(folder: Path) -> None:
    series(folder, edit=lambda d, k: setattr(d, "SliceLocation", 3.0 * k))


@HABITS.add()
def table_far_away(folder: Path) -> None:
    series(folder, origin_mm=(-250.0, -410.5, -1873.125))


@HABITS.add()
def slices_that_descend(folder: Path) -> None:
    series(folder, instance_order="descending", file_order="descending")


@HABITS.add(says=None)
def orientation_with_small_noise(folder: Path) -> None:
    random = np.random.default_rng(3)

    def edit(dataset: FileDataset, _: int) -> None:
        noise = random.uniform(-2e-5, 2e-5, 6)
        dataset.ImageOrientationPatient = [f"{v:.8f}" for v in np.array([1, 0, 0, 0, 1, 0]) + noise]

    series(folder, edit=edit)


@HABITS.add()
def orientation_with_exponents_and_negative_zero(folder: Path) -> None:
    series(
        folder,
        edit=lambda d, _: typed_as(
            d, "ImageOrientationPatient", "DS", r"1.000000e+00\-0\6.123e-17\-0.0\1.\0.00000e+00 "
        ),
    )


@HABITS.add()
def positions_with_plus_signs_and_spaces(folder: Path) -> None:
    series(
        folder,
        edit=lambda d, _: typed_as(
            d, "ImagePositionPatient", "DS", "\\".join(f" {float(v):+.6e}" for v in d.ImagePositionPatient)
        ),
    )


def _lying(name: str, position: str, orientation: tuple[float, ...]) -> None:
    def write(folder: Path) -> None:
        series(folder, orientation=orientation, edit=setting(PatientPosition=position))

    HABITS[name] = Habit(write)


_lying("feet_first_supine", "FFS", (1, 0, 0, 0, 1, 0))
_lying("feet_first_supine_turned", "FFS", (-1, 0, 0, 0, 1, 0))
_lying("head_first_prone", "HFP", (-1, 0, 0, 0, -1, 0))
_lying("feet_first_prone", "FFP", (1, 0, 0, 0, -1, 0))
_lying("decubitus_right", "HFDR", (0, 1, 0, -1, 0, 0))
_lying("decubitus_left", "HFDL", (0, -1, 0, 1, 0, 0))
_lying("feet_first_decubitus", "FFDL", (0, -1, 0, -1, 0, 0))
_lying("coronal_reformats", "HFS", (1, 0, 0, 0, 0, -1))
_lying("coronal_reformats_upwards", "HFS", (1, 0, 0, 0, 0, 1))
_lying("sagittal_reformats", "HFS", (0, 1, 0, 0, 0, -1))
_lying("sagittal_reformats_mirrored", "HFS", (0, -1, 0, 0, 0, -1))
_lying("head_along_the_orbits", "HFS", (1, 0, 0, 0, math.cos(0.3), math.sin(0.3)))


@HABITS.add(read=False, says="gantry tilt")
def gantry_tilted_forwards(folder: Path) -> None:
    series(folder, tilt_degrees=12.0)


@HABITS.add(read=False, says="gantry tilt")
def gantry_tilted_backwards_feet_first(folder: Path) -> None:
    series(folder, tilt_degrees=-22.5, orientation="feet_first")


@HABITS.add()
def a_tilt_that_was_corrected_and_is_still_stated(folder: Path) -> None:
    series(folder, edit=setting(GantryDetectorTilt=15))


@HABITS.add(read=False, says="out of line")
def a_field_of_view_moved_half_way(folder: Path) -> None:
    def edit(dataset: FileDataset, k: int) -> None:
        x, y, z = (float(v) for v in dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [x + (12.0 if k >= 3 else 0.0), y, z]

    series(folder, edit=edit)


SAG = "it takes the sag for a tilt of 0.006 degrees; we take the normal, as scanners round by more"


@HABITS.add(simpleitk=SAG, dcm2niix=SAG)
def table_that_sags(folder: Path) -> None:
    def edit(dataset: FileDataset, k: int) -> None:
        x, y, z = (float(v) for v in dataset.ImagePositionPatient)
        dataset.ImagePositionPatient = [x, y + 5e-4 * k, z]

    series(folder, edit=edit)


@HABITS.add(says=None)
def slices_that_overlap(folder: Path) -> None:
    series(folder, spacing_mm=(2.5, 0.7, 0.7), thickness_mm=5.0)


@HABITS.add(says=None)
def thickness_that_is_a_word(folder: Path) -> None:
    series(folder, edit=lambda d, _: typed_as(d, "SliceThickness", "DS", "5.0 mm"))


@HABITS.add()
def thickness_that_differs_by_rounding(folder: Path) -> None:
    series(folder, edit=lambda d, k: setattr(d, "SliceThickness", 5.0 if k % 2 else 4.9995))
