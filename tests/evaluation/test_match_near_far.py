"""Match, Near and Far measure what they say, by case and by split."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

import thinslice
from support.dataset_factory import pair_hu, released_set, save_unit
from thinslice.data.manifest import Case, open_dataset, read_pair
from thinslice.errors import InputError, OutputExistsError, UsageError
from thinslice.evaluation.match_near_far import CATEGORIES, FILES, analyse, figure, save, similarities, table
from thinslice.evaluation.metrics import ssim
from thinslice.intensity import to_unit


@pytest.fixture
def released(tmp_path: Path) -> Path:
    return released_set(tmp_path / "set", {"train": 3, "val": 1})


def test_one_case_against_other_arithmetic(released: Path) -> None:
    from skimage.metrics import peak_signal_noise_ratio

    pair = read_pair(open_dataset(released).cases[0])
    thick, thin = (np.clip(to_unit(v.hu), 0, 1).astype(np.float64) for v in (pair.thick, pair.thin))
    for row in similarities(pair):
        distance = CATEGORIES[row.category]
        pairs = [
            (thick[k], thin[5 * k + o])
            for k in range(8)
            for o in {distance, -distance}
            if 0 <= 5 * k + o < len(thin)
        ]  # fmt: skip
        assert row.slice_pairs == len(pairs)
        ours, theirs = (np.stack(side) for side in zip(*pairs, strict=True))
        assert row.psnr == pytest.approx(peak_signal_noise_ratio(theirs, ours, data_range=1.0), abs=1e-4)
        # That metrics.ssim agrees with scikit-image is tested where it lives.
        assert row.ssim == pytest.approx(ssim(theirs, ours, data_range=1.0), abs=1e-6)


def test_slices_are_the_less_alike_the_further_apart(released: Path) -> None:
    found = analyse(open_dataset(released))
    for split in ("train", "val"):
        rows = [row for row in found.summaries() if row.split == split]
        assert [row.category for row in rows] == ["Match", "Near", "Far"]
        assert rows[0].psnr > rows[1].psnr > rows[2].psnr
        assert rows[0].ssim > rows[1].ssim > rows[2].ssim
    train = found.summaries()[0]
    values = [row.psnr for row in found.similarities if (row.split, row.category) == ("train", "Match")]
    assert (train.cases, len(values)) == (3, 3)
    assert train.psnr == pytest.approx(np.mean(values))
    assert train.psnr_sd == pytest.approx(np.std(values, ddof=1))
    assert found.summaries()[3].psnr_sd is None  # one case has no deviation


def test_a_split_can_be_chosen_and_order_does_not_depend_on_threads(released: Path) -> None:
    data = open_dataset(released)
    assert {row.split for row in analyse(data, splits=["val"]).similarities} == {"val"}
    assert analyse(data, jobs=1).similarities == analyse(data, jobs=3).similarities
    with pytest.raises(UsageError, match="no split 'dev'"):
        analyse(data, splits=["dev"])
    with pytest.raises(UsageError, match="not 0"):
        analyse(data, jobs=0)


def test_cases_that_cannot_be_read_are_left_out_and_named(released: Path) -> None:
    save_unit(np.roll(pair_hu(seed=1)[1], 2, axis=0), released / "train/1mm/CT00000001.nii.gz")
    found = analyse(open_dataset(released))
    assert {row.case_id for row in found.similarities} == {"CT00000000", "CT00000002", "CT00000100"}
    assert len(found.left_out) == 1
    assert found.left_out[0].startswith("Case CT00000001: The pair is misaligned")
    for path in (released / "val" / "1mm").iterdir():
        path.write_bytes(b"damaged")
    with pytest.raises(InputError, match="No case could be read. Case CT00000100"):
        analyse(open_dataset(released), splits=["val"])


def test_identical_slices_have_no_number(tmp_path: Path) -> None:
    _, thin = pair_hu()
    save_unit(thin[::5], tmp_path / "train/5mm/A.nii.gz")
    save_unit(thin, tmp_path / "train/1mm/A.nii.gz")
    found = analyse(open_dataset(tmp_path))
    assert found.summaries()[0].psnr == math.inf
    assert found.to_json()["splits"][0]["psnr"] is None
    assert "identical" in table(found)[1]
    assert figure(found).startswith(b"\x89PNG")


def test_everything_is_saved_once(released: Path, tmp_path: Path) -> None:
    found = analyse(open_dataset(released))
    save(found, tmp_path / "out" / "deep")
    out = tmp_path / "out" / "deep"
    assert {p.name for p in out.iterdir()} == set(FILES)
    with (out / FILES[0]).open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 12
    assert float(rows[0]["psnr"]) == found.similarities[0].psnr
    measured = json.loads((out / FILES[1]).read_text())
    assert measured["digest"] == open_dataset(released).digest
    assert len(measured["splits"]) == 6
    assert (out / FILES[2]).read_bytes().startswith(b"\x89PNG")
    (out / FILES[0]).unlink()
    with pytest.raises(OutputExistsError, match=r"match-near-far\.json"):
        save(found, out)
    assert not (out / FILES[0]).exists()
    save(found, out, overwrite=True)
    assert (out / FILES[0]).exists()


def test_the_real_pair_is_most_alike_at_its_own_position(shared: Path) -> None:
    folder = shared / "ct" / "pair"
    case = Case("phantom", "all", folder / "phantom_thin_1mm.nii.gz", folder / "phantom_thick_5mm.nii.gz", "P", "true")
    pair = read_pair(case)
    part = thinslice.Volume.crop
    small = [part(v, (0, 192, 192), (v.hu.shape[0], 320, 320)) for v in (pair.thick, pair.thin)]
    rows = similarities(type(pair)(pair.case_id, small[0], small[1], pair.factor))
    assert rows[0].psnr > rows[1].psnr > rows[2].psnr
