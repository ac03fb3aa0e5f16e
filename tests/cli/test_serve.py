"""Command `serve`, as far as it goes without serving; `tests/service` starts real servers."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from support.command_line import Run, run

__all__ = ["run"]


def test_without_its_packages_the_command_names_the_remedy(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "thinslice.service.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    outcome = run("serve", "--no-browser", "--data", tmp_path / "data")
    assert outcome.code == 3 and 'pip install ".[serve]"' in outcome.err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--allow", "nowhere"), "no folder"),
        (("--keep-days", "0"), "--keep-days must be a positive number"),
        (("--workers", "0"), "choose 1 to 64"),
        (("--port", "70000"), "no port"),
    ],
)
def test_options_out_of_range_are_refused(options: tuple[str, ...], words: str, run: Run, tmp_path: Path) -> None:
    outcome = run("serve", "--no-browser", "--data", tmp_path / "data", *options)
    assert outcome.code == 2 and words in outcome.err
    assert not (tmp_path / "data").exists()


def test_a_port_that_is_taken_is_named(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        outcome = run("serve", "--no-browser", "--data", tmp_path / "data", "--port", port)
    assert outcome.code == 2 and f"port {port} cannot be listened on" in outcome.err


def test_another_address_than_loopback_is_warned_of(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = str(taken.getsockname()[1])
        outcome = run("serve", "--no-browser", "--data", tmp_path / "data", "--host", "0.0.0.0", "--port", port)
    assert outcome.code == 2 and "nothing on the way is encrypted" in outcome.err
