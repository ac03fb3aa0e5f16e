"""Why thick and thin slices do not belong together: mirrored, turned, or shifted in plane or far along the slices.

`thinslice.data.pairing.alignment` asks here, after its own search over small shifts along the slices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU
from thinslice.profile import SliceProfile
from thinslice.typing import Doubles, Floats

SAMPLES = 96
"""Approximate number of pixels along an in-plane axis that are compared."""

MOST_SLICES = 12
"""Thick slices of which an in-plane shift is measured."""

LEAST_SLICES = 3
"""Least number of thick slices that must have thin ones for a shift along the slices to be tried."""

LEAST_CORRELATION, LEAST_GAIN = 0.8, 1e-4
"""Correlation that another place or orientation must reach to be named, and by how much it must be better."""


_PEAK_ERROR = 2
"""Pixels by which the peak of a phase correlation may be wrong."""


@dataclass(frozen=True)
class Displacement:
    """Another place or orientation in which the thin slices match the thick ones.

    Attributes:
        fault: what is wrong with the pair, as part of a message.
        correlation: of thick slices and averaged thin ones there.
    """

    fault: str
    correlation: float


def displacements(
    thick: npt.NDArray[Any], thin: npt.NDArray[Any], factor: int, *, far: bool = False
) -> Iterator[Displacement]:
    """The most likely displacement of each kind, with the correlation that the pair would have without it.

    Args:
        thick: (D, height, width) HU.
        thin: ((D - 1) * factor + 1, height, width) HU.
        factor: thin slices per thick interval.
        far: whether shifts along the slices of more than a thick interval are tried.

    >>> thin = np.random.default_rng(0).normal(size=(31, 24, 24)) * 100
    >>> thick = np.stack([thin[max(0, 5 * k - 2) : 5 * k + 3].mean(0) for k in range(7)])
    >>> max(displacements(thick, thin[:, :, ::-1], 5), key=lambda found: found.correlation).fault
    'the thin slices are mirrored along the width axis'
    >>> max(displacements(thick, np.roll(thin, 3, axis=1), 5), key=lambda found: found.correlation).fault
    'pixel (row, column) of the thick slices is pixel (row + 3, column) of the thin ones'
    """
    profile = SliceProfile.mean(factor)
    rows = np.array(profile.supported(len(thick)))
    if len(rows) == 0:
        return
    yield from _mirrored(thick, thin, profile, rows)
    yield from _shifted_in_plane(thick, thin, profile, rows)
    if far:
        yield from _shifted_far(thick, thin, profile)


def clipped(voxels: npt.NDArray[Any]) -> Floats:
    """Voxels within the networks' window, float32."""
    return np.clip(voxels.astype(np.float32), np.float32(WINDOW_MIN_HU), np.float32(WINDOW_MAX_HU))


def averaged(thin: Floats, centres: npt.NDArray[np.intp], profile: SliceProfile) -> Floats:
    """Thick slices centred on some thin ones."""
    result = np.zeros((len(centres), *thin.shape[1:]), dtype=np.float32)
    for offset, weight in zip(range(-profile.reach, profile.reach + 1), profile.weights, strict=True):
        result += np.float32(weight) * thin[centres + offset]
    return result


def correlation(a: Floats, b: Floats) -> float:
    """Pearson's correlation; NaN where an array is constant."""
    a64, b64 = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    a64 -= a64.mean()
    b64 -= b64.mean()
    scale = np.sqrt((a64 @ a64) * (b64 @ b64))
    return float(a64 @ b64 / scale) if scale > 0 else float("nan")


