"""What a network wants to be fed, one axis of a window, and what a pass takes in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

HELD_SHARE = 1.1
"""Peak of a pass over what the network needs at once: freed blocks of one size leave holes for the next of another.
Varies from 0.8 to 1.4 between passes of one run (measured with ThinNet in torch)."""


@dataclass(frozen=True)
class ModelWindow:
    """What a network wants to be fed.

    Attributes:
        depth: the number of thick slices it takes, or None for any from `min_depth` up.
        min_depth: the fewest thick slices it takes.
        max_depth: how many a window in `overlap` holds where the volume has them, or None for as many as fit. A
            network that pads with zeros does worse in windows deeper than the crops it was trained on. Without effect
            where `depth` is set.
        tile: preferred in-plane extent (height, width) of a window in pixels.
        halo: reach of the network's receptive field along (depth in thick slices, height, width in pixels): voxels
            farther away do not change an output voxel. Zeros where windows are used whole, as published.
        plan: name of the plan it is meant to run under.
        working_bytes: bytes of working memory per thick input voxel and forward pass, for the estimate said before
            the start; does not count the output.
        thin_bytes: the same per thin voxel, for networks that hold several thin volumes at once; the output is not
            counted here either.
        in_pieces_bytes: in place of `working_bytes` where torch runs the network on a CPU without gradients, if it then
            works in place and a piece at a time; None where that takes no less.
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
        """As a backend on a device runs it: with the `working_bytes` it takes there.

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
        start, stop: what is read of the thick volume, half-open, inside the volume.
        pad: how many slices (replicas of the last) or pixels (by reflection) are added behind it for the network.
        out_start, out_stop: what the window gives of the thin volume, half-open.
        trim: where that begins in the network's output.
    """

    start: int
    stop: int
    pad: int
    out_start: int
    out_stop: int
    trim: int

    @property
    def extent(self) -> int:
        """What the network is fed, padding included."""
        return self.stop - self.start + self.pad

    @property
    def out(self) -> slice:
        """Where the result lies in the thin volume."""
        return slice(self.out_start, self.out_stop)

    @property
    def kept(self) -> slice:
        """Where it lies in the network's output."""
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
    """Memory that one pass through a network takes at its peak, input and output included.

    Args:
        extent: of a window as it is fed, (depth, height, width).
        factor: thin slices per thick interval.
        working_bytes, thin_bytes: as in `ModelWindow`.
        batch: windows per pass.
        channels: 2 where standard deviations are made beside the thin slices.
    """
    depth, height, width = extent
    fed = batch * depth * height * width
    given = batch * ((depth - 1) * factor + 1) * height * width
    # What the heads hold beside their output comes when the body's tensors are free again.
    return int(HELD_SHARE * (fed * (working_bytes + 4) + (4 * channels + thin_bytes) * given))
