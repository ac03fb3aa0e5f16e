"""Volumes of a recipe: which files, and how often."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from thinslice import Geometry, Volume, write
from thinslice.data.crops import CropSampler
from thinslice.recipes import DatasetRecipe, SimulationRecipe, TrainRecipe
from thinslice.training.sources import open_sources, training_digests

SHAPE = (30, 20, 20)


def test_a_file_that_is_named_again_is_drawn_more_often_and_read_once(tmp_path: Path) -> None:
    folder = tmp_path / "ct"
    folder.mkdir()
    for name, hu in (("rare", 0), ("often", 400)):
        write(Volume(np.full(SHAPE, hu, np.int16), Geometry(SHAPE, (1.0, 0.7, 0.7))), folder / f"{name}.nii.gz")
    recipe = TrainRecipe(
        name="x",
        network={"name": "thinnet"},
        data=("ct", "ct/often.nii.gz", "ct/often.nii.gz"),
        simulation=SimulationRecipe(plane=16, depth=3, factors=(2,), box_width_share=0, noise_share=0),
    )
    sampler = open_sources(recipe, tmp_path).sampler
    assert isinstance(sampler, CropSampler)
    assert len({id(voxels) for voxels in sampler._voxels}) == 2
    drawn = [float(sampler.draw(step, range(1)).thin.mean()) > 0.4 for step in range(300)]
    assert 0.67 < np.mean(drawn) < 0.83  # three of four


def test_a_manifest_file_is_a_data_set_and_its_digests_are_those_of_the_run(tmp_path: Path) -> None:
    hu = np.random.default_rng(0).integers(-900, 300, (13, 24, 24)).astype(np.int16)
    thick = np.stack([hu[k : k + 3].mean(axis=0) for k in range(0, 11, 3)]).astype(np.float32)
    write(Volume(hu, Geometry(hu.shape, (1.0, 0.7, 0.7))), tmp_path / "thin.nii.gz")
    grid = Geometry(thick.shape, (3.0, 0.7, 0.7), origin_mm=(0.0, 0.0, 1.0))
    write(Volume(thick, grid), tmp_path / "thick.nii.gz")
    (tmp_path / "factor-3.csv").write_text("case,thick,thin,split\na,thick.nii.gz,thin.nii.gz,train\n")
    recipe = TrainRecipe(
        name="x", network={"name": "thinnet"}, dataset=DatasetRecipe(root="factor-3.csv", validation=None),
        crops={"depth": 2, "plane": 16},
    )  # fmt: skip
    sources = open_sources(recipe, tmp_path)
    assert (sources.cases, sources.factor) == (("a",), 3)
    assert training_digests(recipe, tmp_path) == sources.digests
