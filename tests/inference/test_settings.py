"""Options of a run: checked when they are made, and never changed afterwards."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from thinslice.errors import UsageError
from thinslice.inference.settings import UpscaleSettings, uncertainty_source
from thinslice.options import options_as_flags


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"factor": 2.5}, "whole number, not 2.5"),
        ({"factor": True}, "whole number"),
        ({"factor": float("nan")}, "whole number"),
        ({"spacing_mm": 0.0}, "positive number of mm, not 0"),
        ({"spacing_mm": float("inf")}, "positive number of mm"),
        ({"plan": "no-such-plan"}, "overlap, released, paper"),
        ({"device": "gpu"}, "auto, cpu, cuda, cuda:N or mps"),
        ({"device": "cuda:x"}, "auto, cpu, cuda, cuda:N or mps"),
        ({"backend": "tensorrt"}, "auto, torch, torch-compile, openvino"),
        ({"threads": 0}, "at least 1"),
        ({"uncertainty": "guess"}, "learned or ensemble"),
    ],
)
def test_what_is_not_valid_is_refused_at_once(options: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        UpscaleSettings(**options)


def test_factor_and_spacing_contradict_each_other_in_python_and_on_the_command_line() -> None:
    with pytest.raises(UsageError, match="factor= and spacing_mm= both set .* give one of them"):
        UpscaleSettings(factor=5, spacing_mm=1.0)
    with options_as_flags(), pytest.raises(UsageError, match="--factor and --spacing both set"):
        UpscaleSettings(factor=5, spacing_mm=1.0)


def test_settings_do_not_change() -> None:
    settings = UpscaleSettings()
    with pytest.raises(FrozenInstanceError):
        settings.factor = 3  # type: ignore[misc]


def test_channels_follow_the_uncertainty_and_only_auto_may_fall_back() -> None:
    assert [UpscaleSettings(uncertainty=source).channels for source in (None, "learned", "ensemble")] == [1, 2, 2]
    assert [UpscaleSettings(device=device).may_fall_back for device in ("auto", "cpu", "cuda")] == [True, False, False]
    assert uncertainty_source("guess") == "guess", "refused by the settings, not here"
