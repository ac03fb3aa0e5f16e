"""A small set in the released layout: whole pairs, one split a patient, the same again from the same seed."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

import thinslice
from support.dataset_factory import thin_hu
from thinslice.data.manifest import open_dataset, read_pair
from thinslice.data.mini import MiniRecipe, make_mini
from thinslice.errors import InputError, NotEligibleError, OutputExistsError, UsageError
from thinslice.geometry import Geometry
from thinslice.volume import Volume

SMALL = {"train": 6, "val": 1, "test": 2}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Four thin volumes of 60 x 48 x 48 voxels, a thick one, and a file that is none."""
    folder = tmp_path / "source"
    (folder / "deep").mkdir(parents=True)
    for number in range(4):
        hu = thin_hu(60, 48, seed=number).astype(np.int16)
        place = folder / ("deep" if number == 3 else "") / f"patient_name_{number}.nii.gz"
        thinslice.write(Volume(hu, Geometry(hu.shape, (1.0, 0.8, 0.7))), place)
    thick = np.zeros((8, 16, 16), np.int16)
    thinslice.write(Volume(thick, Geometry(thick.shape, (5.0, 0.8, 0.7))), folder / "thick.nii.gz")
    (folder / "notes.txt").write_text("nothing")
    return folder


def recipe(**changes: object) -> MiniRecipe:
    values = {"cases": SMALL, "size": (24, 32), "thick_depth": 5, **changes}
    return MiniRecipe(**values)  # type: ignore[arg-type]


def contents(root: Path) -> dict[str, str]:
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_files_are_as_the_release_has_them(source: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = make_mini(source, tmp_path / "out", recipe(), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(n, 9) for n in range(1, 10)]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"train", "val", "test", "manifest.csv", "mini.json"}
    names = sorted(p.relative_to(made.root).as_posix() for p in made.root.rglob("*.nii.gz"))
    numbers = {"train": range(6), "val": range(100, 101), "test": range(150, 152)}
    assert names == sorted(
        f"{split}/{folder}/CT{n:08d}.nii.gz" for split, ns in numbers.items() for n in ns for folder in ("1mm", "5mm")
    )
    for folder, depth in (("1mm", 21), ("5mm", 5)):
        image = nibabel.load(made.root / "train" / folder / "CT00000000.nii.gz")
        assert image.shape == (32, 24, depth)
        assert image.get_data_dtype() == np.float32
        np.testing.assert_array_equal(image.affine, np.eye(4))
        values = np.asarray(image.dataobj)
        assert 0.0 <= values.min() < values.max() <= 1.0


def test_cases_are_whole_pairs_and_patients_keep_to_one_split(source: Path, tmp_path: Path) -> None:
    make_mini(source, tmp_path / "out", recipe())
    data = open_dataset(tmp_path / "out")
    assert (data.layout, {c.layout for c in data.cases}) == ("released", {"released"})
    split_of: dict[str, str] = {}
    for case in data.cases:
        pair = read_pair(case)
        assert (pair.thick.hu.shape, pair.thin.hu.shape, pair.factor) == ((5, 24, 32), (21, 24, 32), 5)
        np.testing.assert_allclose(pair.thick.hu[2], pair.thin.hu[8:13].mean(axis=0), atol=0.5001)
        assert split_of.setdefault(case.patient, case.split) == case.split
        assert case.label.startswith(f"slab of {case.patient} (")
        assert "patient_name" not in case.label
    assert len(split_of) == 4


def test_in_plane_axes_play_the_slices_in_training_alone(source: Path, tmp_path: Path) -> None:
    make_mini(source, tmp_path / "out", recipe())
    with (tmp_path / "out" / "manifest.csv").open() as table:
        rows = list(csv.DictReader(table))
    axes = {split: {row["axis"] for row in rows if row["split"] == split} for split in SMALL}
    assert axes == {"train": {"depth", "height", "width"}, "val": {"depth"}, "test": {"depth"}}
    make_mini(source, tmp_path / "plain", recipe(axes=("depth",)))
    assert all("its depth axis" in case.label for case in open_dataset(tmp_path / "plain").cases)


