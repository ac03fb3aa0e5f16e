"""Facts about the content of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256_of(path: Path, *, start: int = 0) -> str:
    """SHA-256 of a file from byte `start` to its end: 64 hexadecimal digits.

    Raises:
        OSError: when the file cannot be read.
    """
    with path.open("rb") as stream:
        stream.seek(start)
        return hashlib.file_digest(stream, "sha256").hexdigest()
