"""Digests of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from thinslice.system.files import sha256_of


@pytest.mark.parametrize("start", [0, 1, 100_000, 300_000, 400_000])
def test_the_digest_covers_the_bytes_from_start_to_the_end(tmp_path: Path, start: int) -> None:
    content = bytes(range(256)) * 1200
    path = tmp_path / "file"
    path.write_bytes(content)
    assert sha256_of(path, start=start) == hashlib.sha256(content[start:]).hexdigest()
