"""The noise of a scan: size and spectrum are found where they are known; a scan without soft tissue is refused."""

from __future__ import annotations

import numpy as np
import pytest

from support.noisy_phantom import SPECTRUM, phantom
from thinslice.errors import InputError
from thinslice.inference.texture import law
from thinslice.inference.texture.field import radial_frequencies
from thinslice.inference.texture.law import Averages
from thinslice.inference.texture.scan_noise import ScanNoise, measure_noise
from thinslice.options import options_as_flags
from thinslice.profile import SliceProfile


@pytest.fixture(autouse=True)
def _no_anatomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The phantom holds noise alone."""
    monkeypatch.setattr(law, "ANATOMY_CORRELATION", 0.0)


def measured(factor: int, width: float = 1.0, **rest: float) -> ScanNoise:
    thick = phantom(factor, width, **rest).thick.hu  # type: ignore[arg-type]
    return measure_noise(thick, Averages.of_profile(SliceProfile.mean(factor, width=width), len(thick)))


@pytest.mark.parametrize("noise_hu", [8.0, 30.0, 80.0])
@pytest.mark.parametrize(("factor", "width"), [(5, 1.0), (2, 1.0), (3, 1.5)])
def test_noise_of_thin_slices_is_found_in_the_thick_ones(factor: int, width: float, noise_hu: float) -> None:
    assert measured(factor, width, noise_hu=noise_hu).thin_hu == pytest.approx(noise_hu, rel=0.08)


def test_the_spectrum_in_plane_is_that_of_the_scan() -> None:
    found = np.array(measured(5).spectrum)
    at = radial_frequencies(len(found))
    wanted = np.interp(at, radial_frequencies(len(SPECTRUM)), SPECTRUM)
    inside = (at > 0.12) & (at < 0.5)  # below, anatomy is taken off; above, there is hardly any power
    np.testing.assert_allclose(found[inside] / found[inside].sum(), wanted[inside] / wanted[inside].sum(), atol=0.04)


def test_anatomy_beside_the_soft_tissue_changes_little() -> None:
    profile = SliceProfile.mean(5)
    made = phantom(5, side=128)
    with_bone = made.thick.hu.copy()
    with_bone[:, 30:60, 30:60] += 700
    with_bone[:, 90:] -= 900
    sizes = [measure_noise(hu, Averages.of_profile(profile, len(hu))).thin_hu for hu in (made.thick.hu, with_bone)]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


@pytest.mark.parametrize("hu", [-1000, 900, -150])
def test_a_scan_without_even_soft_tissue_is_refused_with_a_way_out(hu: int) -> None:
    thick = np.full((8, 64, 64), hu, dtype=np.int16)
    with options_as_flags(), pytest.raises(InputError, match=r"0 patches .* go without --texture"):
        measure_noise(thick, Averages.of_profile(SliceProfile.mean(5), 8))


def test_a_scan_without_noise_is_refused_with_a_way_out() -> None:
    thick = np.full((8, 96, 96), 40, dtype=np.int16)
    thick[:, ::3] += 1
    with options_as_flags(), pytest.raises(InputError, match=r"holds none .* go without --texture"):
        measure_noise(thick, Averages.of_profile(SliceProfile.mean(5), 8))
