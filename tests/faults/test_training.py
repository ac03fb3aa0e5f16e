"""Row 26: training that diverges, and pairs that are corrupt or do not belong together."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from support.command_line import Outcome, Run
from support.fault_checks import assert_sentence, untouched
from support.pair_factory import small_recipe, write_pair
from thinslice.models import checkpoint

pytestmark = pytest.mark.faults
pytest.importorskip("lightning_fabric")

RECIPE = small_recipe(steps=4, every=4)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with a recipe and pairs: three cases to train on, two to validate."""
    for split, numbers in (("train", (0, 1, 2)), ("val", (100, 101))):
        for number in numbers:
            write_pair(tmp_path / "data" / "pairs", split, number)
    (tmp_path / "data" / "small.toml").write_text(RECIPE)
    return tmp_path / "data"


def command(data: Path, out: Path, *values: str) -> list[object]:
    changes = [part for value in values for part in ("--set", value)]
    return ["train", data / "small.toml", "--data", data, "--out", out, "--device", "cpu", "--threads", "1", *changes]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def with_voxels(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        voxels = change(np.asarray(nibabel.load(path).dataobj).copy())
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), path)

    return spoil


def one_voxel(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(voxels: np.ndarray) -> np.ndarray:
        voxels[3, 3, 3] = value
        return voxels

    return change


CORRUPT = {
    "cut": truncate,
    "a flipped bit": flip,
    "NaN": with_voxels(one_voxel(np.nan)),
    "1e30": with_voxels(one_voxel(1e30)),
    "misaligned": with_voxels(lambda voxels: np.roll(voxels, 4, axis=2)),
    "another patient": with_voxels(lambda voxels: voxels[::-1, ::-1].copy()),
    "too short": with_voxels(lambda voxels: voxels[:, :, :-5].copy()),
}


@pytest.mark.parametrize("fault", CORRUPT)
def test_row_26_a_corrupt_pair_stops_the_training_and_is_named(
    fault: str, data: Path, tmp_path: Path, run: Run
) -> None:
    CORRUPT[fault](data / "pairs" / "train" / "1mm" / "CT00000001.nii.gz")
    outcome = run(*command(data, tmp_path / "out"))
    assert outcome.code == 3, outcome.err
    assert_sentence(outcome, "CT00000001")
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_row_26_a_loss_that_is_not_finite_stops_the_training(data: Path, tmp_path: Path, run: Run) -> None:
    assert run(*command(data, tmp_path / "first")).code == 0
    network = checkpoint.load(tmp_path / "first" / "small.safetensors")
    for parameter in network.parameters():
        parameter.data.mul_(1e15)
    checkpoint.save(network, data / "huge.safetensors", architecture="tvsrn", card={"name": "huge"})
    with untouched(data / "small.toml", data / "huge.safetensors"):
        outcome = run(*command(data, tmp_path / "out", f'start="{data / "huge.safetensors"}"'))
    assert outcome.code == 4, outcome.err
    assert_sentence(outcome, "learning_rate")
    assert not (tmp_path / "out" / "small.safetensors").exists()


def test_row_26_good_pairs_train(data: Path, tmp_path: Path, run: Run) -> None:
    """What is spoiled above is good before: the refusals are due to the damage."""
    shutil.copytree(data, tmp_path / "copy")
    outcome = run(*command(data, tmp_path / "out"))
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "out" / "small.safetensors").is_file()


def test_row_26_of_two_trainings_in_one_folder_one_wins(data: Path, tmp_path: Path) -> None:
    arguments = [str(each) for each in command(data, tmp_path / "out", "optimiser.steps=1000000", "log_every=1")]
    program = [sys.executable, "-m", "thinslice", *arguments]
    first = subprocess.Popen(program, stderr=subprocess.PIPE, text=True)
    try:
        assert first.stderr is not None
        line = first.stderr.readline()
        while line and "step 1 " not in line:
            line = first.stderr.readline()
        assert line, "the first training ended"
        # A second training that is not refused would not end.
        second = subprocess.run(program, capture_output=True, text=True, check=False, timeout=120)
    finally:
        first.terminate()
        first.communicate()
    assert second.returncode == 5, second.stderr
    assert_sentence(Outcome(5, "", second.stderr))
