"""Fixtures of the service: one real server for all quick tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.command_line import run
from support.dicom_factory import write_series
from support.served import Served, served

__all__ = ["run"]


@pytest.fixture(scope="module")
def thick_dicom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DICOM series of 4 slices in a folder, without anything else."""
    folder = tmp_path_factory.mktemp("thick") / "in"
    write_series(folder, shape=(4, 20, 18))
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, thick_dicom: Path) -> Iterator[Served]:
    """A server that may read the folder of `thick_dicom`."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with served(tmp_path_factory.mktemp("served") / "data", "--allow", thick_dicom) as made:
        yield made
