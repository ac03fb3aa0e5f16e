"""Training the head for the standard deviation: the network stays, the head learns where errors are large."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import thinslice
from support.pair_factory import smooth_hu
from thinslice import Geometry, Volume
from thinslice.errors import CheckpointError, UsageError
from thinslice.models import catalog, checkpoint
from thinslice.profile import SliceProfile
from thinslice.recipes import LossRecipe, OptimiserRecipe, SimulationRecipe, TrainRecipe, read_train_recipe
from thinslice.system.files import sha256_of
from thinslice.training.fit import export_state, fit
from thinslice.training.objective import Conditions, ObjectiveModule, surprise

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights without a head."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("body") / "body.safetensors"
    model = catalog.build("thinnet", features=8, blocks=1)
    checkpoint.save(
        model, path, architecture="thinnet", card={"name": "body", "version": "4", "scores": {"psnr": 38.0}}
    )
    return path


def recipe_for(start: Path, **optimiser: object) -> TrainRecipe:
    return TrainRecipe(
        name="small",
        network={"name": "thinnet", "config": {"deviation": True}},
        data=("data",),
        start=str(start),
        trainable=("deviation.",),
        objective="deviation",
        simulation=SimulationRecipe(factors=(3, 4), depth=4, plane=16, least_body=0),
        optimiser=OptimiserRecipe(**{"steps": 8, "batch": 2, "warmup": 2, "average": 0.9, **optimiser}),
        log_every=4,
    )


def test_the_network_stays_bit_for_bit_and_the_card_stays_its_own(tmp_path: Path, data_root: Path, body: Path) -> None:
    recipe = recipe_for(body)
    weights = fit(recipe, tmp_path, data_root=data_root, device="cpu")
    assert weights is not None
    before, after = checkpoint.load(body).state_dict(), checkpoint.load(weights).state_dict()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    added = {name for name in after if name not in before}
    assert added and all(name.startswith("deviation.") for name in added)
    info = checkpoint.inspect(weights)
    assert info.config == {**checkpoint.inspect(body).config, "deviation": True}
    assert info.card["scores"] == {"psnr": 38.0} and (info.card["name"], info.card["version"]) == ("body", "4")
    card = info.card["deviation"]
    assert (card["recipe_sha256"], card["steps"]) == (recipe.digest, 8)
    assert card["start"] == {"name": "body", "sha256": sha256_of(body)}


def test_a_run_cut_short_and_continued_equals_one_that_was_not(tmp_path: Path, data_root: Path, body: Path) -> None:
    recipe = recipe_for(body)
    whole = fit(recipe, tmp_path / "whole", data_root=data_root, device="cpu")
    assert fit(recipe, tmp_path / "cut", data_root=data_root, device="cpu", stop_after_s=0.0) is None
    assert checkpoint.inspect(export_state(recipe, tmp_path / "cut")).card["deviation"]["steps"] == 1
    cut = fit(recipe, tmp_path / "cut", data_root=data_root, device="cpu")
    assert whole is not None and cut is not None
    a, b = checkpoint.load(whole).state_dict(), checkpoint.load(cut).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_is_bound_to_the_weights_it_started_from(tmp_path: Path, data_root: Path, body: Path) -> None:
    start = tmp_path / "start.safetensors"
    start.write_bytes(body.read_bytes())
    recipe = recipe_for(start)
    fit(recipe, tmp_path / "run", data_root=data_root, device="cpu", stop_after_s=0.0)
    torch.manual_seed(1)
    checkpoint.save(catalog.build("thinnet", features=8, blocks=1), start, architecture="thinnet", card={})
    with pytest.raises(UsageError, match="began with other weights"):
        fit(recipe, tmp_path / "run", data_root=data_root, device="cpu")


def test_what_may_be_missing_is_what_is_trained_by_name(tmp_path: Path, data_root: Path, body: Path) -> None:
    everything = recipe_for(body).model_copy(update={"trainable": ("",)})
    with pytest.raises(CheckpointError, match="missing"):
        fit(everything, tmp_path, data_root=data_root, device="cpu")
    with pytest.raises(UsageError, match="is neither a network with weights nor a weights file"):
        fit(recipe_for(tmp_path / "absent.safetensors"), tmp_path, data_root=data_root, device="cpu")


def test_it_learns_where_errors_are_large(tmp_path: Path, body: Path) -> None:
    """Stripes too fine for thick slices in the brighter half of the plane, nothing in the other: one can be wrong."""
    hu = smooth_hu(0, (48, 32, 32)).astype(np.float32) * 0.1
    hu[:, :, 16:] += 700.0 + 300.0 * np.sin(2.1 * np.arange(48))[:, None, None]
    (tmp_path / "data").mkdir()
    volume = Volume(hu.astype(np.int16), Geometry(hu.shape, (1.0, 0.7, 0.7)))
    thinslice.write(volume, tmp_path / "data" / "halves.nii.gz")
    recipe = recipe_for(body, steps=150, learning_rate=1e-2, warmup=5)
    recipe = recipe.model_copy(
        update={
            "simulation": recipe.simulation.model_copy(
                update={"plane": 32, "in_plane_share": 0.0, "noise_share": 0.0, "blur_share": 0.0}
            )
        }
    )
    weights = fit(recipe, tmp_path / "run", data_root=tmp_path, device="cpu")
    assert weights is not None
    thick = torch.from_numpy((SliceProfile.mean(4).apply(hu) + 1024.0) / 3072.0)[None, None]
    with torch.inference_mode():
        _, deviation = checkpoint.load(weights).with_deviation(thick, factor=4)
    quiet, striped = deviation[..., :12].mean(), deviation[..., 20:].mean()
    assert striped > 3 * quiet


@pytest.mark.parametrize("kind", ["gaussian", "laplace", "student"])
def test_the_best_deviation_is_that_of_the_errors(kind: str) -> None:
    numbers = np.random.default_rng(0)
    drawn = {
        "gaussian": numbers.normal(size=400_000),
        "laplace": numbers.laplace(scale=np.sqrt(0.5), size=400_000),
        "student": numbers.standard_t(4, size=400_000) / np.sqrt(2.0),
    }[kind]
    error = torch.from_numpy(7.0 * drawn)
    tried = np.geomspace(4.0, 12.0, 41)
    values = [
        float(surprise(error, torch.full_like(error, s), torch.ones_like(error), LossRecipe(deviation=kind)))  # type: ignore[arg-type]
        for s in tried
    ]
    assert tried[int(np.argmin(values))] == pytest.approx(7.0, rel=0.06)


def test_voxels_without_weight_do_not_count_and_the_network_gets_no_gradient() -> None:
    torch.manual_seed(0)
    network = catalog.build("thinnet", features=8, blocks=1, deviation=True)
    module = ObjectiveModule(network, "deviation", LossRecipe())
    thick, thin = torch.rand(1, 1, 3, 8, 8), torch.rand(1, 1, 11, 8, 8)
    weight = torch.ones_like(thin)
    weight[:, :, 4:] = 0
    value = module(thick, thin, weight, Conditions(5, SliceProfile.mean(5)))
    thin[:, :, 4:] += 0.3
    torch.testing.assert_close(module(thick, thin, weight, Conditions(5, SliceProfile.mean(5))), value, atol=0, rtol=0)
    value.backward()
    assert network.head.filters.weight.grad is None
    assert network.deviation.filters.weight.grad.abs().sum() > 0
    with pytest.raises(UsageError, match="deviation"):
        ObjectiveModule(catalog.build("thinnet", features=8, blocks=1), "deviation", LossRecipe())


def test_the_shipped_recipe_trains_the_default_networks_head_on_the_default_crops() -> None:
    recipe, default = (read_train_recipe(RECIPES / f"{name}.toml") for name in ("default-deviation", "default"))
    inserts = {"sown_share", "nodule_share", "shell_share", "metal_share"}
    assert recipe.simulation == default.simulation.model_copy(update=dict.fromkeys(inserts, 0.0))
    assert recipe.data == default.data
    assert (recipe.start, recipe.trainable, recipe.objective) == ("default", ("deviation.",), "deviation")
    assert recipe.network.name == default.network.name


def test_digests_of_recipes_without_new_keys_stay() -> None:
    """Runs and scores of earlier versions are found by their digest."""
    plain = TrainRecipe(name="x", network={"name": "thinnet"}, data=("a",))
    assert plain.digest == "6fffa1291ba44aa83b5e46de60d93c9ee7e72da9a5f3e67c3a6de096d6c02180"
    assert plain.model_copy(update={"start": "default"}).digest != plain.digest
    assert plain.model_copy(update={"trainable": ("head.",)}).digest != plain.digest
    sure = plain.model_copy(update={"objective": "deviation"})
    other = sure.model_copy(update={"loss": LossRecipe(deviation="laplace")})
    assert sure.digest != other.digest
