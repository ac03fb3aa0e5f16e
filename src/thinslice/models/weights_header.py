"""Header of a safetensors file: its metadata, and name and shape of each tensor; no tensor is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from thinslice.errors import CheckpointError

LARGEST_HEADER_BYTES = 4 << 20
"""Most bytes of names, shapes and metadata; the largest embedded network has 40 kB."""


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor in a safetensors file, without loading one.

    Raises:
        CheckpointError: when it is not a safetensors file, or a truncated one.
    """
    return read_header(path)[1]


def read_header(path: Path) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """Metadata of a safetensors file, and name and shape of each tensor.

    The reader loads no tensor. It refuses a header that is damaged, larger than the file or than
    `LARGEST_HEADER_BYTES`, or has a key twice, and a file that has more or fewer bytes than its header lists.
    """
    from safetensors import SafetensorError, safe_open

    try:
        _check_header(path)
        with safe_open(str(path), framework="numpy") as file:
            return file.metadata() or {}, {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - no mapping
    except OSError as error:
        raise CheckpointError(f"{path.name} cannot be read: {error.strerror or error}; check the path.") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path.name} is not a safetensors file, or was truncated or added to "
            f"({str(error).splitlines()[0][:120]}): fetch it again; pickled checkpoints go through thinslice convert."
        ) from error


def _check_header(path: Path) -> None:
    """What the library's reader leaves unchecked: the size of the header, and keys that stand in it twice.

    Raises:
        ValueError: saying what is wrong.
    """
    with path.open("rb") as stream:
        length = tensors_start(stream.read(8)) - 8
        if not 2 <= length <= min(LARGEST_HEADER_BYTES, path.stat().st_size - 8):
            raise ValueError(f"its header would have {length} bytes")
        json.loads(stream.read(length), object_pairs_hook=each_key_once)


def each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; one reader of a key that stands in it twice takes the first value, another the last."""
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key stands twice in one JSON object")
    return values


def tensors_start(prefix: bytes) -> int:
    """Byte of a safetensors file where its tensors start; prefix: its first 8 bytes, the length of the header.

    The library's reader does not give this position, which the digest of the tensors needs.

    >>> tensors_start(bytes([16, 1, 0, 0, 0, 0, 0, 0]))
    280
    """
    return 8 + int.from_bytes(prefix, "little")
