"""The transform for TorchIO, on TorchIO itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import thinslice
from support.command_line import smooth_volume
from thinslice.errors import GeometryError, UsageError
from thinslice.volume import Volume


def subject(**more: Any) -> Any:
    tio = pytest.importorskip("torchio")
    labels = (smooth_volume().hu > 0).astype(np.int16)
    organs = Volume(labels, smooth_volume().geometry).to_torchio()
    return tio.Subject(
        ct=smooth_volume().to_torchio(), organs=tio.LabelMap(tensor=organs.data, affine=organs.affine), age=40, **more
    )


def test_a_scan_and_its_labels_become_thin() -> None:
    thick = subject()
    from thinslice.integrations.torchio import Upscale

    thin = Upscale(model="fast", factor=5, thickness_mm=5.0)(thick)
    expected = thinslice.upscale(Volume.from_torchio(thick.ct, thickness_mm=5.0), model="fast", factor=5)
    np.testing.assert_array_equal(Volume.from_torchio(thin.ct).hu, expected.hu)
    np.testing.assert_allclose(thin.ct.affine, expected.to_torchio().affine)
    labels = thinslice.upscale_labels(Volume.from_torchio(thick.organs), expected)
    np.testing.assert_array_equal(Volume.from_torchio(thin.organs).hu, labels.hu)
    assert thin.organs.spatial_shape == thin.ct.spatial_shape == (24, 24, 21) and thin.age == 40
    assert thick.ct.spatial_shape == (24, 24, 5), "the input is left alone"
    assert [step.name for step in thin.get_applied_transforms()] == ["Upscale"]
    again = thin.get_composed_history()(thick)
    np.testing.assert_array_equal(again.ct.data, thin.ct.data)


def test_in_a_pipeline_with_uncertainty_and_exclusions() -> None:
    thick = subject()
    import torchio as tio

    from thinslice.integrations.torchio import Upscale

    thick.add_image(tio.ScalarImage(tensor=thick.ct.data.float(), affine=thick.ct.affine), "dose")
    pipeline = tio.Compose([Upscale(factor=2, uncertainty=True, exclude=["dose"]), tio.Clamp(-500, 500)])
    thin = pipeline(thick)
    assert thin.ct.spatial_shape == thin.ct_uncertainty.spatial_shape == thin.organs.spatial_shape == (24, 24, 9)
    assert thin.dose.spatial_shape == (24, 24, 5)
    assert float(thin.ct_uncertainty.data.min()) >= 0


def test_an_image_alone_and_probability() -> None:
    thick = subject()
    from thinslice.integrations.torchio import Upscale

    assert Upscale(model="linear", factor=2)(thick.ct).spatial_shape == (24, 24, 9)
    assert Upscale(model="linear", factor=2, p=0)(thick.ct).spatial_shape == (24, 24, 5)
    assert Upscale(model="linear", spacing_mm=1.25, settings={"backend": "torch"})(thick.ct).spatial_shape == (
        24,
        24,
        17,
    )


def test_labels_without_their_scan_are_refused() -> None:
    thick = subject()
    from thinslice.integrations.torchio import Upscale

    with pytest.raises(UsageError, match="needs the CT that it was drawn on"):
        Upscale(model="linear", factor=2, exclude=["ct"])(thick)
    thick.organs.affine = thick.organs.affine + np.array([[0, 0, 0, 30.0], [0] * 4, [0] * 4, [0] * 4])
    with pytest.raises(GeometryError, match=r"grid of no CT of the subject\. The segmentation lies"):
        Upscale(model="linear", factor=2)(thick)
