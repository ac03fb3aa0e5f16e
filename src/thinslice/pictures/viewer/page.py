"""One HTML file that holds the viewer and both volumes: it opens from a disk, without a network.

Voxels are packed slab by slab as they come: differences along all axes, a byte each, gzip, base64.
`viewer/src/embedded.ts` reads them. Where they would take more than a limit, blocks of 2 x 2 pixels (then 3 x 3, ...)
become their mean, in all volumes alike, and the page states it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.about import NOTICE, __version__
from thinslice.errors import UsageError
from thinslice.geometry import Geometry
from thinslice.pictures.viewer.bundle import script
from thinslice.system.atomic import atomic_file
from thinslice.volume import Volume

DEFAULT_LIMIT_BYTES = 96 * 2**20
"""Size of a page up to which volumes stand in it unreduced: browsers open it in seconds, and it can be sent on."""

DEVIATION_STEP_HU = 0.5
"""Standard deviations stand in the page as whole numbers of this step."""

_SLAB_SLICES = 16

_PACKED_BYTES, _PACKING_BYTES = 1, 12
"""Bytes of a voxel: packed (0.6 to 0.8 in a chest, more where noise is strong), and while its slab is packed."""

_ESCAPE = 255
_INT16 = np.iinfo(np.int16)


@dataclass(frozen=True)
class PackedSlab:
    """Packed slices of a page.

    Attributes:
        volume: "thick", "thin" or "deviation".
        first: index of the first slice.
        shape: (slices, height, width) of the packed voxels.
        packed: by `packed_bytes`.
    """

    volume: str
    first: int
    shape: tuple[int, int, int]
    packed: bytes

    @property
    def page_bytes(self) -> int:
        """Characters of the slab in the page."""
        return (len(self.packed) + 2) // 3 * 4


class ViewerPage:
    """A page with the viewer, made while slabs of thin slices come.

    Args:
        thick: the source; its grid, HU and padding go into the page, nothing else of it.
        thin: grid of the thin volume.
        deviation: whether standard deviations come with the slabs.
        limit_bytes: size of the page from which on volumes are reduced.

    >>> thick = Volume(np.zeros((3, 8, 8), np.int16), Geometry((3, 8, 8), (5.0, 1.0, 1.0)))
    >>> page = ViewerPage(thick, thick.geometry.thin_grid(5))
    >>> page.add(0, np.zeros((11, 8, 8), np.int16))
    >>> "ThinsliceViewer.openEmbedded" in page.html()
    True
    """

    def __init__(
        self, thick: Volume, thin: Geometry, *, deviation: bool = False, limit_bytes: int = DEFAULT_LIMIT_BYTES
    ) -> None:
        self._thick, self._thin, self._deviation, self._limit_bytes = thick.geometry, thin, deviation, limit_bytes
        self._padding_hu = thick.provenance.padding_hu
        self._slabs: list[PackedSlab] = []
        self._added = 0
        self._largest_reduction = max(min(thin.shape[1:]) // 8, 1)
        self.reduction = 1
        """Pixels along rows and columns that became one."""
        self._take("thick", 0, thick.hu, 1.0)

    def add(self, start: int, hu: npt.NDArray[np.generic], deviation_hu: npt.NDArray[np.generic] | None = None) -> None:
        """Add finished thin slices; they come in order.

        Args:
            start: thin index of the first.
            hu: (slices, height, width) HU.
            deviation_hu: their standard deviations, where the page holds them.

        Raises:
            UsageError: they do not follow those before, do not fit the grid, or lack the standard deviations.
        """
        if start != self._added or hu.shape[1:] != self._thin.shape[1:] or start + len(hu) > self._thin.shape[0]:
            raise UsageError(f"A slab {hu.shape} at slice {start} does not follow {self._added} of {self._thin.shape}.")
        if self._deviation != (deviation_hu is not None):
            raise UsageError(
                f"The slab at slice {start} lacks standard deviations, or has some that were not announced."
            )
        self._take("thin", start, hu, 1.0)
        if deviation_hu is not None:
            self._take("deviation", start, deviation_hu, DEVIATION_STEP_HU)
        self._added += len(hu)

    def html(self, facts: Iterable[tuple[str, str]] = ()) -> str:
        """The page.

        Args:
            facts: rows of names and values for the panel about the volumes; nothing that identifies a patient.

        Raises:
            UsageError: thin slices are missing; add them first.
        """
        return "".join(document(self.options(facts), self.slabs()))

    def slabs(self) -> tuple[PackedSlab, ...]:
        """The slabs in the order in which they are shown."""
        return tuple(self._slabs)

    def options(self, facts: Iterable[tuple[str, str]] = ()) -> dict[str, Any]:
        """Options of the viewer (`ViewerOptions` in `viewer/src/viewer.ts`), JSON values; as for `html`.

        Raises:
            UsageError: thin slices are missing; add them first.
        """
        if self._added != self._thin.shape[0]:
            raise UsageError(f"The page holds {self._added} of {self._thin.shape[0]} thin slices.")
        return {
            "thick": grid_json(reduced_grid(self._thick, self.reduction)),
            "thin": grid_json(reduced_grid(self._thin, self.reduction)),
            "hasThin": True,
            "hasDeviation": self._deviation,
            "deviationStepHu": DEVIATION_STEP_HU,
            "paddingHu": _int16_or_none(self._padding_hu),
            "reducedBefore": self.reduction,
            "notice": NOTICE,
            "facts": [list(fact) for fact in facts],
        }

    def write(self, path: Path, facts: Iterable[tuple[str, str]] = (), *, overwrite: bool = False) -> None:
        """Write the page, whole or not at all; arguments as for `html`.

        Raises:
            OutputExistsError: the file exists and `overwrite` is false.
        """
        with atomic_file(path, overwrite=overwrite) as unfinished, unfinished.open("w", encoding="ascii") as file:
            file.writelines(document(self.options(facts), self.slabs()))

    def _take(self, volume: str, start: int, values: npt.NDArray[np.generic], step: float) -> None:
        for offset in range(0, len(values), _SLAB_SLICES):
            whole = _whole_numbers(values[offset : offset + _SLAB_SLICES], step)
            self._slabs.append(_pack(volume, start + offset, reduced(whole, self.reduction)))
        while sum(slab.page_bytes for slab in self._slabs) > self._limit_bytes:
            if self.reduction >= self._largest_reduction:
                return
            self._reduce()

    def _reduce(self) -> None:
        """Make what was packed smaller by the next reduction.

        What was reduced by 2 becomes 4: means of means are those of the whole block.
        """
        self.reduction *= 2
        self._slabs = [
            _pack(slab.volume, slab.first, reduced(unpacked(slab.packed, slab.shape), 2)) for slab in self._slabs
        ]


def held_bytes(
    thick: Geometry, thin: Geometry, *, deviation: bool = False, limit_bytes: int = DEFAULT_LIMIT_BYTES
) -> int:
    """Memory that a `ViewerPage` takes, about.

    >>> held_bytes(Geometry((64, 344, 466), (5.0, 0.8, 0.8)), Geometry((316, 344, 466), (1.0, 0.8, 0.8))) >> 20
    87
    """
    voxels = math.prod(thick.shape) + (2 if deviation else 1) * math.prod(thin.shape)
    packed = min(_PACKED_BYTES * voxels, limit_bytes * 3 // 4)
    return packed + _PACKING_BYTES * _SLAB_SLICES * math.prod(thin.shape[1:])


def document(options: Mapping[str, Any], slabs: Sequence[PackedSlab]) -> Iterator[str]:
    """An HTML document with the viewer that opens `slabs`, in pieces; it may load nothing, by its own policy.

    Args:
        options: of the viewer (`ViewerOptions` in `viewer/src/viewer.ts`).
        slabs: in the order in which they are shown.
    """
    named = [(f"slab-{number}", slab) for number, slab in enumerate(slabs)]
    viewer = _in_script(script())
    start = "void ThinsliceViewer.openEmbedded(document.getElementById('viewer'));"
    hashes = " ".join(f"'sha256-{_sha256(text)}'" for text in (viewer, start))
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {hashes}",
            f"style-src 'sha256-{_sha256(_STYLE)}'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    places = [
        {"volume": slab.volume, "first": slab.first, "slices": slab.shape[0], "name": name} for name, slab in named
    ]
    volumes = json.dumps({"options": options, "slabs": places}, separators=(",", ":")).replace("<", "\\u003c")
    yield f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="thinslice {__version__}">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>Thick and thin slices - thinslice viewer</title>
<style>{_STYLE}</style>
</head>
<body>
<main id="viewer"><h1>Thick and thin slices</h1><noscript><p>This page needs JavaScript. {NOTICE}</p></noscript></main>
<script type="application/json" id="thinslice-volumes">{volumes}</script>
"""
    for name, slab in named:
        yield f"<!--{name}:{base64.b64encode(slab.packed).decode('ascii')}-->\n"
    yield f"""<script>{viewer}</script>
<script>{start}</script>
</body>
</html>
"""


