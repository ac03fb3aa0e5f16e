"""Volumes of a recipe: which files, and how often."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from thinslice import Geometry, Volume, write
from thinslice.data.crops import CropSampler
from thinslice.recipes import SimulationRecipe, TrainRecipe
from thinslice.training.sources import open_sources

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
