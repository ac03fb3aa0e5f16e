"""Voxels that are no HU whatever the scanner: NaN, infinity, and numbers beyond 16 bits."""

from __future__ import annotations

from thinslice.errors import InputError
from thinslice.volume import Volume

LARGEST_HU = 32767.0
"""No scanner stores more; metal reaches 3071 HU, on extended scales 20,000."""


def refuse_wild_values(volume: Volume, name: str) -> None:
    """Refuse a volume with values that would spoil whatever is measured or trained on it.

    Args:
        volume: as read; readers replace values that are not finite by air and count them.
        name: what to call it in the message.

    Raises:
        InputError: with the number of such voxels; repair the file, or leave it out.
    """
    bad = volume.provenance.details.get("not_finite", 0)
    if bad:
        raise InputError(f"{name} holds {bad} voxels that are not finite numbers; repair the file, or leave it out.")
    if volume.hu.dtype.kind == "f":
        wild = (volume.hu > LARGEST_HU) | (volume.hu < -LARGEST_HU)
        if wild.any():
            largest = float(volume.hu[wild][0])
            raise InputError(
                f"{name} holds {int(wild.sum())} voxels far out of the range of HU, such as {largest:.3g}; repair the "
                "file, or leave it out."
            )