_STYLE = (
    "html,body,main{height:100%;margin:0;background:#0b0c0e;color:#e8eaee}"
    "h1{position:absolute;width:1px;height:1px;margin:0;overflow:hidden;clip-path:inset(50%)}"
    ".ts-fault{margin:0;padding:24px;font:18px/1.5 system-ui,sans-serif}"
)


def grid_json(geometry: Geometry) -> dict[str, Any]:
    """A grid as the viewer takes it (`Grid` in `viewer/src/core/geometry.ts`).

    >>> grid_json(Geometry((2, 3, 4), (5.0, None, None)))["spacingMm"]
    [5.0, None, None]
    """
    return {
        "shape": list(geometry.shape),
        "spacingMm": list(geometry.spacing_mm),
        "originMm": list(geometry.origin_mm),
        "direction": [list(row) for row in geometry.direction],
    }


def reduced_grid(geometry: Geometry, reduction: int) -> Geometry:
    """The grid after blocks of reduction x reduction pixels became one; the centre of the first block is its origin.

    >>> grid = reduced_grid(Geometry((2, 5, 4), (5.0, 1.0, 1.0)), 2)
    >>> grid.shape, grid.spacing_mm, grid.origin_mm
    ((2, 3, 2), (5.0, 2.0, 2.0), (0.5, 0.5, 0.0))
    """
    shift = (reduction - 1) / 2
    depth, height, width = geometry.shape
    step, *plane = geometry.spacing_mm
    rows, columns = (None if mm is None else mm * reduction for mm in plane)
    return replace(
        geometry,
        shape=(depth, -(-height // reduction), -(-width // reduction)),
        spacing_mm=(step, rows, columns),
        origin_mm=geometry.position_mm((0.0, shift, shift)),
    )


def reduced(hu: npt.NDArray[np.int16], reduction: int) -> npt.NDArray[np.int16]:
    """Means of blocks of reduction x reduction pixels, rounded; blocks at the lower and right border may hold fewer.

    Args:
        hu: (slices, height, width).

    >>> reduced(np.array([[[0, 2, 10], [4, 6, 20]]], np.int16), 2).tolist()
    [[[3, 15]]]
    """
    if reduction == 1:
        return hu
    rows, columns = (range(0, extent, reduction) for extent in hu.shape[1:])
    sums = np.add.reduceat(np.add.reduceat(hu, rows, axis=1, dtype=np.int64), columns, axis=2)
    counts = [np.diff([*starts, extent]) for starts, extent in zip((rows, columns), hu.shape[1:], strict=True)]
    return np.asarray(np.rint(sums / np.outer(*counts)), dtype=np.int16)


def packed_bytes(voxels: npt.NDArray[np.int16]) -> bytes:
    """Voxels as they stand in a page before base64; `unpacked` is the inverse.

    A difference n becomes the number 2 n, and -n becomes 2 n - 1, a byte for each voxel; larger numbers are `_ESCAPE`
    there, and follow behind all bytes with 16 bits. Bytes of noise hardly repeat, so gzip looks for runs of one byte
    only, which takes a fifth of the time and finds as much.

    Args:
        voxels: (slices, height, width).

    >>> gzip.decompress(packed_bytes(np.array([[[1, 3], [-1, 599]]], np.int16))).hex()
    '020403ffac04'
    """
    differences = voxels.view(np.uint16).copy()
    for axis in range(3):
        ahead, behind = (np.moveaxis(differences, axis, 0)[part] for part in (slice(1, None), slice(None, -1)))
        ahead -= behind
    signed = differences.view(np.int16)
    numbers = ((signed << 1) ^ (signed >> 15)).view(np.uint16)
    gzipped = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    parts = (np.minimum(numbers, _ESCAPE).astype(np.uint8), numbers[numbers >= _ESCAPE].astype("<u2"))
    return b"".join([*(gzipped.compress(part.tobytes()) for part in parts), gzipped.flush()])


def unpacked(packed: bytes, shape: tuple[int, int, int]) -> npt.NDArray[np.int16]:
    """Voxels of `packed_bytes`, (slices, height, width)."""
    plain, count = gzip.decompress(packed), math.prod(shape)
    numbers = np.frombuffer(plain, np.uint8, count).astype(np.uint16)
    numbers[numbers == _ESCAPE] = np.frombuffer(plain, "<u2", offset=count)
    values = ((numbers >> 1) ^ -(numbers & 1)).reshape(shape)
    for axis in range(3):
        values = np.cumsum(values, axis=axis, dtype=np.uint16)
    return np.asarray(values.view(np.int16), dtype=np.int16)


def _pack(volume: str, first: int, voxels: npt.NDArray[np.int16]) -> PackedSlab:
    slices, height, width = voxels.shape
    return PackedSlab(volume, first, (slices, height, width), packed_bytes(np.ascontiguousarray(voxels)))


def _whole_numbers(values: npt.NDArray[np.generic], step: float) -> npt.NDArray[np.int16]:
    """Values in whole steps, as int16; what does not fit is moved to the border."""
    if values.dtype == np.int16 and step == 1.0:
        return np.asarray(values, dtype=np.int16)
    scaled = np.nan_to_num(np.asarray(values, dtype=np.float32), nan=_INT16.min) / np.float32(step)
    return np.asarray(np.clip(np.rint(scaled), _INT16.min, _INT16.max), dtype=np.int16)


def _int16_or_none(value: float | None) -> int | None:
    return None if value is None else int(np.clip(round(value), _INT16.min, _INT16.max))


def _in_script(text: str) -> str:
    """A script that cannot end its own element."""
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError("The viewer's script holds markup that would end its element; build it anew.")
    return text


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
