"""The package carries the viewer's script, and it is the one that the sources give."""

from __future__ import annotations

import hashlib
import re
import runpy
from pathlib import Path

from thinslice.pictures.viewer.bundle import SOURCES_BESIDE, digest_of_sources, recorded_digests, script

SOURCES = Path(__file__).parents[3] / "viewer"


def test_the_script_is_the_one_that_was_made() -> None:
    assert hashlib.sha256(script().encode()).hexdigest() == recorded_digests()["script_sha256"]
    assert script().isascii() and "ThinsliceViewer" in script()


def test_the_script_is_current() -> None:
    assert digest_of_sources(SOURCES) == recorded_digests()["sources_sha256"], (
        "viewer/ has changed since its bundle was made: run `make viewer` and commit the result"
    )


def test_a_change_of_any_source_shows(tmp_path: Path) -> None:
    (tmp_path / "src" / "deep").mkdir(parents=True)
    changing = [tmp_path / name for name in SOURCES_BESIDE] + [tmp_path / "src" / "deep" / "a.ts"]
    for path in changing:
        path.write_text("one")
    before = digest_of_sources(tmp_path)
    for path in changing:
        path.write_text("two")
        assert digest_of_sources(tmp_path) != before
        path.write_text("one")
    assert digest_of_sources(tmp_path) == before


def test_the_script_asks_for_nothing() -> None:
    """No address, and none of the functions that would load something."""
    for word in ("fetch(", "XMLHttpRequest", "WebSocket", "importScripts", "sendBeacon", "eval(", "innerHTML"):
        assert word not in script(), word
    assert set(addresses(script())) <= {"http://www.w3.org/2000/svg"}


def addresses(text: str) -> list[str]:
    return re.findall(r"https?://[^\s\"'`)]+", text)


def test_the_fixture_of_the_viewer_s_tests_is_what_the_package_gives() -> None:
    tool = runpy.run_path(str(SOURCES.parent / "tools" / "viewer_fixture.py"))
    assert (SOURCES / "test" / "fixture.json").read_text() == tool["fixture"]()
