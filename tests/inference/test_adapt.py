"""Adaptation to a volume: it helps on that volume, repeats itself, and leaves the original network alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

import thinslice
from thinslice.errors import ModelError, NotEligibleError, ShapeError, UsageError
from thinslice.geometry import Geometry
from thinslice.inference.adapt import DegradedAxis, adapt, restoration_loss
from thinslice.inference.upscale import upscale_slabs
from thinslice.models import catalog
from thinslice.models.along_z import z_matrix
from thinslice.models.base import ThroughPlaneModel
from thinslice.models.davsr import DAVSR
from thinslice.planning import ModelWindow
from thinslice.profile import SliceProfile
from thinslice.volume import Volume

SMALL = {"features": 8, "blocks": 1, "layers": 3, "growth": 8, "meta_hidden": (8, 8), "fusion_features": 8}
SMALL_FUSION = {"fusion_blocks": 1, "fusion_layers": 1, "fusion_growth": 4}


def network(seed: int = 0) -> DAVSR:
    torch.manual_seed(seed)
    model = catalog.build("davsr", **SMALL, **SMALL_FUSION)
    assert isinstance(model, DAVSR)
    return model.eval()


def volume(hu: np.ndarray) -> Volume:
    return Volume(hu, Geometry(hu.shape, (5.0, 0.7, 0.7), (0.0, 0.0, 0.0), thickness_mm=5.0))


@pytest.fixture(scope="module")
def tissue() -> Volume:
    noise = np.random.default_rng(0).normal(0.0, 1.0, (5, 72, 80)).astype(np.float32)
    return volume(np.asarray(300.0 * gaussian_filter(noise, (0.5, 2.0, 2.0)) / 0.2, dtype=np.float32))


class Interpolating(ThroughPlaneModel):
    """Interpolates linearly and keeps what it was shown; what it may adapt is one number added to everything."""

    factors = range(2, 9)
    default_factor = 5
    window = ModelWindow()

    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(()))
        self.fixed = nn.Parameter(torch.zeros(()))
        self.shown: list[tuple[str, tuple[int, ...]]] = []

    def adaptable_parameters(self) -> Iterator[nn.Parameter]:
        yield self.offset

    def restore(self, x: torch.Tensor, view: str, *, factor: int) -> torch.Tensor:
        self.shown.append((view, tuple(x.shape)))
        self.last = x
        rows = torch.tensor(z_matrix("linear", x.shape[2], SliceProfile.mean(factor), factor), dtype=x.dtype)
        return torch.einsum("td,bcdhw->bcthw", rows, x) + self.offset

    def forward(self, x: torch.Tensor, *, factor: int | None = None, profile: object = None) -> torch.Tensor:
        return self.restore(x, "sagittal", factor=self.checked_factor(x, factor))


def test_adaptation_lowers_the_loss_it_is_for_and_touches_nothing_else(tissue: Volume) -> None:
    original = network()
    weights = {name: tensor.clone() for name, tensor in original.state_dict().items()}
    hu = tissue.hu.copy()
    before = restoration_loss(original, tissue, factor=5, seed=9)
    adapted = adapt(original, tissue, factor=5, steps=12, learning_rate=3e-3)
    assert restoration_loss(adapted, tissue, factor=5, seed=9) < 0.8 * before
    assert restoration_loss(original, tissue, factor=5, seed=9) == before
    assert all(torch.equal(tensor, weights[name]) for name, tensor in original.state_dict().items())
    assert np.array_equal(tissue.hu, hu)

    changed = {name for name, tensor in adapted.state_dict().items() if not torch.equal(tensor, weights[name])}
    assert changed and all(name.startswith("extractor.") for name in changed)
    assert not adapted.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in adapted.parameters())


def test_adapts_to_a_real_thick_volume(shared: Path) -> None:
    whole = thinslice.read(shared / "ct" / "thick" / "lung_dx_A0001_B_5mm.nii.gz")
    thick = whole.crop((30, 120, 120), (36, 320, 320))
    original = network()
    before = restoration_loss(original, thick, factor=5, seed=9, draws=4)
    adapted = adapt(original, thick, factor=5, steps=12, learning_rate=3e-3)
    assert restoration_loss(adapted, thick, factor=5, seed=9, draws=4) < 0.8 * before


def test_the_same_seed_gives_the_same_weights(tissue: Volume) -> None:
    def run(seed: int) -> torch.Tensor:
        adapted = adapt(network(), tissue, factor=3, steps=2, learning_rate=1e-3, seed=seed)
        return torch.cat([parameter.flatten() for parameter in adapted.parameters()])

    first = run(4)
    torch.rand(7)  # whatever else draws random numbers
    assert torch.equal(first, run(4))
    assert not torch.equal(first, run(5))


@pytest.mark.parametrize("plane", ["x", "y"])
@pytest.mark.parametrize("factor", [2, 5])
def test_degraded_pixels_and_their_truth_lie_on_each_other(plane: DegradedAxis, factor: int) -> None:
    ramp = np.linspace(-300.0, 900.0, 96, dtype=np.float32)
    hu = np.broadcast_to(ramp if plane == "x" else ramp[:, None], (2, 96, 96)).copy()
    # A ramp's averages interpolate back to the ramp, and only where both lie on the same pixels.
    loss = restoration_loss(Interpolating(), volume(hu), factor=factor, plane=plane, draws=2)
    assert loss < 1e-6
    across: DegradedAxis = "y" if plane == "x" else "x"
    assert restoration_loss(Interpolating(), volume(hu), factor=factor, plane=across, draws=2) < 1e-6
    flipped = np.ascontiguousarray(hu[:, ::-1, ::-1])
    assert restoration_loss(Interpolating(), volume(flipped), factor=factor, plane=plane, draws=2) < 1e-6


def test_the_degraded_axis_becomes_depth_and_the_other_one_stays(tissue: Volume) -> None:
    model = Interpolating()
    restoration_loss(model, tissue, factor=5, plane="both", draws=2)
    assert model.shown == [("sagittal", (16, 1, 4, 64, 1)), ("coronal", (16, 1, 4, 1, 64))]
    model.shown.clear()
    model.window = ModelWindow(max_depth=6)
    restoration_loss(model, volume(tissue.hu[:, :20, :50]), factor=5, plane="both", draws=2)
    assert model.shown == [("sagittal", (16, 1, 6, 20, 1)), ("coronal", (16, 1, 4, 1, 50))]


def test_the_volumes_slice_thickness_says_how_pixels_are_degraded() -> None:
    hu = np.zeros((1, 80, 80), dtype=np.float32)
    hu[:, :, ::2] = 600.0
    thinner = Volume(hu, Geometry(hu.shape, (5.0, 0.7, 0.7), (0.0, 0.0, 0.0), thickness_mm=1.0))
    model = Interpolating()
    restoration_loss(model, thinner, factor=5, plane="x", draws=1)
    hounsfield = {round(value) for value in (model.last.flatten() * 3072 - 1024).tolist()}
    assert hounsfield == {0, 600}, "slices a fifth as thick as their distance are single pixels"
    restoration_loss(model, thinner, factor=5, plane="x", draws=1, profile=SliceProfile.mean(5))
    hounsfield = {round(value) for value in (model.last.flatten() * 3072 - 1024).tolist()}
    assert hounsfield == {240, 360}


def test_says_what_was_done_and_that_the_weights_are_no_longer_a_files(tissue: Volume) -> None:
    original = network()
    original.card = {"name": "mine", "version": "3"}  # type: ignore[assignment]
    original.sha256 = "0" * 64  # type: ignore[assignment]
    done: list[tuple[int, int]] = []
    adapted = adapt(
        original, tissue, factor=3, steps=2, seed=7, progress=lambda step, steps: done.append((step, steps))
    )
    assert done == [(1, 2), (2, 2)]
    stream = upscale_slabs(tissue, model=adapted, factor=3)
    assert (stream.model_name, stream.model_version, stream.weights_sha256) == ("mine-adapted", "3", None)
    assert adapted.card["adapted"] == {"steps": 2, "learning_rate": 1e-4, "plane": "both", "seed": 7, "factor": 3}  # type: ignore[index]
    assert original.card == {"name": "mine", "version": "3"} and original.sha256 == "0" * 64  # type: ignore[comparison-overlap]


def test_no_steps_give_a_mere_copy(tissue: Volume) -> None:
    original = network()
    copy = adapt(original, tissue, factor=5, steps=0)
    assert copy is not original and not hasattr(copy, "card")
    assert all(torch.equal(a, b) for a, b in zip(copy.parameters(), original.parameters(), strict=True))


def test_works_where_gradients_are_off_and_keeps_frozen_weights_frozen(tissue: Volume) -> None:
    original = Interpolating()
    original.requires_grad_(False)
    with torch.inference_mode():
        adapted = adapt(original, tissue, factor=5, steps=2, learning_rate=0.1)
    assert isinstance(adapted, Interpolating)
    assert adapted.offset != 0 and adapted.fixed == 0
    assert not any(parameter.requires_grad for parameter in adapted.parameters())


@pytest.mark.parametrize("name", ["saint", "cubic"])
def test_networks_that_cannot_adapt_are_named(name: str, tissue: Volume) -> None:
    model = catalog.build(name)
    with pytest.raises(ModelError, match=rf"{type(model).__name__} cannot adapt"):
        adapt(model, tissue, factor=5, steps=1)


def test_a_loss_that_is_not_finite_stops_it(tissue: Volume) -> None:
    hu = tissue.hu.copy()
    hu[:, 30:40] = np.nan
    with pytest.raises(ModelError, match="step 0; lower the learning rate, and check"):
        adapt(network(), volume(hu), factor=5, steps=3)
    with pytest.raises(ModelError, match="at step [1-9]"):
        adapt(network(), tissue, factor=5, steps=5, learning_rate=1e30)


def test_what_cannot_be_done_is_refused(tissue: Volume) -> None:
    with pytest.raises(NotEligibleError, match="5 x 80 pixels"):
        adapt(network(), volume(tissue.hu[:, :5]), factor=5, steps=1, plane="y")
    adapt(network(), volume(tissue.hu[:, :5]), factor=5, steps=1, plane="x")
    with pytest.raises(ShapeError, match="factor 9"):
        adapt(network(), tissue, factor=9, steps=1)
    with pytest.raises(UsageError, match="choose x, y or both"):
        adapt(network(), tissue, factor=5, steps=1, plane="z")  # type: ignore[arg-type]
    for steps, rate in [(-1, 1e-5), (1, 0.0), (1, float("nan"))]:
        with pytest.raises(UsageError, match="0 or more steps"):
            adapt(network(), tissue, factor=5, steps=steps, learning_rate=rate)
