"""Fixtures: where the shared real data lies, and how a test says that it skips for want of it."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What thinslice keeps from run to run is kept beside the tests, not in the user's cache folder."""
    os.environ["THINSLICE_CACHE_DIR"] = str(tmp_path_factory.mktemp("thinslice-cache"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared specs, golden vectors and real CT; the test skips, saying so, where it is absent."""
    folder = Path(os.environ.get("THINSLICE_SHARED", PROJECT / ".." / "shared")).resolve()
    if not folder.is_dir():
        pytest.skip("shared data absent: set THINSLICE_SHARED to its folder")
    return folder


@pytest.fixture(scope="session")
def shared_dicom(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Unpacks shared/ct/dicom/NAME.tar.xz once a session and returns the folder it lies in."""
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
    """Unpacks shared/ct/packed/NAME.zip once a session and returns the NIfTI of its voxels."""
    folder = tmp_path_factory.mktemp("volumes")

    def unpack(name: str) -> Path:
        if not (shared / "ct" / "packed" / f"{name}.zip").is_file():
            pytest.skip(f"shared data absent: ct/packed/{name}.zip")
        if not list(folder.glob(f"*/{name}.nii.gz")):
            subprocess.run([sys.executable, str(shared / "ct" / "unpack.py"), str(folder), name], check=True)
        return next(folder.glob(f"*/{name}.nii.gz"))

    return unpack
