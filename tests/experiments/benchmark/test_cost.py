"""What a volume takes: memory that was really taken, operations of all windows, networks left as they were."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from support.command_line import smooth_volume
from thinslice.errors import ModelError
from thinslice.experiments import provenance
from thinslice.experiments.benchmark.cost import upscale_measured
from thinslice.experiments.provenance import commit
from thinslice.inference.settings import UpscaleSettings
from thinslice.inference.upscale import upscale
from thinslice.models import catalog
from thinslice.models.checkpoint import weights_digest
from thinslice.models.cost import operations
from thinslice.models.load import load_model

SMALL_DAVSR = {"features": 4, "blocks": 1, "layers": 1, "growth": 2, "meta_hidden": (4,), "fusion_features": 4,
               "fusion_blocks": 1, "fusion_layers": 1, "fusion_growth": 2}  # fmt: skip


@pytest.mark.parametrize("plan", ["overlap", "released", "paper"])
def test_the_volume_is_upscales_and_operations_are_those_of_its_windows(plan: str) -> None:
    thick, model = smooth_volume(depth=6, plane=24), catalog.build("thinnet", features=4, blocks=1).eval()
    counted: dict[tuple[int, int, int, int], int] = {}
    done = upscale_measured(model, thick, UpscaleSettings(factor=5, plan=plan, device="cpu"), counted=counted)
    np.testing.assert_array_equal(done.thin.hu, upscale(thick, model=model, factor=5, plan=plan, device="cpu").hu)
    ((window, each),) = counted.items()
    assert each == operations(model, window[:3], 5)
    assert done.cost.operations == each * done.cost.windows
    assert done.plan == plan and 0 < done.cost.network_s <= done.cost.seconds


def test_adaptation_leaves_the_network_and_counts_its_time() -> None:
    torch.manual_seed(0)
    model = catalog.build("davsr", **SMALL_DAVSR).eval()
    before = weights_digest(model)
    thick = smooth_volume(depth=3, plane=64)
    settings = UpscaleSettings(factor=4, device="cpu")
    plain = upscale_measured(model, thick, settings)
    adapted = upscale_measured(model, thick, settings, adapt_steps=2)
    assert weights_digest(model) == before
    assert not np.array_equal(plain.thin.hu, adapted.thin.hu)
    assert adapted.cost.seconds > adapted.cost.network_s
    assert adapted.cost.operations == plain.cost.operations


def test_a_network_that_cannot_adapt_says_so() -> None:
    with pytest.raises(ModelError, match="adapt"):
        upscale_measured(
            catalog.build("linear"), smooth_volume(), UpscaleSettings(factor=5, device="cpu"), adapt_steps=1
        )


def test_weights_are_named_by_their_values() -> None:
    torch.manual_seed(0)
    one, same = catalog.build("thinnet", features=4, blocks=1), None
    torch.manual_seed(0)
    same = catalog.build("thinnet", features=4, blocks=1)
    assert weights_digest(one) == weights_digest(same)
    with torch.no_grad():
        next(same.parameters())[0] += 1e-3
    assert weights_digest(one) != weights_digest(same)
    assert weights_digest(catalog.build("cubic")) is None
    assert weights_digest(load_model("default")) == load_model("default").sha256


def test_the_commit_is_that_of_the_packages_own_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = commit()
    assert values is None or len(values.partition("+")[0]) == 40
    # Installed below another repository, which does not track the package, there is none.
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "thinslice").mkdir()
    (tmp_path / "thinslice" / "about.py").touch()
    monkeypatch.setattr(provenance.about, "__file__", str(tmp_path / "thinslice" / "about.py"))
    assert commit.__wrapped__() is None


def test_dates_follow_source_date_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert provenance.now() == "1970-01-01T00:00:00Z"
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert provenance.now() > "2024"