def test_slabs_lie_where_their_label_says(source: Path, tmp_path: Path) -> None:
    make_mini(source, tmp_path / "out", recipe(patterns={"val": ["*_1.nii.gz"], "test": ["deep/*"]}))
    case = open_dataset(tmp_path / "out").split("test")[0]
    label = case.label
    where = label[label.index("(") + 1 : label.index(")")].split()
    box = dict(zip(where[::2], where[1::2], strict=True))
    part = tuple(slice(*map(int, box[axis].split(":"))) for axis in ("depth", "height", "width"))
    whole = thin_hu(60, 48, seed=3)
    np.testing.assert_array_equal(read_pair(case).thin.hu, whole[part][2:-2])


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(source: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        make_mini(source, tmp_path / name, recipe(seed=seed, noise_hu=5.0))
    a, b, c = (contents(tmp_path / name) for name in "abc")
    assert a == b
    assert a != c


def test_noise_and_profile_are_those_asked_for(source: Path, tmp_path: Path) -> None:
    patterns = {"val": ["*_1.nii.gz"], "test": ["deep/*"]}
    make_mini(source, tmp_path / "plain", recipe(patterns=patterns))
    make_mini(source, tmp_path / "noisy", recipe(patterns=patterns, noise_hu=20.0))
    make_mini(source, tmp_path / "other", recipe(patterns=patterns, profile="subsample"))
    plain, noisy, other = (read_pair(open_dataset(tmp_path / n).split("val")[0]) for n in ("plain", "noisy", "other"))
    np.testing.assert_array_equal(plain.thin.hu, noisy.thin.hu)
    assert np.std(noisy.thick.hu - plain.thick.hu) == pytest.approx(20.0, rel=0.1)
    np.testing.assert_array_equal(other.thick.hu, other.thin.hu[::5])


def test_patterns_say_which_files_go_where(source: Path, tmp_path: Path) -> None:
    made = make_mini(
        source, tmp_path / "out", recipe(patterns={"train": ["*_2.nii.gz"], "val": ["*_0*"], "test": ["deep/*"]})
    )
    assert made.patients == {"train": ("P004",), "val": ("P002",), "test": ("P001",)}
    assert any("'thick.nii.gz' lie 5 mm apart" in reason for reason in made.left_out)
    assert any("No split needs 'patient_name_1.nii.gz'" in reason for reason in made.left_out)


@pytest.mark.parametrize(
    ("changes", "error", "expected"),
    [
        ({"patterns": {"val": ["nothing*"]}}, UsageError, "'nothing\\*' for val fits no file"),
        ({"patterns": {"val": ["*_0*"], "test": ["*_0*"]}}, UsageError, "into val and into test"),
        ({"patterns": {"val": ["thick*"]}}, NotEligibleError, "5 mm apart, which is not thin"),
        ({"patterns": {"val": ["*_[012].*"], "test": ["deep/*"]}}, InputError, "none is left for train"),
        ({"cases": {"train": 2, "val": 1, "test": 40}}, NotEligibleError, "slabs of 25 x 24 x 32 thin voxels, not 40"),
        ({"size": (64, 64)}, NotEligibleError, "hold 0 slabs"),
    ],
)
def test_what_cannot_be_made_is_refused_and_leaves_nothing(
    source: Path, tmp_path: Path, changes: dict[str, object], error: type[Exception], expected: str
) -> None:
    with pytest.raises(error, match=expected):
        make_mini(source, tmp_path / "out", recipe(**changes))
    assert {p.name for p in tmp_path.iterdir()} == {"source"}


@pytest.mark.parametrize(
    "changes",
    [
        {"cases": {"train": 101}},
        {"cases": {"dev": 1}},
        {"cases": {"train": 0}},
        {"size": (8, 64)},
        {"thick_depth": 3},
        {"axes": ()},
        {"axes": ("z",)},
        {"profile": "cubic"},
        {"noise_hu": -1.0},
        {"noise_hu": float("nan")},
        {"seed": -1},
    ],
)
def test_a_recipe_of_nonsense_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        recipe(**changes)


def test_the_same_volume_twice_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "copy.nii.gz").write_bytes((source / "patient_name_0.nii.gz").read_bytes())
    with pytest.raises(InputError, match="are the same"):
        make_mini(source, tmp_path / "out", recipe())


def test_no_volumes_and_no_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no NIfTI"):
        make_mini(tmp_path / "empty", tmp_path / "out", recipe())
    with pytest.raises(InputError, match="no folder 'gone'"):
        make_mini(tmp_path / "gone", tmp_path / "out", recipe())


def test_an_existing_set_is_kept_unless_it_may_be_replaced(source: Path, tmp_path: Path) -> None:
    make_mini(source, tmp_path / "out", recipe())
    before = contents(tmp_path / "out")
    with pytest.raises(OutputExistsError):
        make_mini(source, tmp_path / "out", recipe(seed=5))
    assert contents(tmp_path / "out") == before
    make_mini(source, tmp_path / "out", recipe(seed=5), overwrite=True)
    assert contents(tmp_path / "out") != before


def test_real_thin_ct_makes_a_set_whose_pairs_are_sound(
    shared: Path, shared_volume: Callable[[str], Path], tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for path in (shared_volume("lungfcp_01_0001_chest_1.0mm"), *(shared / "ct" / "dev").iterdir()):
        (source / path.name).symlink_to(path)
    chosen = MiniRecipe(cases={"train": 3, "test": 1}, patterns={"test": ["rider*"]}, size=(64, 64), thick_depth=8)
    make_mini(source, tmp_path / "out", chosen)
    cases = open_dataset(tmp_path / "out").cases
    assert [c.split for c in cases] == ["train"] * 3 + ["test"]
    for case in cases:
        assert read_pair(case).thin.hu.shape == (36, 64, 64)
