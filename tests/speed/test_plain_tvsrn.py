"""The plain reference against the golden vectors, and our network against the plain reference."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from thinslice.models import catalog
from thinslice.models.released import tvsrn_checkpoint

AGREEMENT = 1e-3
"""Largest difference asked for between the plain reference and ours."""


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    path = Path(__file__).parents[2] / "speed" / "plain_tvsrn.py"
    spec = importlib.util.spec_from_file_location("plain_tvsrn", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_plain_reference_gives_the_golden_output(plain: ModuleType, shared: Path) -> None:
    golden = shared / "golden"
    ours = tvsrn_checkpoint.build_released(
        tvsrn_checkpoint.read_released(golden / "tvsrn_released_weights.safetensors")
    )
    vectors = np.load(golden / "tvsrn_released_io_64.npz")
    with torch.inference_mode():
        thin = plain.PlainTVSRN((64, 64), ours.state_dict())(torch.from_numpy(vectors["input"]))
    assert thin.shape == (1, 1, 16, 64, 64)
    assert float((thin[:, :, 3:13] - torch.from_numpy(vectors["output"])).abs().max()) <= 2e-4


@pytest.mark.parametrize("plane", [24, 72])
def test_ours_agrees_with_the_plain_reference(plain: ModuleType, plane: int) -> None:
    torch.manual_seed(0)
    ours = catalog.build("tvsrn-released").eval()
    # Larger than at the start of training, so that attention and biases matter.
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.mul_(3.0)
    x = torch.rand(2, 1, 4, plane, plane)
    with torch.inference_mode():
        expected = plain.PlainTVSRN((plane, plane), ours.state_dict())(x)
        difference = (ours(x) - expected).abs().max()
    assert expected.std() > 0.1
    assert difference <= AGREEMENT
