"""HU as signed 16-bit pixels."""

from __future__ import annotations

import numpy as np
import pytest

from support.derived_series import Source, derive, edited, read_source
from support.dicom_factory import write_series
from thinslice.errors import OutputError
from thinslice.io.dicom.derived.encoding import choose_encoding


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return read_source(write_series(tmp_path_factory.mktemp("plain"), shape=(4, 16, 16)).files)


@pytest.mark.parametrize("hu_range", [(-1024, 3071), (-32768, 32767), (-1024, 64000), (-50000, 90000)])
def test_the_encoding_holds_every_value(hu_range: tuple[float, float]) -> None:
    encoding = choose_encoding(hu_range, None)
    values = np.linspace(*hu_range, 1001)
    restored = encoding.encode(values).astype(float) * encoding.slope + encoding.intercept
    assert np.abs(restored - values).max() <= encoding.slope / 2
    assert encoding.slope == (1 if hu_range[1] - hu_range[0] <= 65535 else 3)


@pytest.mark.parametrize("hu_range", [(float("nan"), 1.0), (0.0, float("inf")), (1.0, 0.0)])
def test_a_senseless_range_is_refused(hu_range: tuple[float, float]) -> None:
    with pytest.raises(OutputError, match="not finite"):
        choose_encoding(hu_range)


def test_padding_is_marked_as_stored(plain: Source) -> None:
    element = derive(plain, padding_hu=-2000.0).header(0)["PixelPaddingValue"]
    assert (element.VR, element.value) == ("SS", -2000)
    padded = edited(plain)
    for header in padded.headers:
        header.add_new("PixelPaddingValue", "US", 63536)
    assert "PixelPaddingValue" not in derive(padded).header(0)
