"""Input that a network takes, one axis of a window, and the memory of a pass."""

from __future__ import annotations

from dataclasses import dataclass, replace

HELD_SHARE = 1.1
"""Peak of a pass over what the network needs at once: freed blocks of one size leave holes for the next of another.
Varies from 0.8 to 1.4 between passes of one run (measured with ThinNet in torch)."""


@dataclass(frozen=True)
class ModelWindow:
    """Input that a network takes.

    Attributes:
        depth: number of thick slices in a window, or None for any from `min_depth` up.
        min_depth: fewest thick slices in a window.
        max_depth: thick slices in a window of the plan `overlap`, where the volume has as many; None for as many as
            fit. A network that pads with zeros does worse in windows deeper than the crops of its training. Without
            effect where `depth` is set.
        tile: preferred in-plane extent (height, width) of a window in pixels.
        halo: reach of the network's receptive field along (depth in thick slices, height, width in pixels): voxels
            farther away do not change an output voxel. Zeros where windows are used whole, as published.
        plan: name of the network's own window plan.
        working_bytes: bytes of working memory per thick input voxel and forward pass, for the estimate before the
            start; without the output.
        thin_bytes: bytes of working memory per thin voxel, for networks that hold several thin volumes at once; without
            the output.
        in_pieces_bytes: replaces `working_bytes` where torch runs the network on a CPU without gradients, in place and
            a piece at a time; None where that needs no less.
    """

    depth: int | None = None
    min_depth: int = 2
    max_depth: int | None = None
    tile: tuple[int, int] = (256, 256)
    halo: tuple[int, int, int] = (0, 0, 0)
    plan: str = "overlap"
    working_bytes: float = 400.0
    thin_bytes: float = 0.0
    in_pieces_bytes: float | None = None

    def run_by(self, backend: str, device: str) -> ModelWindow:
        """The same input with the `working_bytes` of a backend on a device.

        >>> ModelWindow(working_bytes=100.0, in_pieces_bytes=30.0).run_by("torch", "cpu").working_bytes
        30.0
        """
        if backend == "torch" and device == "cpu" and self.in_pieces_bytes is not None:
            return replace(self, working_bytes=self.in_pieces_bytes)
        return self


@dataclass(frozen=True)
class Span:
    """One axis of a window.

    Attributes:
        start, stop: range that is read of the thick volume, half-open, inside the volume.
        pad: slices (replicas of the last) or pixels (by reflection) that are appended for the network.
        out_start, out_stop: range of the thin volume that the window gives, half-open.
        trim: index in the network's output at which that range begins.

    Examples:
        Along depth at factor 5, a window reads thick slices [2, 6). The network returns (4 - 1) * 5 + 1 = 16 thin
        slices, of which the first is thin slice 2 * 5 = 10. Thin slices [13, 18) are taken, so `trim` is 13 - 10 = 3
        and `kept` is [3, 8).

    >>> span = Span(start=2, stop=6, pad=0, out_start=13, out_stop=18, trim=3)
    >>> span.extent, span.out, span.kept
    (4, slice(13, 18, None), slice(3, 8, None))
    """

    start: int
    stop: int
    pad: int
    out_start: int
    out_stop: int
    trim: int

    @property
    def extent(self) -> int:
        """Extent of the network's input, padding included."""
        return self.stop - self.start + self.pad

    @property
    def out(self) -> slice:
        """Range of the result in the thin volume."""
        return slice(self.out_start, self.out_stop)

    @property
    def kept(self) -> slice:
        """Range of the result in the network's output."""
        return slice(self.trim, self.trim + self.out_stop - self.out_start)


def pass_bytes(
    extent: tuple[int, int, int],
    factor: int,
    working_bytes: float,
    *,
    thin_bytes: float = 0.0,
    batch: int = 1,
    channels: int = 1,
) -> int:
    """Peak memory of one pass through a network in bytes, input and output included.

    Args:
        extent: the network's input, (depth, height, width).
        factor: thin slices per thick interval.
        working_bytes, thin_bytes: as in `ModelWindow`.
        batch: windows per pass.
        channels: 2 where standard deviations are made beside the thin slices.
    """
    depth, height, width = extent
    fed = batch * depth * height * width
    made = batch * ((depth - 1) * factor + 1) * height * width
    # The heads' own tensors are not counted: they come when those of the body are free again.
    return int(HELD_SHARE * (fed * (working_bytes + 4) + (4 * channels + thin_bytes) * made))
