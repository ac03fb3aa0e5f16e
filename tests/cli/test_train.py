"""The command `train`: recipes from elsewhere, messages, interruption, and places that cannot be written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import thinslice
from support.command_line import Run, smooth_volume


def test_a_recipe_from_elsewhere_overwrites_nothing_outside_its_folder(tmp_path: Path, run: Run) -> None:
    victim = tmp_path / "victim.safetensors"
    victim.write_text("precious")
    for name in ("../../victim", "/absolute"):
        recipe = tmp_path / "r.toml"
        recipe.write_text(f'name = "{name}"\ndata = ["vol"]\n[network]\nname = "thinnet"\n')
        done = run("train", recipe, "--out", tmp_path / "runs" / "one")
        assert done.code == 2 and "r.toml, name: a name becomes a file" in done.err
    assert victim.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.toml", "victim.safetensors"]


RECIPE = """
name = "tiny"
data = ["thin.nii.gz"]
[network]
name = "thinnet"
config = {features = 8, blocks = 1}
[simulation]
factors = [2]
depth = 3
plane = 16
least_body = 0.0
in_plane_share = 0.0
[optimiser]
steps = 3
batch = 1
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    hu = smooth_volume(depth=24, plane=24, spacing_mm=1.0)
    thinslice.write(hu, tmp_path / "thin.nii.gz")
    (tmp_path / "r.toml").write_text(RECIPE)
    return tmp_path / "r.toml"


def test_data_start_from_the_recipes_folder_and_a_missing_path_is_named(recipe: Path, run: Run) -> None:
    done = run("train", recipe, "--out", recipe.parent / "run", "--device", "cpu")
    assert done.code == 0 and done.out.strip().endswith("tiny.safetensors")
    assert "tiny: thinnet, " in done.err and "step 1 of 3: loss" in done.err
    absent = run("train", recipe, "--data", recipe.parent / "absent", "--out", recipe.parent / "two", "--device", "cpu")
    assert absent.code == 3 and f"no training data at '{recipe.parent / 'absent'}" in absent.err


def test_values_that_cannot_work_are_usage_errors(recipe: Path, run: Run) -> None:
    for value in ("seed=-1", "log_every=0", "simulation.factors=[]", "network.config.features=1000000", "card.name=5"):
        done = run("train", recipe, "--out", recipe.parent / "run", "--set", value)
        assert done.code == 2, value
        assert value.partition("=")[0].split(".")[-1] in done.err


def test_a_file_too_large_for_its_place_is_a_fault_of_the_place(recipe: Path) -> None:
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); "
        "from thinslice.cli import main; main(sys.argv[1:])"
    )
    arguments = ["train", recipe, "--out", recipe.parent / "run", "--device", "cpu", "--quiet"]
    done = subprocess.run([sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 5 and "larger than the file system or a limit" in done.stderr
