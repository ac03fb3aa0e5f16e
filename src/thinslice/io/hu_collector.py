"""Stored values to HU, chunk by chunk, in about one copy of memory: int16 as long as int16 is exact."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from thinslice.errors import UnreadableError
from thinslice.file_grid import FileAxes, zyx_order
from thinslice.options import option
from thinslice.system.resources import require_memory

CHUNK_VOXELS = 4 << 20
"""Voxels converted at once."""

MAX_VOXELS = 1 << 32
"""More than any CT: 4096 slices of 1024 x 1024. A header that declares more is damaged or hostile."""

FILL_HU = -1024.0
"""HU in place of NaN and infinity: air, the bottom of the networks' window."""

_INT16 = np.iinfo(np.int16)
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_WRAPPED_FROM = 0x10000 - 4096
"""Unsigned 16-bit values from here on are a signed -4096 .. -1 that lost its sign."""

Block = tuple[slice, slice]


class HuCollector:
    """Gather a file's voxels, in the file's order, into one (depth, height, width) array of HU.

    Args:
        shape_zyx: voxels along the file's axes 2, 1, 0.
        axes: the file's axis for depth, height and width.
        dtype: as stored; integer or real.
        slope: HU = slope * stored + intercept.
        intercept: see `slope`.
        name: of the file, for messages.

    Raises:
        UnreadableError: more voxels than any CT has, or a type of voxel that is no HU (colour, complex); give another
            file.
        ResourceError: the memory does not hold them; nothing was taken. Close other programs.

    >>> collector = HuCollector((1, 1, 2), (2, 1, 0), np.dtype(np.uint8), 2.0, -1000.0, "a.nii")
    >>> for block in collector.blocks():
    ...     collector.add(block, np.array([[[0, 100]]], dtype=np.uint8))
    >>> collector.finish()[0].tolist()
    [[[-1000, -800]]]
    """

    def __init__(
        self,
        shape_zyx: tuple[int, int, int],
        axes: FileAxes,
        dtype: np.dtype[np.generic],
        slope: float,
        intercept: float,
        name: str,
    ) -> None:
        if dtype.kind not in "iuf" or dtype.itemsize > 8:
            raise UnreadableError(
                f"{name!r} holds voxels of type {dtype}, not plain numbers; a CT in HU has one real number a voxel."
            )
        count = int(shape_zyx[0]) * int(shape_zyx[1]) * int(shape_zyx[2])
        if min(shape_zyx) < 1 or count > MAX_VOXELS:
            raise UnreadableError(
                f"The header of {name!r} declares {' x '.join(str(n) for n in shape_zyx[::-1])} voxels, "
                "which no CT has; the file is damaged or hostile."
            )
        self._purpose = f"to read {name!r}"
        require_memory(2 * count, self._purpose)
        self._shape_zyx = shape_zyx
        self._order = zyx_order(axes)
        self._dtype = dtype
        self._slope, self._intercept = float(slope), float(intercept)
        plain = self._slope == 1.0 and self._intercept == 0.0
        # Unsigned 16 bits are kept bit for bit until all have been read: only then is their sign clear.
        self._unsigned = plain and dtype.kind == "u" and dtype.itemsize == 2
        self._as_stored = plain and dtype.kind == "i" and dtype.itemsize == 2
        self._integers = (
            dtype.kind in "iu"
            and dtype.itemsize <= 4
            and self._slope.is_integer()
            and self._intercept.is_integer()
            and max(abs(self._slope), abs(self._intercept)) < 2**30
        )
        self._low, self._high = np.inf, -np.inf
        self._wrapped = self._middle = False
        self._replaced = 0
        zyx = list(self._order)
        shape = [0, 0, 0]
        for position, axis in enumerate(zyx):
            shape[axis] = shape_zyx[position]
        self._hu: npt.NDArray[np.generic] = np.empty(shape, np.int16)

    def blocks(self) -> Iterator[Block]:
        """The pieces to `add`, in the file's order: ranges along axes 2 and 1, all of axis 0.

        `CHUNK_VOXELS` are 16 planes of 512 x 512, so 300 planes give ranges [0, 16), [16, 32) ... [288, 300); of a
        plane of 8192 x 8192 they are 512 rows, so each plane gives [0, 512) ... [7680, 8192).
        """
        depth, height, width = self._shape_zyx
        planes = max(1, CHUNK_VOXELS // (height * width))
        rows = max(1, min(height, CHUNK_VOXELS // width))
        for z in range(0, depth, planes):
            if planes > 1 or rows == height:
                yield slice(z, min(z + planes, depth)), slice(0, height)
            else:
                for y in range(0, height, rows):
                    yield slice(z, z + 1), slice(y, min(y + rows, height))

    def add(self, block: Block, stored: npt.NDArray[np.generic]) -> None:
        """Convert and keep the stored values of one block: shape (planes, rows, width) in zyx order."""
        values = self._convert(stored)
        if values.dtype != np.int16 and self._hu.dtype == np.int16:
            require_memory(4 * self._hu.size, self._purpose)
            self._hu = self._hu.astype(np.float32)
        self._hu.transpose(self._order)[block] = values

    def _convert(self, stored: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """HU of stored values: int16 where exact, else float32."""
        if self._as_stored or self._unsigned:
            values = np.asarray(stored.astype(stored.dtype.newbyteorder("="), copy=False))
            low, high = float(values.min()), float(values.max())
            self._low, self._high = min(self._low, low), max(self._high, high)
            if self._as_stored:
                return values
            if high > _INT16.max:
                above = values[values > _INT16.max]
                self._wrapped |= bool((above >= _WRAPPED_FROM).any())
                self._middle |= bool((above < _WRAPPED_FROM).any())
            return np.asarray(values.view(np.int16))
        if self._integers:
            whole = stored.astype(np.int64) * int(self._slope) + int(self._intercept)
            self._low, self._high = min(self._low, float(whole.min())), max(self._high, float(whole.max()))
            fits = whole.min() >= _INT16.min and whole.max() <= _INT16.max
            return whole.astype(np.int16 if fits else np.float32)
        with np.errstate(all="ignore"):
            real = stored.astype(np.float64) * self._slope + self._intercept
        bad = ~(np.abs(real) <= _FLOAT32_MAX)
        count = int(np.count_nonzero(bad))
        if count:
            self._replaced += count
            real[bad] = FILL_HU
        low, high = float(real.min()), float(real.max())
        self._low, self._high = min(self._low, low), max(self._high, high)
        if low >= _INT16.min and high <= _INT16.max:
            rounded = real.astype(np.int16)
            if np.array_equal(rounded, real):
                return rounded
        return real.astype(np.float32)

    @property
    def replaced(self) -> int:
        """Number of voxels that were not finite and became air."""
        return self._replaced

    def finish(self) -> tuple[npt.NDArray[np.generic], tuple[str, ...], bool]:
        """The HU, warnings about them, and whether they look like unit intensity instead of HU.

        Returns:
            HU (depth, height, width), int16 or float32; sentences for the user; True when all lie in [0, 1] and are
            not whole numbers.
        """
        warnings: list[str] = []
        hu = self._hu
        if self._wrapped and not self._middle:
            warnings.append(
                "Values from 61440 up among unsigned 16-bit voxels are negative HU that lost their sign; "
                "they were read as signed."
            )
        elif self._unsigned and (self._wrapped or self._middle):
            require_memory(4 * hu.size, self._purpose)
            hu = hu.view(np.uint16).astype(np.float32)
        if self._replaced:
            warnings.append(f"{self._replaced} voxels were not finite numbers and were set to {FILL_HU:g} HU (air).")
        if hu.dtype != np.int16 and (self._low < _INT16.min or self._high > _INT16.max):
            warnings.append(
                f"Values reach from {self._low:g} to {self._high:g} HU, which 16 bits do not hold; "
                "they are kept as 32-bit floats."
            )
        unit = hu.dtype != np.int16 and self._low >= 0.0 and self._high <= 1.0
        if unit:
            warnings.append(
                "All values lie between 0 and 1, as HU do that were scaled to unit intensity "
                f"({option('intensity', 'unit')})."
            )
        return hu, tuple(warnings), unit
