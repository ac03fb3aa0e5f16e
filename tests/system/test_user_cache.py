"""The user's cache folder: where it is, and that nothing breaks without it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from thinslice.system import user_cache


def test_kept_and_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("THINSLICE_CACHE_DIR", str(tmp_path / "new" / "folder"))
    assert user_cache.load("sub/a.json") is None
    assert user_cache.keep("sub/a.json", {"value": 1.5})
    assert user_cache.load("sub/a.json") == {"value": 1.5}
    assert [path.name for path in (tmp_path / "new" / "folder" / "sub").iterdir()] == ["a.json"]


@pytest.mark.skipif(sys.platform != "linux", reason="the XDG folders are Linux's")
def test_the_platforms_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("THINSLICE_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert user_cache.cache_folder() == tmp_path / "xdg" / "thinslice"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache.cache_folder() == tmp_path / ".cache" / "thinslice"


def test_an_empty_variable_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THINSLICE_CACHE_DIR", "")
    assert user_cache.cache_folder() is None
    assert not user_cache.keep("a.json", {})
    assert user_cache.load("a.json") is None


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe", b""])
def test_a_damaged_file_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes) -> None:
    monkeypatch.setenv("THINSLICE_CACHE_DIR", str(tmp_path))
    (tmp_path / "a.json").write_bytes(content)
    assert user_cache.load("a.json") is None


def test_a_place_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("THINSLICE_CACHE_DIR", str(tmp_path / "file"))
    assert not user_cache.keep("a/b.json", {"value": 1})
    assert user_cache.load("a/b.json") is None


def test_a_disk_that_fills_up_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("THINSLICE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(Path, "replace", full)
    assert not user_cache.keep("a.json", {"value": 1})
    assert not list(tmp_path.iterdir())
