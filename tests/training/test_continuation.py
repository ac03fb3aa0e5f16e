"""A run that goes on under a changed recipe: lengthened, with harmless changes, or refused by naming what differs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch

from support.pair_factory import small_recipe
from thinslice.errors import ResourceError, ShapeError, UsageError
from thinslice.models import catalog, checkpoint
from thinslice.models.base import ThroughPlaneModel
from thinslice.profile import SliceProfile
from thinslice.recipes import TrainRecipe, overridden, read_train_recipe
from thinslice.training import step_memory
from thinslice.training.fit import fit
from thinslice.training.objective import Conditions, ObjectiveModule


@pytest.fixture
def recipe(tmp_path: Path) -> TrainRecipe:
    return TrainRecipe(
        name="small",
        network={"name": "thinnet", "config": {"features": 8, "blocks": 1}},
        dataset={"root": "pairs"},
        crops={"depth": 3, "plane": 16},
        optimiser={"steps": 2, "batch": 2, "micro_batch": 1, "warmup": 0, "schedule": "constant"},
        validation={"every": 2, "cases": 1, "pictures": False},
    )


def train(recipe: TrainRecipe, out: Path, root: Path, **values: Any) -> dict[str, torch.Tensor]:
    changed = overridden(recipe, {name.replace("__", "."): value for name, value in values.items()})
    weights = fit(changed, out, data_root=root, device="cpu")
    assert weights is not None
    return dict(checkpoint.load(out / "last.safetensors").state_dict())


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=tolerance, rtol=0)


def test_a_lengthened_run_of_constant_rate_equals_a_long_one(
    recipe: TrainRecipe, tmp_path: Path, pairs_root: Path
) -> None:
    train(recipe, tmp_path / "short", pairs_root)
    lengthened = train(recipe, tmp_path / "short", pairs_root, optimiser__steps=5)
    assert_same(lengthened, train(recipe, tmp_path / "long", pairs_root, optimiser__steps=5))
    card = checkpoint.inspect(tmp_path / "short" / "last.safetensors").card
    assert card["steps"] == 5 and card["recipe"]["optimiser"]["steps"] == 5
    assert card["lengthened"] == [{"from_step": 0, "steps": 2}, {"from_step": 2, "steps": 5}]
    assert "lengthened" not in checkpoint.inspect(tmp_path / "long" / "last.safetensors").card


def test_a_lengthened_cosine_trains_on_and_steps_are_never_taken_back(
    recipe: TrainRecipe, tmp_path: Path, pairs_root: Path
) -> None:
    before = train(recipe, tmp_path / "run", pairs_root, optimiser__schedule="cosine")
    after = train(recipe, tmp_path / "run", pairs_root, optimiser__schedule="cosine", optimiser__steps=4)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    rates = [line.split(",")[2] for line in (tmp_path / "run" / "log.csv").read_text().splitlines()[1:]]
    assert all(float(rate) > 0 for rate in rates)
    with pytest.raises(UsageError, match=r"has done 4 steps, more than optimiser.steps = 3, which can only be raised"):
        train(recipe, tmp_path / "run", pairs_root, optimiser__schedule="cosine", optimiser__steps=3)


def test_values_that_change_no_weight_are_no_other_run(recipe: TrainRecipe, tmp_path: Path, pairs_root: Path) -> None:
    before = train(recipe, tmp_path / "run", pairs_root)
    moved = tmp_path / "moved"
    shutil.copytree(pairs_root / "pairs", moved / "elsewhere")
    harmless = {"validation.pictures": True, "validation.patience": 3, "log_every": 1, "save_every_s": 1.0}
    changed = overridden(recipe, {**harmless, "validation.every": 1, "dataset.root": "elsewhere"})
    assert_same(train(changed, tmp_path / "run", moved), before)
    # Two crops a pass, or one after the other: the same gradient to rounding, where nothing is drawn in a pass.
    train(changed, tmp_path / "run", moved, optimiser__micro_batch=2, optimiser__steps=3)


def test_the_number_of_crops_in_a_pass_counts_where_a_pass_draws(tmp_path: Path, pairs_root: Path) -> None:
    path = tmp_path / "small.toml"
    path.write_text(small_recipe(steps=1, every=1))
    drawing = overridden(read_train_recipe(path), {"dataset.validation": ""})
    train(drawing, tmp_path / "run", pairs_root)
    with pytest.raises(UsageError, match=r"optimiser.micro_batch 1 there and 2 now"):
        train(drawing, tmp_path / "run", pairs_root, optimiser__micro_batch=2)


def test_another_recipe_is_refused_by_the_values_that_differ(
    recipe: TrainRecipe, tmp_path: Path, pairs_root: Path
) -> None:
    train(recipe, tmp_path / "run", pairs_root)
    with pytest.raises(UsageError, match=r"seed 0 there and 4 now, .*rate 0.001 there and 0.01 now|rate .*, seed"):
        train(recipe, tmp_path / "run", pairs_root, seed=4, optimiser__learning_rate=0.01)


def test_more_patience_goes_on_after_an_early_end(recipe: TrainRecipe, tmp_path: Path, pairs_root: Path) -> None:
    # A rate that is too small to change a score: the second validation is no better than the first.
    values = {
        "optimiser__learning_rate": 1e-30,
        "optimiser__average": 0.0,
        "optimiser__steps": 6,
        "validation__every": 1,
    }
    train(recipe, tmp_path / "run", pairs_root, **values, validation__patience=1)
    assert checkpoint.inspect(tmp_path / "run" / "last.safetensors").card["steps"] == 2
    train(recipe, tmp_path / "run", pairs_root, **values, validation__patience=30)
    assert checkpoint.inspect(tmp_path / "run" / "last.safetensors").card["steps"] == 6


def test_the_card_names_the_training_data_by_voxels_alone_and_other_data_are_refused(
    recipe: TrainRecipe, tmp_path: Path, pairs_root: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(pairs_root / "pairs", root / "pairs")
    train(recipe, tmp_path / "run", root)
    record = checkpoint.inspect(tmp_path / "run" / "small.safetensors").card["training_data"]
    assert len(set(record["cases"])) == 3 and "CT0000" not in str(record)
    # Stored otherwise, the voxels are the same.
    for path in root.rglob("*.nii.gz"):
        image = nibabel.load(path)
        nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), np.eye(4)), path.with_suffix(""))
        path.unlink()
    train(recipe, tmp_path / "run", root, optimiser__steps=3)
    assert checkpoint.inspect(tmp_path / "run" / "small.safetensors").card["training_data"] == record
    for path in (root / "pairs" / "train").glob("*/CT00000001.nii"):
        image = nibabel.load(path)
        nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj) * 0.5, np.eye(4)), path)
    with pytest.raises(UsageError, match="training data differ .* case CT00000001 has other voxels"):
        train(recipe, tmp_path / "run", root, optimiser__steps=4)


def test_a_stage_that_was_lengthened_does_not_leave_the_next_one_as_it_was(tmp_path: Path, data_root: Path) -> None:
    recipe = TrainRecipe(
        name="staged",
        network={"name": "thinnet", "config": {"features": 8, "blocks": 1}},
        data=("data",),
        simulation={"factors": [3], "depth": 4, "plane": 16, "least_body": 0},
        optimiser={"batch": 1, "warmup": 0, "average": 0.0},
        stages=({"name": "one", "steps": 2}, {"name": "two", "steps": 2}),
    )
    weights = fit(recipe, tmp_path / "run", data_root=data_root, device="cpu")
    assert weights is not None
    digests = checkpoint.inspect(weights).card["training_data"]["cases"]
    assert digests == checkpoint.inspect(tmp_path / "run" / "two" / "last.safetensors").card["training_data"]["cases"]
    longer = overridden(recipe, {"stages.1.steps": 3})
    fit(longer, tmp_path / "run", data_root=data_root, device="cpu")
    with pytest.raises(UsageError, match="began with other weights; remove the folder"):
        fit(overridden(longer, {"stages.0.steps": 3}), tmp_path / "run", data_root=data_root, device="cpu")


def test_layouts_without_splits_say_how_to_train_on_them(recipe: TrainRecipe, tmp_path: Path, pairs_root: Path) -> None:
    shutil.copytree(pairs_root / "pairs" / "train", tmp_path / "pairs")
    with pytest.raises(UsageError, match=r"dataset.split = 'all' and dataset.validation = \"\""):
        train(recipe, tmp_path / "run", tmp_path)
    train(recipe, tmp_path / "run", tmp_path, dataset__split="all", dataset__validation="")
    assert not (tmp_path / "run" / "best.safetensors").exists()


def test_a_loss_that_leaves_no_slice_of_pairs_is_refused(recipe: TrainRecipe, tmp_path: Path, pairs_root: Path) -> None:
    with pytest.raises(UsageError, match=r"loss.trim of 6 leaves no slice of a crop of 11 .* at most 5"):
        train(recipe, tmp_path / "run", pairs_root, loss__trim=6)
    train(recipe, tmp_path / "run", pairs_root, loss__trim=5)


def test_noise_on_paired_slices_is_no_silent_wish(recipe: TrainRecipe) -> None:
    with pytest.raises(UsageError, match="dataset.noise_hu"):
        overridden(recipe, {"dataset.noise_hu": 10.0})
    assert overridden(recipe, {"dataset.noise_hu": 10.0, "dataset.thick": "mean"}).dataset is not None


def test_float16_on_a_cpu_and_devices_that_do_not_exist_are_usage_errors(
    recipe: TrainRecipe, tmp_path: Path, pairs_root: Path
) -> None:
    with pytest.raises(UsageError, match="'16-mixed' .* needs a GPU"):
        train(recipe, tmp_path / "run", pairs_root, precision="16-mixed")
    for device in ("cpu:3", "gpu"):
        with pytest.raises(UsageError, match=f"no device named '{device}'"):
            fit(recipe, tmp_path / "run", data_root=pairs_root, device=device)


def test_start_is_found_beside_the_recipe(
    recipe: TrainRecipe, tmp_path: Path, pairs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(recipe, tmp_path / "first", pairs_root)
    (tmp_path / "recipes").mkdir()
    shutil.copy(tmp_path / "first" / "small.safetensors", tmp_path / "recipes" / "begin.safetensors")
    monkeypatch.chdir(tmp_path)
    further = overridden(recipe, {"start": "begin.safetensors"})
    with pytest.raises(UsageError, match="'begin.safetensors', is neither"):
        fit(further, tmp_path / "second", data_root=pairs_root, device="cpu")
    weights = fit(further, tmp_path / "second", data_root=pairs_root, device="cpu", places=[tmp_path / "recipes"])
    assert weights is not None
    assert checkpoint.inspect(weights).card["start"]["name"] == "small"


def test_without_tensorboard_the_curves_are_in_the_tables(
    recipe: TrainRecipe, tmp_path: Path, pairs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    lines: list[str] = []
    fit(recipe, tmp_path / "run", data_root=pairs_root, device="cpu", notify=lines.append)
    assert any("TensorBoard is not installed" in line for line in lines)
    assert len((tmp_path / "run" / "log.csv").read_text().splitlines()) == 2


def test_what_an_earlier_run_drew_does_not_stand_among_the_curves_of_the_next(
    recipe: TrainRecipe, tmp_path: Path, pairs_root: Path
) -> None:
    train(recipe, tmp_path / "run", pairs_root, validation__pictures=True)
    before = {file.name for file in (tmp_path / "run" / "tensorboard").iterdir()}
    assert before and list((tmp_path / "run" / "pictures").iterdir())
    (tmp_path / "run" / "state.pt").unlink()
    train(recipe, tmp_path / "run", pairs_root, seed=9)
    assert not before & {file.name for file in (tmp_path / "run" / "tensorboard").iterdir()}
    assert not list((tmp_path / "run" / "pictures").iterdir())
    assert len((tmp_path / "run" / "validation.csv").read_text().splitlines()) == 2


class Flat(ThroughPlaneModel):
    """A plug-in that forgets to make thin slices."""

    def forward(self, x: torch.Tensor, *, factor: int | None = None, profile: SliceProfile | None = None) -> Any:
        return x


def test_a_plugin_of_the_wrong_shape_is_named(tmp_path: Path) -> None:
    module = ObjectiveModule(Flat(), "output", TrainRecipe(name="x", network={"name": "x"}, data=("x",)).loss)
    thin = torch.zeros(1, 1, 6, 8, 8)
    with pytest.raises(ShapeError, match=r"The network Flat returns \(1, 1, 2, 8, 8\) for crops of"):
        module(torch.zeros(1, 1, 2, 8, 8), thin, torch.ones_like(thin), Conditions(5, SliceProfile.mean(5)))


def test_the_memory_of_a_step_is_estimated_from_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_memory, "ENOUGH_BYTES", 32 << 20)
    network = catalog.build("thinnet", features=8, blocks=1).train()
    recipe = TrainRecipe(name="x", network={"name": "thinnet"}, data=("x",))
    module = ObjectiveModule(network, "output", recipe.loss)
    device = torch.device("cpu")
    assert step_memory.estimate_step_bytes(module, device, (1, 4, 64), 5) is None  # too small to matter
    small, large = (step_memory.estimate_step_bytes(module, device, (crops, 4, 256), 5) for crops in (1, 4))
    if small is None or large is None:
        pytest.skip("the peak of memory: the system does not report it")
    # Two volumes of 8 features at least; four crops take about four times as much as one.
    assert small > 2 * 4 * 8 * 4 * 256**2
    assert 2 * small < large < 8 * small
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_step_that_does_not_fit_is_refused_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_memory, "available_memory_bytes", lambda: 8 << 30)
    assert "needs about 2.0 GiB of memory; 8.0 GiB are free" in step_memory.require_step(2 << 30, torch.device("cpu"))
    with pytest.raises(ResourceError, match=r"needs about 18.0 GiB of memory, and 8.0 GiB are free; lower"):
        step_memory.require_step(18 << 30, torch.device("cpu"))
