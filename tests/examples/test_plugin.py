"""The example plug-in as a user has it: installed beside thinslice, its network trains, loads and upscales."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.pair_factory import smooth_hu, write_pair
from thinslice import Geometry, Volume

EXAMPLE = Path(__file__).parents[2] / "examples" / "thinslice-plugin"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where the example is installed, apart from the environment that the tests run in."""
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--target", str(place), str(EXAMPLE)], check=True, timeout=1800)
    return {**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}


def thinslice_command(environment: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "thinslice", *map(str, arguments)],
        env=environment, capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def test_its_network_is_listed(environment: dict[str, str]) -> None:
    assert "column-net" in thinslice_command(environment, "models", "list").stdout


def test_its_network_trains_loads_and_upscales(environment: dict[str, str], tmp_path: Path) -> None:
    for split, number in (("train", 0), ("val", 100)):
        write_pair(tmp_path / "RPLHR-CT", split, number)
    thinslice_command(
        environment, "train", EXAMPLE / "column-net.toml", "--data", tmp_path, "--out", tmp_path / "run", "--device",
        "cpu", "--set", "optimiser.steps=3", "--set", "crops.plane=16", "--set", "validation.pictures=false",
    )  # fmt: skip
    weights = tmp_path / "run" / "column-net.safetensors"
    assert "column-net" in thinslice_command(environment, "models", "show", weights).stdout
    hu = smooth_hu(3, (5, 20, 20)).astype(np.int16)
    thinslice.write(Volume(hu, Geometry(hu.shape, (5.0, 0.7, 0.7))), tmp_path / "thick.nii.gz")
    thinslice_command(
        environment,
        "upscale",
        tmp_path / "thick.nii.gz",
        tmp_path / "thin.nii.gz",
        "--model",
        weights,
        "--device",
        "cpu",
    )
    thin = thinslice.read(tmp_path / "thin.nii.gz")
    assert thin.geometry.shape == (21, 20, 20)


def test_without_the_package_its_weights_are_refused_naming_it(environment: dict[str, str], tmp_path: Path) -> None:
    weights = tmp_path / "column.safetensors"
    code = (
        "from pathlib import Path; from thinslice.models import catalog, checkpoint; "
        f"checkpoint.save(catalog.build('column-net'), Path({str(weights)!r}), architecture='column-net', card={{}})"
    )
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=1800)
    from thinslice.errors import CheckpointError
    from thinslice.models import checkpoint

    with pytest.raises(CheckpointError, match="column-net"):
        checkpoint.load(weights)
