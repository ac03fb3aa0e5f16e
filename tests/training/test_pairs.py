"""Training on pairs: crops, validation, best weights, early stop, stages, and faults in the data."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from support.pair_factory import write_pair
from thinslice.data.cache import CachedPair, cached_pairs
from thinslice.data.crops import CropSampler, MixedSampler, PairSampler
from thinslice.data.manifest import open_dataset
from thinslice.errors import GeometryError, InputError, NotEligibleError, ThinsliceError, UnreadableError, UsageError
from thinslice.models import checkpoint
from thinslice.profile import SliceProfile
from thinslice.recipes import CropRecipe, DatasetRecipe, SimulationRecipe, TrainRecipe, overridden
from thinslice.training.fit import LogLine, fit
from thinslice.training.sources import _measured

TINY = {"features": 8, "blocks": 1}
RECIPE = TrainRecipe(
    name="pairs",
    network={"name": "thinnet", "config": TINY},
    dataset={"root": "pairs"},
    crops={"depth": 3, "plane": 16},
    loss={"kind": "l1"},
    optimiser={"steps": 6, "batch": 1, "warmup": 0, "schedule": "constant", "average": 0.0, "learning_rate": 1e-3},
    validation={"every": 2},
    log_every=1,
)


def train(recipe: TrainRecipe, out: Path, root: Path, **options: Any) -> Path | None:
    return fit(recipe, out, data_root=root, device="cpu", **options)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture
def pairs(pairs_root: Path, tmp_path: Path) -> list[CachedPair]:
    return cached_pairs(open_dataset(pairs_root / "pairs").split("train"), tmp_path / "cache")


def sampler(pairs: list[CachedPair], thick: str = "paired", **crops: Any) -> PairSampler:
    return PairSampler(pairs, CropRecipe(depth=3, plane=16, **crops), DatasetRecipe(root="x", thick=thick), seed=4)


def test_crops_lie_where_thick_slices_average_thin_ones(pairs: list[CachedPair]) -> None:
    draw = sampler(pairs, flips=("depth", "height", "width"), transpose=True)
    matrix = SliceProfile.mean(5).matrix(3)[0]
    for step in range(30):
        batch = draw.draw(step, range(2))
        assert batch.thick.shape == (2, 1, 3, 16, 16) and batch.thin.shape == (2, 1, 11, 16, 16)
        middle = np.einsum("z,bczhw->bchw", matrix, batch.thin)
        np.testing.assert_allclose(middle, batch.thick[:, :, 1], atol=1e-3)


def test_every_position_along_z_is_drawn_the_last_one_too() -> None:
    thick = np.arange(6, dtype=np.int16)[:, None, None] * 100 * np.ones((6, 16, 16), dtype=np.int16)
    thin = np.arange(26, dtype=np.int16)[:, None, None] * 20 * np.ones((26, 16, 16), dtype=np.int16)
    draw = sampler([CachedPair("ramp", thick, thin, 5, 1.0, Path())], flips=())
    firsts = {round(float(draw.draw(step, range(1)).thick[0, 0, 0, 0, 0]) * 3072 - 1024) for step in range(40)}
    assert firsts == {0, 100, 200, 300}


def test_each_item_of_a_batch_is_the_same_however_it_is_shared(pairs: list[CachedPair]) -> None:
    draw = sampler(pairs)
    whole = draw.draw(5, range(4))
    for item in range(4):
        np.testing.assert_array_equal(whole.thin[item], draw.draw(5, range(item, item + 1)).thin[0])
    assert not np.array_equal(whole.thin[0], whole.thin[1])
    assert not np.array_equal(whole.thin[0], draw.draw(6, range(1)).thin[0])


@pytest.mark.parametrize("profile", ["mean", "gaussian", "trapezoid", "subsample"])
def test_simulated_thick_slices_follow_their_profile(pairs: list[CachedPair], profile: str) -> None:
    draw = sampler(pairs, thick=profile)
    weights = np.asarray(SliceProfile.named(profile, 5).weights)
    batch = draw.draw(0, range(2))
    reach = len(weights) // 2
    if reach <= 5:
        middle = np.einsum("z,bczhw->bchw", weights, batch.thin[:, :, 5 - reach : 6 + reach])
        np.testing.assert_allclose(middle, batch.thick[:, :, 1], atol=1e-5)
    else:
        assert not np.allclose(batch.thick[:, :, 1], batch.thin[:, :, 5])


def test_crops_larger_than_a_case_are_refused_naming_it(pairs: list[CachedPair]) -> None:
    for crops in ({"plane": 64}, {"depth": 9}):
        with pytest.raises(NotEligibleError, match="CT00000000"):
            PairSampler(pairs, CropRecipe(**crops), DatasetRecipe(root="x"), seed=0)


def test_best_and_last_weights_logs_and_pictures_are_kept(tmp_path: Path, pairs_root: Path) -> None:
    lines: list[LogLine] = []
    weights = train(RECIPE, tmp_path, pairs_root, report=lines.append)
    assert weights == tmp_path / "pairs.safetensors"
    validations = rows(tmp_path / "validation.csv")
    assert [row["step"] for row in validations] == ["2", "4", "6"]
    best = max(validations, key=lambda row: float(row["psnr"]))
    card = checkpoint.inspect(weights).card
    assert card["steps"] == int(best["step"])
    assert card["validation"]["psnr"] == pytest.approx(float(best["psnr"]), abs=1e-3)
    assert card["validation"]["cases"] == 2
    assert checkpoint.inspect(tmp_path / "last.safetensors").card["steps"] == 6
    assert [row["step"] for row in rows(tmp_path / "log.csv")] == ["1", "2", "3", "4", "5", "6"]
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 3
    assert list((tmp_path / "tensorboard").glob("events.*"))
    assert sum(line.psnr is not None for line in lines) == 3


def test_a_run_cut_at_every_step_equals_one_that_was_not(tmp_path: Path, pairs_root: Path) -> None:
    recipe = overridden(
        RECIPE,
        {
            "network": {
                "name": "tvsrn",
                "config": {
                    "depth": 3,
                    "features": 2,
                    "heads": 2,
                    "drop_rate": 0.3,
                    "encoder_blocks": 1,
                    "through_plane_blocks": 1,
                    "decoder_groups": 1,
                },
            },
            "optimiser.schedule": "plateau",
            "optimiser.plateau_patience": 0,
            "optimiser.learning_rate": 1e-2,
            "validation": {"every": 3, "cases": 1, "pictures": False},
            "log_every": 4,
        },
    )
    whole = train(recipe, tmp_path / "whole", pairs_root)
    cut = None
    for _ in range(6):
        cut = train(recipe, tmp_path / "cut", pairs_root, stop_after_s=0.0)
    assert whole is not None and cut is not None
    for name in ("pairs.safetensors", "last.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    for name in ("log.csv", "validation.csv"):
        kept = [[(k, v) for k, v in row.items() if k != "seconds_left"] for row in rows(tmp_path / "whole" / name)]
        again = [[(k, v) for k, v in row.items() if k != "seconds_left"] for row in rows(tmp_path / "cut" / name)]
        assert kept == again


def test_training_stops_early_when_validation_does_not_improve(tmp_path: Path, pairs_root: Path) -> None:
    recipe = overridden(
        RECIPE,
        {"optimiser.learning_rate": 1e-12, "optimiser.steps": 40, "validation.patience": 2, "validation.every": 1},
    )
    weights = train(recipe, tmp_path, pairs_root)
    assert weights is not None
    steps = len(rows(tmp_path / "validation.csv"))
    assert steps < 40
    # Started again, a finished run does nothing.
    before = weights.read_bytes()
    assert train(recipe, tmp_path, pairs_root) == weights and weights.read_bytes() == before
    assert len(rows(tmp_path / "validation.csv")) == steps


def test_stages_move_their_own_parameters_alone(tmp_path: Path, pairs_root: Path) -> None:
    recipe = overridden(
        RECIPE,
        {
            "network": {"name": "saint", "config": {}},
            "crops.plane": 16,
            "validation.pictures": False,
            "validation.cases": 1,
            "validation.every": 100,
            "validation.plane": 16,
            "stages": [
                {"name": "views", "trainable": ["through_plane."], "objective": "views", "steps": 2},
                {"name": "fusion", "trainable": ["fusion."], "steps": 2},
            ],
        },
    )
    weights = train(recipe, tmp_path, pairs_root)
    assert weights == tmp_path / "pairs.safetensors"
    first = checkpoint.load(tmp_path / "views" / "pairs-views.safetensors").state_dict()
    last = checkpoint.load(weights).state_dict()
    moved = {name for name in first if not np.array_equal(first[name], last[name])}
    assert moved and all(name.startswith("fusion.") for name in moved)


def test_faults_in_the_data_name_the_case(tmp_path: Path, pairs_root: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(pairs_root / "pairs", root / "pairs", ignore=shutil.ignore_patterns(".thinslice-cache"))
    thin = root / "pairs" / "train" / "1mm" / "CT00000001.nii.gz"
    good = thin.read_bytes()
    for spoil in (_truncate, _nan, _shift):
        thin.write_bytes(good)
        spoil(thin)
        with pytest.raises(ThinsliceError, match="CT00000001"):
            train(RECIPE, tmp_path / spoil.__name__, root)
    assert issubclass(InputError, ThinsliceError)
    with pytest.raises(UnreadableError, match="nowhere"):
        train(overridden(RECIPE, {"dataset.root": "nowhere"}), tmp_path / "a", root)
    with pytest.raises(UsageError, match="nosuch"):
        train(overridden(RECIPE, {"dataset.split": "nosuch"}), tmp_path / "b", root)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _nan(path: Path) -> None:
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).copy()
    voxels[3, 3, 3] = np.nan
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)


def _shift(path: Path) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.roll(np.asarray(image.dataobj), 4, axis=2), np.eye(4)), path)


def test_write_pair_is_what_the_release_holds(tmp_path: Path) -> None:
    write_pair(tmp_path, "train", 3)
    thick, thin = (nib.load(tmp_path / "train" / d / "CT00000003.nii.gz").get_fdata() for d in ("5mm", "1mm"))
    assert thin.shape[2] == 5 * (thick.shape[2] - 1) + 1
    np.testing.assert_allclose(thick[:, :, 2], thin[:, :, 8:13].mean(axis=2), atol=1e-6)


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path: Path, pairs_root: Path) -> None:
    plain = {"optimiser.batch": 4, "optimiser.method": "adam", "dataset.validation": None, "optimiser.steps": 3}
    curves = []
    for micro in (4, 1):
        out = tmp_path / str(micro)
        train(overridden(RECIPE, {**plain, "optimiser.micro_batch": micro}), out, pairs_root)
        curves.append([float(row["loss"]) for row in rows(out / "log.csv")])
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)
    assert len(set(curves[0])) == 3


def test_mixed_precision_trains_and_keeps_full_precision_weights(tmp_path: Path, pairs_root: Path) -> None:
    recipe = overridden(RECIPE, {"precision": "bf16-mixed", "validation.cases": 1, "validation.pictures": False})
    weights = train(recipe, tmp_path, pairs_root)
    assert weights is not None
    assert {str(t.dtype) for t in checkpoint.load(weights).state_dict().values() if t.is_floating_point()} == {
        "torch.float32"
    }
    exact = train(overridden(recipe, {"precision": "32-true"}), tmp_path / "exact", pairs_root)
    assert exact is not None and exact.read_bytes() != weights.read_bytes()
    curves = [[float(row["loss"]) for row in rows(out / "log.csv")] for out in (tmp_path, tmp_path / "exact")]
    assert curves[0] == pytest.approx(curves[1], rel=0.02)


def test_large_gradients_are_clipped(tmp_path: Path, pairs_root: Path) -> None:
    loose = overridden(RECIPE, {"optimiser.clip_norm": 0.0, "dataset.validation": None, "optimiser.steps": 1})
    tight = overridden(loose, {"optimiser.clip_norm": 1e-4})
    norms = []
    for recipe, name in ((loose, "loose"), (tight, "tight")):
        assert train(recipe, tmp_path / name, pairs_root) is not None
        state = torch.load(tmp_path / name / "state.pt", weights_only=True)
        moments = [entry["exp_avg_sq"].sum() for entry in state["optimiser"]["state"].values()]
        # After one step the second moment is (1 - 0.999) times the squared gradient.
        norms.append(float(torch.stack(moments).sum() / 1e-3) ** 0.5)
    assert norms[0] > 2e-4
    assert norms[1] == pytest.approx(1e-4, rel=3e-3)


def test_some_steps_take_simulated_crops_of_the_pairs_always_the_same(pairs: list[CachedPair]) -> None:
    recipe = SimulationRecipe(depth=2, plane=16, factors=(3,), box_width_share=0.0, least_body=0.0)
    simulated = CropSampler([pair.volumes()[1] for pair in pairs], recipe, seed=4)
    mixed = MixedSampler(sampler(pairs), simulated, 0.3, seed=4)
    factors = [mixed.draw(step, range(1)).factor for step in range(100)]
    assert 15 < factors.count(3) < 45 and factors.count(3) + factors.count(5) == 100
    assert factors == [mixed.draw(step, range(1)).factor for step in range(100)]
    np.testing.assert_array_equal(
        mixed.draw(factors.index(5), range(1)).thin, sampler(pairs).draw(factors.index(5), range(1)).thin
    )


def test_an_empty_name_of_the_validation_split_means_none(tmp_path: Path, pairs_root: Path) -> None:
    recipe = overridden(RECIPE, {"dataset.validation": "", "optimiser.steps": 2})
    assert not recipe.validates
    weights = train(recipe, tmp_path, pairs_root)
    assert weights is not None and "validation" not in checkpoint.inspect(weights).card


def test_a_missing_validation_split_is_named_with_a_way_on(tmp_path: Path, pairs_root: Path) -> None:
    with pytest.raises(UsageError, match=r"no split 'dev' to validate on, only train, val; .*dataset.validation="):
        train(overridden(RECIPE, {"dataset.validation": "dev"}), tmp_path, pairs_root)


def test_a_missing_training_split_is_named_with_a_way_on(tmp_path: Path, pairs_root: Path) -> None:
    with pytest.raises(UsageError, match=r"no split 'mine' to train on, only train, val; name one in dataset.split"):
        train(overridden(RECIPE, {"dataset.split": "mine"}), tmp_path, pairs_root)


def test_pairs_of_two_protocols_are_named(pairs: list[CachedPair]) -> None:
    with pytest.raises(GeometryError, match=r"CT00000000 and odd are of two protocols: .*5 mm apart and 10 mm thick"):
        _measured([*pairs, replace(pairs[0], case_id="odd", relative_thickness=2.0, thickness_mm=10.0)], None)


def test_pairs_too_short_for_a_slice_profile_name_a_way_on(pairs: list[CachedPair]) -> None:
    short = replace(pairs[0], thick=pairs[0].thick[:4], thin=pairs[0].thin[:16])
    with pytest.raises(GeometryError, match=r"cannot be measured. Only 0 thick slices .*dataset.profile=header"):
        _measured([short], None)


def test_a_pair_of_two_kernels_is_remarked(pairs: list[CachedPair]) -> None:
    lines: list[str] = []
    noise = np.random.default_rng(0).normal(0, 60, pairs[0].thick.shape).astype(np.float32)
    _measured(pairs, lines.append)
    assert len(lines) == 1 and "slice profile of the pairs" in lines[0]
    _measured([replace(pair, thick=pair.thick + noise) for pair in pairs], lines.append)
    assert len(lines) == 3 and "different kernels" in lines[2]
