from __future__ import annotations

import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinslice.errors import NotEligibleError, UsageError
from thinslice.geometry import Geometry
from thinslice.planning import choose_factor, eligibility, profile_warning, slice_profile


def thick(distance_mm: float, thickness_mm: float | None = None) -> Geometry:
    return Geometry(shape=(9, 8, 8), spacing_mm=(distance_mm, 0.7, 0.7), thickness_mm=thickness_mm)


@pytest.mark.parametrize(
    ("distance_mm", "target_mm", "factor"),
    [(5, 1, 5), (2.5, 1, 3), (2.49996, 1, 3), (2.4, 1, 2), (1.5, 1, 2), (8, 1, 8), (8.4, 1, 8), (5, 0.625, 8)],
)
def test_the_ratio_is_rounded_half_up(distance_mm: float, target_mm: float, factor: int) -> None:
    assert choose_factor(thick(distance_mm), spacing_mm=target_mm) == factor


@given(distance_mm=st.floats(0.05, 100), target_mm=st.floats(0.05, 20))
def test_every_refusal_names_a_spacing_that_works(distance_mm: float, target_mm: float) -> None:
    verdict = eligibility(thick(distance_mm), spacing_mm=target_mm)
    if verdict.eligible:
        assert verdict.factor in range(2, 9)
        assert abs(distance_mm / target_mm - verdict.factor) <= 0.501
    else:
        suggested = re.search(r"try spacing_mm=([\d.e-]+)\.$", verdict.reasons[0])
        assert suggested is not None
        assert choose_factor(thick(distance_mm), spacing_mm=float(suggested[1])) in (2, 8)


def test_already_thin_says_what_works() -> None:
    with pytest.raises(NotEligibleError, match=r"already thin .*try spacing_mm=0\.4\."):
        choose_factor(thick(0.8))


def test_too_coarse_says_what_works() -> None:
    with pytest.raises(NotEligibleError, match=r"factor 10.*try spacing_mm=1\.25\."):
        choose_factor(thick(10))


def test_an_explicit_factor_wins_over_the_spacing() -> None:
    assert choose_factor(thick(5), factor=2, spacing_mm=1.0) == 2
    assert choose_factor(thick(0.8), factor=5) == 5


@pytest.mark.parametrize("factor", [-3, 0, 1, 9, 1000])
def test_an_explicit_factor_outside_2_to_8_is_refused(factor: int) -> None:
    with pytest.raises(NotEligibleError, match=r"factors 2 to 8.*spacing_mm="):
        choose_factor(thick(5), factor=factor)


@pytest.mark.parametrize("spacing_mm", [0.0, -1.0, float("nan"), float("inf")])
def test_a_target_that_is_no_distance_is_a_usage_error(spacing_mm: float) -> None:
    with pytest.raises(UsageError, match="target spacing"):
        choose_factor(thick(5), spacing_mm=spacing_mm)


@pytest.mark.parametrize("factor", [2.5, True, float("nan")])
def test_a_factor_that_is_no_whole_number_is_a_usage_error(factor: float) -> None:
    with pytest.raises(UsageError, match="whole number"):
        choose_factor(thick(5), factor=factor)  # type: ignore[arg-type]


def test_an_ambiguous_axis_is_refused_naming_the_option() -> None:
    with pytest.raises(NotEligibleError, match="axis="):
        choose_factor(thick(5), axis_ambiguous=True)


def test_all_reasons_are_given() -> None:
    assert len(eligibility(thick(0.5), axis_ambiguous=True).reasons) == 2


@pytest.mark.parametrize("thickness_mm", [None, 5.0, 5.04, 4.96])
def test_contiguous_or_unknown_slices_have_the_plain_profile_and_no_warning(thickness_mm: float | None) -> None:
    geometry = thick(5, thickness_mm)
    assert slice_profile(geometry, 5).weights == (0.2,) * 5
    assert profile_warning(geometry) is None


def test_overlapping_slices_have_a_wider_profile() -> None:
    geometry = thick(2.5, 5)
    assert slice_profile(geometry, 4).width == pytest.approx(2.0, abs=0.05)
    assert "overlap" in str(profile_warning(geometry))


def test_slices_with_gaps_have_a_narrower_profile() -> None:
    geometry = thick(10, 2.5)
    assert slice_profile(geometry, 8).weights == (0.25, 0.5, 0.25)
    assert "gaps" in str(profile_warning(geometry))


def test_a_thickness_nobody_scans_is_not_believed() -> None:
    geometry = thick(1.25, 10)
    assert slice_profile(geometry, 5).weights == (0.2,) * 5
    assert "not plausible" in str(profile_warning(geometry))


def test_planning_needs_neither_torch_nor_scipy() -> None:
    code = (
        "import sys, thinslice.planning; print(sorted({'torch', 'scipy'} & {m.partition('.')[0] for m in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
