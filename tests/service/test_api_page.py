"""The page of the API lists the routes that the application has, and the files that a job makes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.skips import PROJECT
from thinslice.queue import Queue
from thinslice.service.folder import DataFolder
from thinslice.service.jobs import FILES
from thinslice.service.settings import ServeSettings

PAGE = (PROJECT / "docs" / "reference" / "service.md").read_text(encoding="utf-8")


def test_routes_of_the_page_are_those_of_the_application(tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    from thinslice.service.app import Service, create_app

    folder = DataFolder(tmp_path)
    with Queue(folder.queue_file) as queue:
        described = create_app(Service(folder, queue, ServeSettings(tmp_path))).openapi()
    routes = {f"{method.upper()} {path}" for path, methods in described["paths"].items() for method in methods}
    assert set(re.findall(r"^\| `([A-Z]+ /api[^`]+)` \|", PAGE, re.MULTILINE)) == routes


def test_files_of_the_page_are_those_that_a_job_makes() -> None:
    row = next(line for line in PAGE.splitlines() if "/files/{name}`" in line)
    assert re.findall(r"`(\w+\.[\w.]+)`", row) == list(FILES)


def test_limits_of_the_page_are_those_of_the_settings() -> None:
    settings = ServeSettings(Path("data"))
    assert f"{settings.upload_files:,}" in PAGE and f"and {settings.open_uploads} may be open" in PAGE
