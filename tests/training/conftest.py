"""Small data to train on: thin volumes, and pairs in the released layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import thinslice
from support.pair_factory import smooth_hu, write_pair
from thinslice import Geometry, Volume


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `data` with one thin volume."""
    root = tmp_path_factory.mktemp("train")
    (root / "data").mkdir()
    hu = smooth_hu(0, (40, 32, 32)).astype(np.int16)
    thinslice.write(Volume(hu, Geometry(hu.shape, (1.0, 0.7, 0.7))), root / "data" / "smooth.nii.gz")
    return root


@pytest.fixture(scope="session")
def pairs_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder `pairs` in the released layout: three cases to train on, two to validate."""
    root = tmp_path_factory.mktemp("paired")
    for split, numbers in (("train", (0, 1, 2)), ("val", (100, 101))):
        for number in numbers:
            write_pair(root / "pairs", split, number)
    return root
