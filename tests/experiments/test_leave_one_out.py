"""Few pairs: each patient is left out of one training, the scores and a calibration are in the card of the last one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import thinslice
from support.pair_factory import smooth_hu, write_pair
from thinslice import Geometry, Volume
from thinslice.data.simulate import simulate_thick
from thinslice.errors import UsageError
from thinslice.experiments.leave_one_out import RESULTS, LeftOut, table, train_leaving_out
from thinslice.models import catalog, checkpoint
from thinslice.profile import SliceProfile
from thinslice.recipes import TrainRecipe, overridden
from thinslice.training.export import PROFILE_FILE
from thinslice.training.fit import fit

TRUE_PROFILE = SliceProfile.trapezoid(4, width=1.2, ramp=0.8)

RECIPE = TrainRecipe(
    name="mine",
    network={"name": "thinnet"},
    dataset={"root": ".", "validation": "", "profile": "measured", "simulated_share": 0.5},
    crops={"depth": 4, "plane": 16},
    simulation={"depth": 3, "plane": 16, "factors": [2, 4]},
    optimiser={"steps": 4, "batch": 1, "warmup": 0, "average": 0.0, "learning_rate": 1e-4},
)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network with a head for standard deviations."""
    torch.manual_seed(0)
    network = catalog.build("thinnet", features=8, blocks=1, deviation=True)
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    checkpoint.save(network, path, architecture="thinnet", card={"name": "start", "widest_slice": 4.0})
    return path


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients of a scanner whose slices are wider than their header says."""
    root = tmp_path_factory.mktemp("pairs")
    lines = ["thick,thin,split,patient"]
    for number in range(3):
        hu = smooth_hu(number, (60, 32, 36)).round().astype("int16")
        thick, thin = simulate_thick(Volume(hu, Geometry(hu.shape, (1.25, 0.7, 0.7))), TRUE_PROFILE, whole_hu=True)
        grid = Geometry(thick.geometry.shape, thick.geometry.spacing_mm, thin.geometry.origin_mm, thickness_mm=5.0)
        thinslice.write(Volume(thick.hu, grid), root / f"thick-{number}.nii.gz")
        thinslice.write(thin, root / f"thin-{number}.nii.gz")
        lines.append(f"thick-{number}.nii.gz,thin-{number}.nii.gz,train,p{number}")
    (root / "manifest.csv").write_text("\n".join(lines))
    return root


def test_every_patient_is_scored_by_a_network_that_was_not_trained_on_him(
    pairs: Path, start: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    recipe = overridden(RECIPE, {"start": str(start)})
    options = {"data_root": pairs, "device": "cpu", "threads": 1}
    weights, left_out = train_leaving_out(recipe, tmp_path / "run", leave_out=5, **options, notify=lines.append)
    assert [row.cases for row in left_out] == [("thin-0",), ("thin-1",), ("thin-2",)]
    for number in (1, 2, 3):
        card = checkpoint.inspect(tmp_path / "run" / f"without-{number}" / "mine.safetensors").card
        assert card["recipe"]["dataset"]["without"] == [f"p{number - 1}"]
    assert lines.count("train: 2 pairs of 2 patients") == 3 and lines.count("train: 3 pairs of 3 patients") == 1

    card = checkpoint.inspect(weights).card
    assert card["recipe"]["dataset"]["without"] == [] and card["widest_slice"] == 4.0
    assert card["leave_one_out"] == json.loads((tmp_path / "run" / RESULTS).read_text())
    assert [row["trained"] for row in card["leave_one_out"]["patients"]] == [round(row.trained, 4) for row in left_out]
    assert len(card["deviation"]["calibration"]["cases"]) == 3
    # The start is consistent with the profile that it gets, so the measured one scores better than the header's box.
    assert all((row.start_with_profile or 0) > (row.start or 99) + 0.05 for row in left_out)

    again, same = train_leaving_out(recipe, tmp_path / "run", leave_out=5, **options)
    assert (again, same) == (weights, left_out)


def test_the_profile_of_the_pairs_is_used_on_scans_of_their_protocol_and_no_other(
    pairs: Path, start: Path, tmp_path: Path
) -> None:
    weights = fit(overridden(RECIPE, {"start": str(start)}), tmp_path / "run", data_root=pairs, device="cpu")
    assert weights is not None
    thick = thinslice.read(pairs / "thick-0.nii.gz")
    thick = Volume(thick.hu, Geometry(thick.hu.shape, thick.geometry.spacing_mm, thickness_mm=5.0))
    stream = thinslice.upscale_slabs(thick, model=weights, factor=4)
    assert stream.prepared.profile.name == "measured"
    assert stream.prepared.profile.width == pytest.approx(TRUE_PROFILE.width, rel=0.06)
    assert any("slice profile that mine was trained with" in line for line in stream.prepared.warnings)
    of_file = thinslice.upscale_slabs(thick, model=weights, factor=4, profile=tmp_path / "run" / PROFILE_FILE)
    assert of_file.prepared.profile == stream.prepared.profile

    simulated, _ = simulate_thick(thinslice.read(pairs / "thin-0.nii.gz"), SliceProfile.mean(4))
    assert thinslice.upscale_slabs(simulated, model=weights, factor=4).prepared.profile == SliceProfile.mean(4)
    other = Volume(thick.hu, Geometry(thick.hu.shape, (3.0, 0.7, 0.7), thickness_mm=3.0))
    elsewhere = thinslice.upscale_slabs(other, model=weights, factor=4).prepared
    assert elsewhere.profile == SliceProfile.mean(4)
    assert any("5 mm apart" in line and "not used" in line for line in elsewhere.warnings)


def test_one_patient_cannot_be_left_out_and_the_message_names_a_way_on(tmp_path: Path) -> None:
    write_pair(tmp_path, "train", 0)
    with pytest.raises(UsageError, match="1 patient, and leaving one out needs two; add pairs"):
        train_leaving_out(RECIPE, tmp_path / "run", leave_out=3, data_root=tmp_path, device="cpu")
    thin = overridden(RECIPE, {"dataset": None, "data": ["x"]})
    with pytest.raises(UsageError, match="thin volumes alone"):
        train_leaving_out(thin, tmp_path / "run", leave_out=3, data_root=tmp_path, device="cpu")


def test_a_training_that_does_not_pay_is_said_to_be_one() -> None:
    assert "does not pay" in table([LeftOut(("a",), 30.0, 31.0, 31.5, 31.25)])[-1]


def test_kept_weights_lie_between_start_and_end_and_an_interruption_changes_nothing(
    pairs: Path, start: Path, tmp_path: Path
) -> None:
    recipe = overridden(RECIPE, {"start": str(start), "optimiser.start_share": 0.75})
    options = {"data_root": pairs, "device": "cpu", "threads": 1}
    whole = fit(recipe, tmp_path / "whole", **options)
    for _ in range(4):
        cut = fit(recipe, tmp_path / "cut", **options, stop_after_s=0.0)
    assert whole is not None and cut is not None
    ends = fit(overridden(recipe, {"optimiser.start_share": 0.0}), tmp_path / "ends", **options)
    assert ends is not None
    before, kept, again, after = (checkpoint.load(path).state_dict() for path in (start, whole, cut, ends))
    for name, tensor in kept.items():
        torch.testing.assert_close(tensor, 0.75 * before[name] + 0.25 * after[name])
        assert torch.equal(tensor, again[name])
    assert any(not torch.equal(before[name], tensor) for name, tensor in after.items())
