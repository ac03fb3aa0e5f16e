"""Pickles that are short and would take long: the work of reading one is bounded, whatever it describes."""

from __future__ import annotations

import struct

import pytest

from thinslice.errors import CheckpointError
from thinslice.models.released import inert_pickle
from thinslice.models.released.inert_pickle import read_inert

START, STOP = b"\x80\x02", b"."
SET = b"c__builtin__\nset\n"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"


def numbers(count: int) -> bytes:
    """A list of numbers on top of the stack and in place 0 of the memo."""
    return b"]q\x00(" + b"".join(b"J" + struct.pack("<i", n) for n in range(count)) + b"e"


def attributes(count: int) -> bytes:
    """An attribute dict on top of the stack and in place 0 of the memo."""
    pairs = (b"X" + struct.pack("<I", 6) + f"{n:06d}".encode() + b"N" for n in range(count))
    return b"}q\x00(" + b"".join(pairs) + b"u"


def test_instructions_are_counted_and_few() -> None:
    nothing = START + b"N" * inert_pickle.MAX_INSTRUCTIONS + STOP
    with pytest.raises(CheckpointError, match="more than 250000 instructions"):
        read_inert(nothing, source="x")


def test_size_is_bounded() -> None:
    with pytest.raises(CheckpointError, match="at most 4194304 are read"):
        read_inert(START + b"N" * inert_pickle.MAX_BYTES + STOP, source="x")


def test_a_large_list_made_into_many_sets() -> None:
    again = SET + b"h\x00\x85R"
    with pytest.raises(CheckpointError, match="copies more than"):
        read_inert(START + numbers(20_000) + again * 20_000 + STOP, source="x")


def test_attributes_set_again_and_again() -> None:
    again = b"cm\nC\n)\x81h\x00b"
    with pytest.raises(CheckpointError, match="copies more than"):
        read_inert(START + attributes(20_000) + again * 20_000 + STOP, source="x")


def test_a_tensor_of_many_axes() -> None:
    size = b"(" + b"K\x01" * 1000 + b"t"
    tensor = TENSOR + b"(" + STORAGE + b"K\x00" + size + size + b"\x89]tR"
    with pytest.raises(CheckpointError, match="too many"):
        read_inert(START + tensor + STOP, source="x")


@pytest.mark.parametrize("extent", [b"J\xff\xff\xff\xff", b"\x8a\xff" + b"\x7f" * 255, b"G" + bytes(8)])
def test_a_tensor_of_impossible_extent(extent: bytes) -> None:
    tensor = TENSOR + b"(" + STORAGE + b"K\x00" + extent + b"\x85K\x01\x85\x89]tR"
    with pytest.raises(CheckpointError, match="extents are no whole numbers"):
        read_inert(START + tensor + STOP, source="x")
