"""The tiny suite: its data, a folder of one's own to run it in, and a finished run to look at."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from support.tiny_suite import Finished, copied, write_data
from thinslice.experiments.benchmark.run import run_suite
from thinslice.recipes import read_suite


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bench_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bench")
    write_data(root)
    return root


@pytest.fixture
def bench(bench_data: Path, tmp_path: Path) -> Path:
    """A folder of one's own with that data and `suite.toml`."""
    return copied(bench_data, tmp_path / "bench")


@pytest.fixture(scope="session")
def finished(bench_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    torch.set_num_threads(1)  # a session's fixtures are made before `one_thread`; sums differ with threads
    folder = copied(bench_data, tmp_path_factory.mktemp("finished") / "bench")
    return Finished(folder, run_suite(read_suite(folder / "suite.toml"), folder / "out", device="cpu"))
