"""The top level: names, paths in place of volumes, and warnings as Python warnings."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.dicom_factory import write_series


def test_every_public_name_is_there() -> None:
    for name in thinslice.__all__:
        assert getattr(thinslice, name) is not None
    assert set(thinslice.__all__) <= set(dir(thinslice))
    with pytest.raises(AttributeError, match="no attribute 'upscail'"):
        thinslice.upscail  # noqa: B018


def test_a_path_is_read(tmp_path: Path) -> None:
    write_series(tmp_path / "thick")
    by_path = thinslice.upscale(str(tmp_path / "thick"), model="linear", factor=2)
    assert by_path == thinslice.upscale(thinslice.read(tmp_path / "thick"), model="linear", factor=2)
    files = sorted((tmp_path / "thick").iterdir())
    assert by_path == thinslice.upscale(files, model="linear", factor=2)


def test_inspect_evaluate_and_preview(tmp_path: Path) -> None:
    write_series(tmp_path / "thick")
    (found,) = thinslice.inspect(str(tmp_path / "thick"))
    assert found.kind == "CT" and found.eligible
    thick = thinslice.read(tmp_path / "thick")
    thin = thinslice.upscale(thick, model="linear", factor=5)
    assert thinslice.evaluate(thin, thin).to_json()["identical"]
    png = thinslice.preview(thick, thin, tmp_path / "look.png")
    assert png[1:4] == b"PNG" and (tmp_path / "look.png").read_bytes() == png


def test_warnings_arrive_once_at_the_line_of_the_call(tmp_path: Path) -> None:
    write_series(tmp_path / "thick", spacing_mm=(2.5, 0.7, 0.7), thickness_mm=5.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thick = thinslice.read(tmp_path / "thick")
    assert [str(one.message) for one in caught] == list(thick.provenance.warnings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thin = thinslice.upscale(thick, model="linear", factor=2)
    overlap = [one for one in caught if "overlap" in str(one.message)]
    assert len(overlap) == 1 and overlap[0].filename == __file__
    assert issubclass(overlap[0].category, thinslice.ThinsliceWarning)
    assert set(map(str, (one.message for one in caught))) == set(thin.provenance.warnings) - set(
        thick.provenance.warnings
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        thinslice.upscale(tmp_path / "thick", model="linear", factor=2)
        list(thinslice.upscale_slabs(thick, model="linear", factor=2))
    assert {one.filename for one in caught} == {__file__}


def test_arrays_in_arrays_out() -> None:
    hu = np.full((4, 8, 8), 40)
    thin = thinslice.upscale(thinslice.Volume.from_array(hu, spacing_mm=(5.0, 0.7, 0.7)), model="linear", factor=5)
    assert np.asarray(thin).shape == (16, 8, 8)
