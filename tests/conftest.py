"""Fixtures for all tests, the list of skips at the end of a run, and settings that keep tests independent of speed."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# With pytest-xdist every core has a worker. More threads in a worker would only wait for each other; torch, OpenMP,
# OpenBLAS and the programs that tests start read this when they are loaded.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis
import numpy as np
import pytest

from support.skips import expected, shared_folder

# An example may take as long as the machine needs.
hypothesis.settings.register_profile(
    "thinslice", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("thinslice")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A cache folder of the session in place of the user's."""
    os.environ["THINSLICE_CACHE_DIR"] = str(tmp_path_factory.mktemp("thinslice-cache"))


@pytest.fixture(scope="session", autouse=True)
def quick_collection(own_cache: None) -> None:
    """`gc.collect`, which a batch calls for each series, passes over what imports and collection have made."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def own_random_numbers_and_threads() -> Iterator[None]:
    """The same random numbers for a test in whatever order tests run; a number of threads that it sets ends with it."""
    random.seed(0)
    np.random.seed(0)
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    yield
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared specs, golden vectors and real CT; the test skips where it is absent."""
    folder = shared_folder()
    if not folder.is_dir():
        pytest.skip("shared data absent: set THINSLICE_SHARED to its folder")
    return folder


@pytest.fixture(scope="session")
def shared_dicom(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that unpacks shared/ct/dicom/NAME.tar.xz once a session and returns the folder of its files."""
    unpacked: dict[str, Path] = {}

    def unpack(name: str) -> Path:
        if name not in unpacked:
            archive = shared / "ct" / "dicom" / f"{name}.tar.xz"
            if not archive.is_file():
                pytest.skip(f"shared data absent: ct/dicom/{name}.tar.xz")
            folder = tmp_path_factory.mktemp(name)
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
            unpacked[name] = folder
        return unpacked[name]

    return unpack


@pytest.fixture(scope="session")
def shared_volume(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that unpacks shared/ct/packed/NAME.zip once a session and returns the NIfTI of its voxels."""
    folder = tmp_path_factory.mktemp("volumes")

    def unpack(name: str) -> Path:
        if not (shared / "ct" / "packed" / f"{name}.zip").is_file():
            pytest.skip(f"shared data absent: ct/packed/{name}.zip")
        if not list(folder.glob(f"*/{name}.nii.gz")):
            subprocess.run([sys.executable, str(shared / "ct" / "unpack.py"), str(folder), name], check=True)
        return next(folder.glob(f"*/{name}.nii.gz"))

    return unpack


def _skips(terminal: Any) -> Counter[str]:
    """How often each reason to skip occurred in the run."""
    reports = [report for report in terminal.stats.get("skipped", []) if isinstance(report.longrepr, (tuple, list))]
    return Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In continuous integration a skip that is not expected fails the run."""
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is None or hasattr(session.config, "workerinput") or not os.environ.get("CI"):
        return
    if session.exitstatus == pytest.ExitCode.OK and any(expected(reason) is None for reason in _skips(terminal)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Every reason to skip, how often, and whether tests/support/skips.py expects it on this machine."""
    skips = _skips(terminalreporter)
    if not skips:
        return
    terminalreporter.section("skipped tests")
    for reason, count in sorted(skips.items()):
        row = expected(reason)
        verdict = f"expected: {row.when}" if row else "NOT EXPECTED, see tests/support/skips.py; fails where CI is set"
        terminalreporter.write_line(f"{count:4d}  {reason}  ({verdict})", red=row is None)
