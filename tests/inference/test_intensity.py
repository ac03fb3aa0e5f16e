"""Values that are no HU are refused or named, stated units are honoured, and odd results carry a warning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from support.command_line import smooth_volume
from thinslice.errors import InputError, NotEligibleError, UsageError
from thinslice.inference.upscale import upscale, upscale_slabs
from thinslice.intensity import to_unit
from thinslice.models.load import load_model
from thinslice.volume import Volume


@pytest.fixture(scope="module")
def thick() -> Volume:
    return smooth_volume(depth=5, plane=24)


def changed(volume: Volume, hu: np.ndarray) -> Volume:
    return Volume(hu, volume.geometry, volume.provenance)


def test_unit_values_are_refused_unless_they_are_stated(thick: Volume) -> None:
    unit = changed(thick, to_unit(thick.hu).clip(0, 1))
    with pytest.raises(InputError, match="between 0 and 1.*intensity='unit'"):
        upscale(unit, model="linear")
    made = upscale(unit, model="linear", intensity="unit")
    expected = upscale(changed(thick, thick.hu.clip(-1024, 2048).astype(np.float32)), model="linear")
    np.testing.assert_allclose(made.hu, expected.hu, atol=0.01)
    assert any("converted to [-1024, 2048] HU" in sentence for sentence in made.provenance.warnings)


def test_hu_stated_as_unit_are_refused(thick: Volume) -> None:
    with pytest.raises(InputError, match=r"outside \[0, 1\]"):
        upscale(thick, model="linear", intensity="unit")


def test_a_statement_of_hu_turns_a_refusal_into_a_warning(thick: Volume) -> None:
    unit = changed(thick, to_unit(thick.hu).clip(0, 1))
    made = upscale(unit, model="linear", intensity="hu")
    assert any("not HU" in sentence for sentence in made.provenance.warnings)


def test_values_that_lost_their_intercept_are_named(thick: Volume) -> None:
    raw = changed(thick, (thick.hu.clip(-1024, 2000) + 1024).astype(np.int16))
    assert any("rescale" in sentence for sentence in upscale(raw, model="linear").provenance.warnings)


def test_an_unknown_intensity_is_refused(thick: Volume) -> None:
    with pytest.raises(UsageError, match="auto, hu, unit"):
        upscale(thick, model="linear", intensity="raw")


def test_more_overlap_than_a_network_was_trained_on_is_refused(thick: Volume) -> None:
    network = load_model("fast")
    network.card = {"name": "narrow", "widest_slice": 2.0}  # type: ignore[assignment]
    wide = Volume(thick.hu, replace(thick.geometry, thickness_mm=3.0 * thick.geometry.spacing_mm[0]), thick.provenance)
    with pytest.raises(NotEligibleError, match="3 times as thick.*trained up to 2 times.*cubic-consistent"):
        upscale_slabs(wide, model=network, device="cpu", backend="torch")
    assert upscale(wide, model="cubic-consistent").hu.shape[0] == 21


@pytest.mark.parametrize(("wanted", "warned"), [(3.0, True), (0.6, True), (2.0, False), (1.25, False), (1.0, False)])
def test_a_spacing_that_is_missed_is_named(thick: Volume, wanted: float, warned: bool) -> None:
    assert thick.geometry.spacing_mm[0] == 5.0
    warnings = upscale(thick, model="linear", spacing_mm=wanted).provenance.warnings
    assert any("can be met exactly" in sentence for sentence in warnings) is warned


def test_two_interleaved_acquisitions_carry_a_warning(thick: Volume) -> None:
    one = np.repeat(thick.hu, 2, axis=0)[:9]
    two = one.copy()
    two[1::2] = np.roll(two[1::2], 9, axis=1)
    grid = replace(thick.geometry, shape=one.shape, spacing_mm=(2.5, 0.8, 0.8))
    for hu, thickness_mm, odd in ((one, 2.5, False), (two, 5.0, True)):
        source = Volume(hu, replace(grid, thickness_mm=thickness_mm))
        made = upscale(source, model="fast", spacing_mm=1.25, device="cpu", backend="torch")
        assert any("averaged back" in sentence for sentence in made.provenance.warnings) is odd
