"""The slice profile: the weights of thin slices in one thick slice. numpy only.

The simulation of thick slices, the consistency of an estimate with its input, the default network, and scoring share
this one description.

Positions are counted in thin spacings; thick slice k is centred on thin slice `factor * k`: at factor 5, thick slice 2
on thin slice 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.interpolate import make_interp_spline
from scipy.special import erf

from thinslice.arguments import check_number, check_numbers, check_text, check_whole
from thinslice.errors import UsageError
from thinslice.typing import Doubles, Floats

SIMULATED = ("mean", "gaussian", "trapezoid", "heavy-tailed", "subsample")
"""Names of the profiles that thick slices can be simulated with (`SliceProfile.named`)."""

MAX_CONDITION = 30.0
"""Condition number of A A^T past which the projection is damped: strongly overlapping slices repeat each other, and
undoing that exactly would amplify noise."""

LARGEST_FACTOR = 1000
"""Most thin slices per thick interval; networks go up to 8."""

WIDEST = 100.0
"""Widest part of a profile in thick spacings; real ones reach 4."""

DEEP = 65
"""Thick slices after which a condition number hardly grows, and a slice's influence has died out."""


@dataclass(frozen=True)
class SliceProfile:
    """Weights of thin slices in one thick slice.

    Attributes:
        name: the constructor's name, for reports.
        factor: thin slices per thick interval, >= 1.
        weights: odd number of weights, symmetric in position, sum 1; the middle one belongs to thin slice factor * k.

    Raises:
        UsageError: a factor below 1, an even number of weights, ones that are not finite, or a sum other than 1.
        ArgumentTypeError: a value of another type; the message describes what is taken.

    >>> SliceProfile.mean(5).weights
    (0.2, 0.2, 0.2, 0.2, 0.2)
    >>> SliceProfile.mean(2).weights
    (0.25, 0.5, 0.25)
    """

    name: str
    factor: int
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        check_text("name", self.name)
        _check_factor(self.factor)
        object.__setattr__(self, "weights", check_numbers("weights", self.weights, "numbers that sum to 1"))
        weights = np.asarray(self.weights)
        if weights.ndim != 1 or weights.size % 2 == 0 or not np.all(np.isfinite(weights)):
            raise UsageError("A slice profile needs an odd number of finite weights, the middle one at its centre.")
        if not np.isclose(weights.sum(), 1.0, atol=1e-5):
            raise UsageError(f"The weights of a slice profile must sum to 1, not {weights.sum():g}.")

    @property
    def reach(self) -> int:
        """Thin slices on either side of the centre that carry weight."""
        return len(self.weights) // 2

    @property
    def width(self) -> float:
        """Extent over slice distance: 1 for contiguous slices, above 1 for overlap, below 1 for gaps.

        The width of the box with the same standard deviation, so that profiles of every form compare.

        >>> round(SliceProfile.mean(5).width, 3), round(SliceProfile.mean(4, width=2.0).width, 3)
        (0.98, 2.031)
        """
        positions = np.arange(-self.reach, self.reach + 1)
        return float(np.sqrt(12.0 * np.sum(np.asarray(self.weights) * positions**2)) / self.factor)

    @classmethod
    def mean(cls, factor: int, *, width: float = 1.0) -> SliceProfile:
        """A box `width` thick spacings wide: each thin slice counts by its overlap with it.

        `width` is slice thickness over slice distance. For contiguous slices (1.0) and an odd factor all `factor`
        thin slices weigh the same; for an even one `factor + 1` do, the two at the ends half.
        """
        # Factor 4: half is 2, reach is 2, and thin slices -2 .. 2 overlap [-2, 2] by 0.5, 1, 1, 1, 0.5.
        # Factor 5: half is 2.5, reach is 2, and -2 .. 2 overlap [-2.5, 2.5] by 1 each.
        _check_factor(factor, width=width)
        half = 0.5 * factor * width
        reach = max(0, int(np.ceil(half - 0.5 - 1e-9)))
        position = np.arange(-reach, reach + 1)
        overlap = np.minimum(position + 0.5, half) - np.maximum(position - 0.5, -half)
        return cls._normalised("mean", factor, np.clip(overlap, 0.0, 1.0))

    @classmethod
    def gaussian(cls, factor: int, *, fwhm: float = 1.0) -> SliceProfile:
        """A Gaussian of full width at half maximum `fwhm` thick spacings, cut at three standard deviations."""
        _check_factor(factor, fwhm=fwhm)
        sigma = factor * fwhm / np.sqrt(8.0 * np.log(2.0))
        reach = max(1, int(np.ceil(3.0 * sigma - 0.5)))
        edges = (np.arange(-reach, reach + 2) - 0.5) / (sigma * np.sqrt(2.0))
        return cls._normalised("gaussian", factor, np.diff(erf(edges)))

    @classmethod
    def trapezoid(cls, factor: int, *, width: float = 1.0, ramp: float = 0.25) -> SliceProfile:
        """A box `width` thick spacings wide at half height whose flanks are ramps `ramp` thick spacings long.

        The slice sensitivity profile of a multi-row scanner: a box (the slice) blurred by a shorter box (the row).
        """
        _check_factor(factor, width=width)
        ramp = check_number("ramp", ramp)
        if not 0 <= ramp <= WIDEST:
            raise UsageError(f"The argument ramp takes 0 to {WIDEST:g} thick spacings, not {ramp:g}.")
        fine = 64
        count = int(np.ceil(factor * (width + ramp))) * fine + fine
        at = np.arange(-count, count + 1) / fine
        outer, inner = 0.5 * factor * (width + ramp), 0.5 * factor * abs(width - ramp)
        height = np.clip((outer - np.abs(at)) / max(outer - inner, 1e-6), 0.0, 1.0)
        reach = int(np.ceil(outer - 0.5 - 1e-9))
        # Each thin slice gets the profile's integral over its own extent. At factor 4 and the defaults the flanks fall
        # from 1 at inner = 1.5 to 0 at outer = 2.5, so reach is 2; sample 1.6 belongs to thin slice 2, cell 4.
        cell = np.floor(at + 0.5).astype(int) + reach
        inside = (cell >= 0) & (cell <= 2 * reach)
        weights = np.bincount(cell[inside], height[inside], minlength=2 * reach + 1)
        return cls._normalised("trapezoid", factor, 0.5 * (weights + weights[::-1]))

    @classmethod
    def heavy_tailed(
        cls, factor: int, *, width: float = 1.0, core: float = 0.8, tail: float = 0.15, decay: float = 0.4
    ) -> SliceProfile:
        """A core narrower than the slice thickness, and tails that reach past it.

        The sum of a box and a two-sided exponential, cut at three decay lengths. With the defaults its standard
        deviation is that of a box one thick spacing wide. A fit to real pairs (RPLHR-CT) gave 5.08 mm for
        slices of 5 mm, with such a form.

        Args:
            factor: thin slices per thick interval.
            width: slice thickness over slice distance; both parts scale with it.
            core: width of the box over the slice thickness.
            tail: share of the weight in the exponential, [0, 1].
            decay: decay length of the exponential over the slice thickness.

        >>> round(SliceProfile.heavy_tailed(5).width, 2), len(SliceProfile.heavy_tailed(5).weights)
        (1.0, 13)
        """
        _check_factor(factor, width=width, core=core, decay=decay)
        tail = check_number("tail", tail)
        if not 0 <= tail <= 1:
            raise UsageError(f"The argument tail takes a share from 0 to 1, not {tail:g}.")
        box = cls.mean(factor, width=core * width)
        length = factor * width * decay
        reach = max(box.reach, int(np.ceil(3.0 * length - 0.5)))
        edges = np.arange(-reach, reach + 2) - 0.5
        exponential = np.diff(np.sign(edges) * 0.5 * -np.expm1(-np.abs(edges) / length))
        weights = tail * exponential / exponential.sum()
        weights[reach - box.reach : reach + box.reach + 1] += (1.0 - tail) * np.asarray(box.weights)
        return cls._normalised("heavy-tailed", factor, weights)

    @classmethod
    def measured(cls, factor: int, density: ProfileDensity) -> SliceProfile:
        """A measured density on a thin grid: each thin slice weighs by the integral of the density over its own extent.

        >>> SliceProfile.measured(4, ProfileDensity.box(1.0)).weights
        (0.125, 0.25, 0.25, 0.25, 0.125)
        """
        # Factor 5 and a density up to 0.6 thick spacings: the outermost thin slice is 3 from the centre.
        reach = max(1, int(np.ceil(factor * density.reach - 0.5 - 1e-9)))
        borders = (np.arange(-reach, reach + 2) - 0.5) / factor
        return cls._normalised("measured", factor, np.diff(density.integral(borders)))

    @classmethod
    def subsample(cls, factor: int) -> SliceProfile:
        """Thin slice factor * k alone, as SAINT simulates thick slices."""
        return cls("subsample", factor, (1.0,))

    @classmethod
    def named(cls, name: str, factor: int, *, width: float = 1.0) -> SliceProfile:
        """One of `SIMULATED` by name; `width` is slice thickness over slice distance, where the form has one.

        Raises:
            UsageError: an unknown name; choose one of `SIMULATED`.
        """
        match check_text("name", name, f"one of {', '.join(SIMULATED)}"):
            case "mean":
                return cls.mean(factor, width=width)
            case "gaussian":
                return cls.gaussian(factor, fwhm=width)
            case "trapezoid":
                return cls.trapezoid(factor, width=width)
            case "heavy-tailed":
                return cls.heavy_tailed(factor, width=width)
            case "subsample":
                return cls.subsample(factor)
        raise UsageError(f"There is no slice profile named {name!r}; choose one of {', '.join(SIMULATED)}.")

    @classmethod
    def _normalised(cls, name: str, factor: int, weights: npt.NDArray[np.floating]) -> SliceProfile:
        return cls(name, factor, tuple(float(w) for w in np.round(weights / weights.sum(), 12)))

    def supported(self, depth: int) -> range:
        """The thick slices of `depth` whose whole profile lies on the thin grid of (depth - 1) * factor + 1 slices.

        The first and last are left out unless the profile is a single slice. A mean of factor 5 reaches 2 thin slices
        to either side: thick slice 0, centred on thin slice 0, would need -2 and -1.

        >>> SliceProfile.mean(5).supported(6)
        range(1, 5)
        """
        margin = -(-self.reach // self.factor)
        return range(margin, max(margin, depth - margin))

    def rows(self, depth: int) -> list[tuple[int, int, tuple[float, ...]]]:
        """The rows of `matrix` without zeros: (thick slice, first thin slice, weights) of each supported thick slice.

        >>> SliceProfile.mean(2).rows(3)
        [(1, 1, (0.25, 0.5, 0.25))]
        """
        return [(k, k * self.factor - self.reach, self.weights) for k in self.supported(depth)]

    def matrix(self, depth: int) -> Doubles:
        """A, banded: (supported thick slices, (depth - 1) * factor + 1 thin slices), so that A @ thin = thick.

        A mean of factor 5 and depth 4 gives 2 x 16: row 0 is thick slice 1, centred on column 5, with weights in
        columns 3 to 7; row 1 is thick slice 2, with weights in columns 8 to 12.
        """
        rows = self.supported(depth)
        a = np.zeros((len(rows), (depth - 1) * self.factor + 1))
        for row, k in enumerate(rows):
            centre = k * self.factor
            a[row, centre - self.reach : centre + self.reach + 1] = self.weights
        return a

    def correction(self, depth: int) -> Doubles:
        """A^T (A A^T)^-1: (thin slices, supported thick slices), the smallest change of the thin slices that adds a
        given amount to each thick one.

        Where slices overlap so strongly that A A^T is badly conditioned (`MAX_CONDITION`), it is damped
        (A A^T + e I), and thick slices are met approximately (`exact` is then False). The damping depends on the
        profile, not on the depth, so that a window of a volume is corrected like the whole volume.
        """
        return _correction(self, depth)

    def exact(self, depth: int) -> bool:
        """Whether `correction` reproduces the thick slices exactly."""
        return not self.supported(depth) or _damping(self) == 0.0

    def apply(self, thin: npt.NDArray[np.floating], *, axis: int = 0) -> Floats:
        """Simulate thick slices along `axis`, as many as have full support.

        Thin slices are numbered so that the first thick slice is centred on thin slice `reach`; see `centres`.

        Args:
            thin: any shape; `axis` holds thin slices.

        Returns:
            float32; `axis` holds `len(centres(thin.shape[axis]))` thick slices.

        >>> SliceProfile.mean(5).apply(np.arange(10.0)).round(4).tolist()
        [2.0, 7.0]
        """
        centres = self.centres(thin.shape[axis])
        moved = np.moveaxis(thin, axis, 0)
        thick = np.zeros((len(centres), *moved.shape[1:]), dtype=np.float32)
        for offset, weight in zip(range(-self.reach, self.reach + 1), self.weights, strict=True):
            if len(centres):
                # Ten thin slices at factor 5: centres 2 and 7; offset -2 takes thin slices 0 and 5, offset 2 takes
                # 4 and 9.
                begin = centres[0] + offset
                thick += (
                    np.float32(weight) * moved[begin : begin + len(centres) * self.factor : self.factor][: len(centres)]
                )
        return np.moveaxis(thick, 0, axis)

    def centres(self, thin_count: int) -> range:
        """Thin indices on which the thick slices of `apply` are centred.

        >>> SliceProfile.mean(5).centres(10), SliceProfile.mean(5).centres(4)
        (range(2, 8, 5), range(2, 2, 5))
        """
        return range(self.reach, max(self.reach, thin_count - self.reach), self.factor)


@dataclass(frozen=True)
class ProfileDensity:
    """A slice profile that does not depend on a grid: a density over the distance from the slice's centre.

    Attributes:
        offsets: distances in thick spacings, ascending.
        density: density there, >= 0, in any unit; linear between and zero outside.

    >>> ProfileDensity.box(1.0).integral(np.array([-1.0, 0.0, 0.25, 1.0])).tolist()
    [0.0, 0.5, 0.75, 1.0]
    """

    offsets: tuple[float, ...]
    density: tuple[float, ...]

    @classmethod
    def box(cls, width: float) -> ProfileDensity:
        """A box `width` thick spacings wide."""
        return cls((-0.5 * width, 0.5 * width), (1.0, 1.0))

    @property
    def reach(self) -> float:
        """Distance in thick spacings up to which the density may differ from zero."""
        return max(abs(self.offsets[0]), abs(self.offsets[-1]))

    def integral(self, at: Doubles) -> Doubles:
        """Integral of the density, made symmetric and normalised, up to distances in thick spacings: 0 to 1."""
        return 0.5 * (self._one_sided(at) + 1.0 - self._one_sided(-at))

    def _one_sided(self, at: Doubles) -> Doubles:
        antiderivative = make_interp_spline(self.offsets, self.density, k=1).antiderivative()
        low, high = antiderivative(self.offsets[0]), antiderivative(self.offsets[-1])
        return np.asarray((antiderivative(np.clip(at, self.offsets[0], self.offsets[-1])) - low) / (high - low))


def damping(gram: Doubles) -> float:
    """What is added to the diagonal of A A^T so that its condition number is at most `MAX_CONDITION`; 0 where it is.

    >>> damping(np.eye(3)), round(damping(np.diag([0.01, 1.0])), 4)
    (0.0, 0.0241)
    """
    eigenvalues = np.linalg.eigvalsh(gram)
    low, high = float(eigenvalues[0]), float(eigenvalues[-1])
    if high <= MAX_CONDITION * low:
        return 0.0
    # Every eigenvalue is raised by the same amount.
    return (high - MAX_CONDITION * low) / (MAX_CONDITION - 1.0)


def _check_factor(factor: int, **widths: float) -> None:
    """Refuse what makes no profile.

    Raises:
        UsageError: a factor that is not 1 to `LARGEST_FACTOR`, or a width that is not above 0 and at most `WIDEST`
            thick spacings.
        ArgumentTypeError: no numbers.
    """
    if not 1 <= check_whole("factor", factor) <= LARGEST_FACTOR:
        raise UsageError(f"A slice profile needs a factor from 1 to {LARGEST_FACTOR}, not {factor}.")
    for name, value in widths.items():
        width = check_number(name, value, "a number of thick spacings")
        if not 0 < width <= WIDEST:
            raise UsageError(f"The argument {name} takes thick spacings above 0 and up to {WIDEST:g}, not {width:g}.")


@lru_cache(maxsize=256)
def _damping(profile: SliceProfile) -> float:
    a = profile.matrix(DEEP + 2 * profile.supported(0).start)
    return damping(a @ a.T)


@lru_cache(maxsize=256)
def _correction(profile: SliceProfile, depth: int) -> Doubles:
    a = profile.matrix(depth)
    gram = a @ a.T + _damping(profile) * np.eye(a.shape[0])
    result = np.asarray(np.linalg.solve(gram, a).T if a.shape[0] else a.T, dtype=np.float64)
    result.setflags(write=False)
    return result
