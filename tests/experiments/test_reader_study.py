"""Cases of a blinded reading: the same grid for all, balanced order, no names outside the key."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import thinslice
from support.command_line import smooth_volume
from support.dicom_factory import write_series
from thinslice.errors import GeometryError, InputError, OutputExistsError, UsageError
from thinslice.experiments.reader_study import assign, export_study, find_cases, on_one_grid
from thinslice.geometry import Geometry
from thinslice.volume import Volume


@pytest.fixture
def arms(tmp_path: Path) -> dict[str, Path]:
    """Three cases, thick and by two methods; one more that only one method has."""
    folders = {label: tmp_path / label for label in ("thick", "linear", "cubic")}
    for folder in folders.values():
        folder.mkdir()
    for number, name in enumerate(("Mueller", "Meier", "Schmidt")):
        thick = smooth_volume(depth=5)
        thick = Volume(thick.hu + np.int16(10 * number), thick.geometry)
        thinslice.write(thick, folders["thick"] / f"{name}.nii.gz")
        for method in ("linear", "cubic"):
            thinslice.write(thinslice.upscale(thick, model=method), folders[method] / f"{name}.nii")
    thinslice.write(thick, folders["thick"] / "Extra.nii.gz")
    return folders


@given(cases=st.integers(1, 40), methods=st.integers(2, 8), seed=st.integers(0, 2**32))
def test_every_method_is_in_every_place_equally_often(cases: int, methods: int, seed: int) -> None:
    labels = [f"m{number}" for number in range(methods)]
    study = assign([f"p{number}" for number in range(cases)], labels, seed)
    assert len({case.source for case in study}) == len(study) == cases
    places = Counter((letter, label) for case in study for letter, label in case.panels.items())
    assert all(sorted(case.panels.values()) == sorted(labels) for case in study)
    counts = [places[letter, label] for letter in study[0].panels for label in labels]
    # Whole blocks are balanced; the last one may be cut.
    assert max(counts) - min(counts) <= 1
    assert study == assign([f"p{number}" for number in range(cases)], labels, seed)


def test_the_reader_gets_volumes_without_names_and_the_key_leads_back(arms: dict[str, Path], tmp_path: Path) -> None:
    study, notes = export_study(arms, tmp_path / "reading", tmp_path / "key.json", seed=3)
    assert notes == ("1 cases are left out, because not every method has them.",)
    key = json.loads((tmp_path / "key.json").read_text())
    assert [case["case"] for case in key["cases"]] == [case.name for case in study]
    assert [case.name for case in study] == ["case-001", "case-002", "case-003"]
    for case in key["cases"]:
        folder = tmp_path / "reading" / case["case"]
        sizes: set[tuple[int, ...]] = set()
        descriptions: set[str] = set()
        for letter, method in case["panels"].items():
            shown = nib.load(folder / f"{letter}.nii.gz")
            source = thinslice.read(next(arms[method].glob(f"{case['source']}.*")))
            seen = thinslice.read(folder / f"{letter}.nii.gz").hu
            sizes.add(seen.shape)
            if method == "thick":
                # Thick slice k reaches to the middle between its neighbours, the upper one at the middle itself.
                assert np.array_equal(seen[0], source.hu[0]) and np.array_equal(seen[3], source.hu[1])
            else:
                assert np.array_equal(seen, source.hu)
            descriptions.add(str(shown.header["descrip"]))
        assert len(sizes) == len(descriptions) == 1
        assert (folder / "A-B-C.png").read_bytes()[1:4] == b"PNG"
    everything = [path.name for path in (tmp_path / "reading").rglob("*")]
    text = "".join(path.read_text() for path in (tmp_path / "reading").glob("*.*"))
    for word in ("Mueller", "Meier", "Schmidt", "linear", "cubic", "thick"):
        assert word not in text and not any(word in name for name in everything)
    form = list(csv.reader((tmp_path / "reading/form.csv").open()))
    assert [line[0] for line in form[1:]] == ["case-001", "case-002", "case-003"]


def test_dicom_folders_are_cases_too(tmp_path: Path) -> None:
    for label, seed in (("a", 1), ("b", 2)):
        write_series(tmp_path / label / "case", seed=seed, uid=f"1.2.{seed}")
    found, _ = find_cases({label: tmp_path / label for label in ("a", "b")})
    assert list(found) == ["case"]
    study, _ = export_study({label: tmp_path / label for label in ("a", "b")}, tmp_path / "out", tmp_path / "key.json")
    assert len(study) == 1 and json.loads((tmp_path / "key.json").read_text())["seed"] >= 0


def test_volumes_of_other_pixels_or_another_place_are_refused() -> None:
    thin = smooth_volume(depth=9, spacing_mm=1.0)
    half = thin.geometry.spacing_mm[1] / 2
    moved = Geometry(thin.geometry.shape, thin.geometry.spacing_mm, origin_mm=(half, 0.0, 0.0))
    with pytest.raises(GeometryError, match="apart along width"):
        on_one_grid({"a": thin, "b": Volume(thin.hu, moved)})
    away = Geometry(thin.geometry.shape, thin.geometry.spacing_mm, origin_mm=(0.0, 0.0, 500.0))
    with pytest.raises(GeometryError, match="do not overlap"):
        on_one_grid({"a": Volume(thin.hu, Geometry(away.shape, away.spacing_mm)), "b": Volume(thin.hu, away)})


def test_what_cannot_be_a_study_is_refused_before_anything_is_written(arms: dict[str, Path], tmp_path: Path) -> None:
    out, key = tmp_path / "reading", tmp_path / "key.json"
    with pytest.raises(UsageError, match="2 to 8 methods"):
        export_study({"cubic": arms["cubic"]}, out, key)
    with pytest.raises(UsageError, match="folder for the reader"):
        export_study(arms, out, out / "key.json")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="No case"):
        export_study({**arms, "other": empty}, out, key)
    key.write_text("mine")
    with pytest.raises(OutputExistsError):
        export_study(arms, out, key)
    assert not out.exists() and key.read_text() == "mine"