def sample_planes(volume: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The pixels of each plane that are compared, as a view.

    >>> sample_planes(np.zeros((3, 512, 64))).shape
    (3, 103, 64)
    """
    step = tuple(slice(None, None, max(1, n // SAMPLES)) for n in volume.shape[1:])
    return volume[(slice(None), *step)]


def _mirrored(
    thick: npt.NDArray[Any], thin: npt.NDArray[Any], profile: SliceProfile, rows: npt.NDArray[np.intp]
) -> Iterator[Displacement]:
    """The best of the other orientations of a plane, in either order of the slices."""
    target = clipped(sample_planes(thick)[rows])
    square = thin.shape[1] == thin.shape[2]
    best: Displacement | None = None
    for transposed, down, across, along in product((False, True), repeat=4):
        if not (transposed or down or across) or (transposed and not square):
            continue
        source = clipped(sample_planes(_turned(thin, transposed, down, across, along)))
        found = correlation(target, averaged(source, rows * profile.factor, profile))
        if best is None or found > best.correlation:
            best = Displacement(_orientation(transposed, down, across, along), found)
    if best is not None:
        yield best


def _turned(thin: npt.NDArray[Any], transposed: bool, down: bool, across: bool, along: bool) -> npt.NDArray[Any]:
    """The thin slices in another orientation, as a view."""
    turned = np.swapaxes(thin, 1, 2) if transposed else thin
    return np.flip(turned, tuple(axis for axis, flipped in enumerate((along, down, across)) if flipped))


def _orientation(transposed: bool, down: bool, across: bool, along: bool) -> str:
    if along and not (transposed or down or across):
        return "the thin slices are in reversed order"
    reversed_order = " and in reversed order" if along else ""
    if transposed:
        kind = {
            (False, False): "have rows and columns exchanged",
            (True, True): "have rows and columns exchanged and are turned by 180 degrees",
        }.get((down, across), "are turned by 90 degrees")
        return f"the thin slices {kind}{reversed_order}"
    if down and across:
        return f"the thin slices are turned by 180 degrees{reversed_order}"
    return f"the thin slices are mirrored along the {'height' if down else 'width'} axis{reversed_order}"


def _shifted_in_plane(
    thick: npt.NDArray[Any], thin: npt.NDArray[Any], profile: SliceProfile, rows: npt.NDArray[np.intp]
) -> Iterator[Displacement]:
    """The peak of the phase correlation, if it is elsewhere than at 0."""
    chosen = rows[:: max(1, len(rows) // MOST_SLICES)]
    target, source = clipped(thick[chosen]), _opposite(thin, chosen, profile)
    shift = _plane_shift(target, source)
    if shift is not None and shift != (0, 0):
        yield Displacement(_in_plane(shift), _correlation_at(target, source, shift))


def _opposite(thin: npt.NDArray[Any], chosen: npt.NDArray[np.intp], profile: SliceProfile, along: int = 0) -> Floats:
    """Thick slices made of the thin ones around factor * k + along."""
    at = np.array([profile.reach])
    blocks = [averaged(clipped(_around(thin, k, profile, along)), at, profile) for k in chosen]
    return np.concatenate(blocks)


def _plane_shift(target: Floats, source: Floats) -> tuple[int, int] | None:
    """The shift (rows, columns) at the peak of the phase correlation; None where too little would be in common."""
    height, width = target.shape[1:]
    window = np.hanning(height)[:, None] * np.hanning(width)
    spectra = [scipy.fft.rfft2((planes - planes.mean()) * window) for planes in (target, source)]
    cross = (spectra[1] * np.conj(spectra[0])).sum(axis=0)
    peaks: Doubles = scipy.fft.irfft2(cross / (np.abs(cross) + 1e-12 * np.abs(cross).max() + 1e-30), s=(height, width))
    down, across = (int(at) for at in np.unravel_index(int(peaks.argmax()), peaks.shape))
    down, across = down - height * (2 * down > height), across - width * (2 * across > width)
    # A shift by more than a third leaves too little in common to be sure.
    return None if 3 * abs(down) > height or 3 * abs(across) > width else (down, across)


def _correlation_at(target: Floats, source: Floats, shift: tuple[int, int]) -> float:
    extents = list(zip(shift, target.shape[1:], strict=True))
    kept = tuple(slice(max(0, -s), n - max(0, s)) for s, n in extents)
    moved = tuple(slice(max(0, s), n - max(0, -s)) for s, n in extents)
    return correlation(target[(slice(None), *kept)], source[(slice(None), *moved)])


def _in_plane(shift: tuple[int, int]) -> str:
    place = ", ".join(f"{name}{_signed(s)}" for name, s in zip(("row", "column"), shift, strict=True))
    return f"pixel (row, column) of the thick slices is pixel ({place}) of the thin ones"


def combined(thick: npt.NDArray[Any], thin: npt.NDArray[Any], factor: int) -> Displacement | None:
    """The best orientation together with a shift in plane and along the slices, where at least two of them are wrong.

    Args:
        thick, thin, factor: as for `displacements`.

    Returns:
        The displacement, whose shifts are those of the thin slices once they are turned back; None where there are too
        few slices, or only one kind.

    >>> thin = np.random.default_rng(0).normal(size=(36, 24, 24)) * 100
    >>> thick = np.stack([thin[max(0, 5 * k - 2) : 5 * k + 3].mean(0) for k in range(7)])
    >>> print(combined(thick, np.roll(thin, 3, axis=1)[:31, :, ::-1], 5).fault)
    the thin slices are mirrored along the width axis, and pixel (row, column) of the thick slices is pixel (row + 3,
    column) of the thin ones
    """
    profile = SliceProfile.mean(factor)
    margin = -(-(factor + profile.reach) // factor)
    rows = np.arange(margin, len(thick) - margin)
    if len(rows) == 0 or len(thin) != (len(thick) - 1) * factor + 1:
        return None
    chosen = rows[:: max(1, len(rows) // MOST_SLICES)]
    target = clipped(thick[chosen])
    square = thin.shape[1] == thin.shape[2]
    best: tuple[float, tuple[bool, ...], tuple[int, int]] | None = None
    for flags in product((False, True), repeat=4):
        if flags[0] and not square:
            continue
        source = _opposite(_turned(thin, *flags), chosen, profile)
        shift = _plane_shift(target, source)
        if shift is not None:
            found = _correlation_at(target, source, shift)
            if best is None or found > best[0]:
                best = found, flags, shift
    if best is None:
        return None
    _, flags, peak = best
    turned = _turned(thin, *flags)
    source = _opposite(turned, chosen, profile)
    # Of small planes the peak may lie a pixel or two off.
    near = [
        (peak[0] + down, peak[1] + across) for down, across in product(range(-_PEAK_ERROR, _PEAK_ERROR + 1), repeat=2)
    ]
    shift = max(near, key=lambda each: _correlation_at(target, source, each))
    by_slice = {
        along: _correlation_at(target, _opposite(turned, chosen, profile, along), shift)
        for along in range(-factor, factor + 1)
    }
    along = max(by_slice, key=lambda each: (by_slice[each], -abs(each)))
    faults = [
        *([_orientation(*flags)] if any(flags) else []),
        *([_in_plane(shift)] if shift != (0, 0) else []),
        *([_along_slices(along)] if along else []),
    ]
    return Displacement(", and ".join(faults), by_slice[along]) if len(faults) > 1 else None


def _around(thin: npt.NDArray[Any], thick_index: int, profile: SliceProfile, along: int = 0) -> npt.NDArray[Any]:
    centre = thick_index * profile.factor + along
    return thin[centre - profile.reach : centre + profile.reach + 1]


def _shifted_far(thick: npt.NDArray[Any], thin: npt.NDArray[Any], profile: SliceProfile) -> Iterator[Displacement]:
    """The best shift along the slices of more than a thick interval."""
    planes, source = (clipped(sample_planes(voxels)[:, ::3, ::3]) for voxels in (thick, thin))
    factor, reach = profile.factor, profile.reach
    everywhere = averaged(source, np.arange(reach, len(thin) - reach), profile)
    best: tuple[float, int] | None = None
    for shift in range(-len(thin) + 1, len(thin)):
        centres = np.arange(len(thick)) * factor + shift
        inside = (centres >= reach) & (centres < len(thin) - reach)
        if abs(shift) <= factor or inside.sum() < LEAST_SLICES:
            continue
        found = correlation(planes[inside], everywhere[centres[inside] - reach])
        if best is None or found > best[0]:
            best = found, shift
    if best is not None:
        yield Displacement(_along_slices(best[1]), best[0])


def _along_slices(shift: int) -> str:
    return f"thick slice k shows thin slice factor * k{_signed(shift)}"


def _signed(shift: int) -> str:
    return "" if shift == 0 else f" {'+' if shift > 0 else '-'} {abs(shift)}"
