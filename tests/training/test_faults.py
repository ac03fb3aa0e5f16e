"""Faults around a training: damaged volumes and states, a second run, places that cannot be written, Ctrl-C."""

from __future__ import annotations

import signal
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from support.pair_factory import smooth_hu
from thinslice.errors import InputError, OutputBusyError, OutputError, UnreadableError
from thinslice.models import checkpoint
from thinslice.recipes import TrainRecipe
from thinslice.training.fit import fit
from thinslice.training.loop import LogLine
from thinslice.training.run_folder import run_folder

RECIPE = TrainRecipe(
    name="small",
    network={"name": "thinnet", "config": {"features": 8, "blocks": 1}},
    data=("data",),
    simulation={"factors": [3, 4], "depth": 4, "plane": 16, "least_body": 0},
    optimiser={"steps": 6, "batch": 1, "warmup": 2, "average": 0.9},
    log_every=50,
)


def train(out: Path, root: Path, recipe: TrainRecipe = RECIPE, **options: object) -> Path | None:
    return fit(recipe, out, data_root=root, device="cpu", **options)  # type: ignore[arg-type]


def volume(root: Path, hu: np.ndarray) -> None:
    (root / "data").mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(hu.T, np.eye(4)), root / "data" / "bad.nii.gz")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, "27 voxels that are not finite"),
        (np.inf, "27 voxels that are not finite"),
        (1e30, "27 voxels far out of the range of HU, such as 1e.30"),
        (-1e6, "27 voxels far out of the range of HU, such as -1e.06"),
    ],
)
def test_a_volume_with_wild_values_is_refused_by_name(tmp_path: Path, value: float, words: str) -> None:
    hu = smooth_hu(0, (30, 24, 24)).astype(np.float32)
    hu[:3, :3, :3] = value
    volume(tmp_path, hu)
    with pytest.raises(InputError, match=f"'bad.nii.gz' holds {words}"):
        train(tmp_path / "out", tmp_path)


def test_a_volume_that_is_no_ct_is_refused_and_one_that_may_be_none_is_named(tmp_path: Path) -> None:
    unit = (smooth_hu(0, (30, 24, 24)).astype(np.float32) + 1024) / 4096
    volume(tmp_path, unit)
    with pytest.raises(InputError, match=r"'bad.nii.gz' cannot be trained on: The values lie between 0 and 1"):
        train(tmp_path / "out", tmp_path)
    volume(tmp_path, np.abs(smooth_hu(0, (30, 24, 24))).astype(np.float32) + 300)
    lines: list[str] = []
    train(tmp_path / "out", tmp_path, notify=lines.append)
    assert any(line.startswith("bad.nii.gz: 30 x 24 x 24 voxels. No voxel lies below 0") for line in lines)


def test_a_damaged_state_is_noticed_wherever_a_bit_flips(tmp_path: Path, data_root: Path) -> None:
    out = tmp_path / "out"
    assert train(out, data_root, stop_after_s=0.0) is None
    state = out / "state.pt"
    sound = state.read_bytes()
    noticed = 0
    places = range(200, len(sound), len(sound) // 40)
    for place in places:
        content = bytearray(sound)
        content[place] ^= 1
        state.write_bytes(content)
        try:
            train(out, data_root, stop_after_s=0.0)
        except UnreadableError as error:
            assert "remove state.pt" in str(error)
            noticed += 1
        else:
            # Bytes that nothing reads: padding between records.
            assert sound[place] in b"\x00Z"
    assert noticed > len(places) // 2
    for cut in (0, 10, len(sound) // 2, len(sound) - 1):
        state.write_bytes(sound[:cut])
        with pytest.raises(UnreadableError, match="remove state.pt"):
            train(out, data_root)


def test_of_two_trainings_in_one_folder_one_runs(tmp_path: Path, data_root: Path) -> None:
    with run_folder(tmp_path / "out"), pytest.raises(OutputBusyError, match="Another training runs in"):
        train(tmp_path / "out", data_root)
    assert train(tmp_path / "out", data_root) is not None
    assert not list((tmp_path / "out").glob(".*"))


def test_a_folder_that_is_a_file(tmp_path: Path, data_root: Path) -> None:
    (tmp_path / "out").write_text("mine")
    for out in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(OutputError, match="choose another"):
            train(out, data_root)
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_its_step_and_continues_to_the_same_end(
    tmp_path: Path, data_root: Path, number: signal.Signals
) -> None:
    def interrupt(line: LogLine) -> None:
        if line.step == 1:
            signal.raise_signal(number)

    before = signal.getsignal(number)
    whole = train(tmp_path / "whole", data_root)
    lines: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cut", data_root, report=interrupt, notify=lines.append)
    assert signal.getsignal(number) is before
    assert lines[-1].startswith("interrupted: the step is finished and the state saved")
    cut = train(tmp_path / "cut", data_root, notify=lines.append)
    assert any("continues after step 1 of 6" in line for line in lines)
    assert whole is not None and cut is not None
    a, b = checkpoint.load(whole).state_dict(), checkpoint.load(cut).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_the_run_is_described_before_its_first_step_and_that_step_is_reported(tmp_path: Path, data_root: Path) -> None:
    heard: list[str] = []
    train(tmp_path / "out", data_root, notify=heard.append, report=lambda line: heard.append(f"step {line.step}"))
    assert heard[0].startswith("small: thinnet, ") and heard[0].endswith("cpu, step 0 of 6")
    assert heard[1] == "smooth.nii.gz: 40 x 32 x 32 voxels"
    assert heard[3:] == ["step 1", "step 6"]
