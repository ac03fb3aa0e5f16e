"""What a run will take in memory, said before it starts."""

from __future__ import annotations

from dataclasses import dataclass

from thinslice.planning.windows import WindowPlan

RUNTIME_BYTES = 450 << 20
"""What the interpreter, torch, its kernels and the command line take before the first voxel (measured on Linux)."""

RETAINED_SHARE = 2.1
"""Peak over what the network needs at once: an allocator that keeps freed memory leaves holes between blocks of other
sizes. Chosen so that whole commands with ThinNet stay within what is stated (planes of 260 to 1024 pixels, 8 to 64
slices: the measured peak was 0.6 to 1.0 of it)."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes a run needs, by purpose.

    Attributes:
        thick_bytes: the thick volume, in memory already when the run starts.
        working_bytes: the network's working memory and output for one batch of windows; on an accelerator, there.
        slab_bytes: thick slices prepared for the network, and the buffers of thin slices under way.
        thin_bytes: the whole thin volume (and its standard deviations), when collected; 0 when slabs are streamed.
        runtime_bytes: interpreter and libraries.
    """

    thick_bytes: int
    working_bytes: int
    slab_bytes: int
    thin_bytes: int
    runtime_bytes: int = RUNTIME_BYTES

    @property
    def additional_bytes(self) -> int:
        """What the run takes beyond what is in memory when it starts."""
        return self.working_bytes + self.slab_bytes + self.thin_bytes

    @property
    def total_bytes(self) -> int:
        """Expected peak of the whole process."""
        return self.runtime_bytes + self.thick_bytes + self.additional_bytes


def estimate_memory(
    plan: WindowPlan,
    working_bytes: float,
    *,
    voxel_bytes: int = 2,
    batch: int = 1,
    collect: bool = False,
    channels: int = 1,
) -> MemoryEstimate:
    """Estimate the memory of a run.

    Args:
        plan: the windows.
        working_bytes: bytes of working memory per thick input voxel (`ModelWindow.working_bytes`).
        voxel_bytes: bytes per voxel of the thick volume and of the thin one: 2 for int16, 4 for float32.
        batch: windows per pass.
        collect: whether the whole thin volume is held (`upscale`) or streamed (`upscale_slabs`).
        channels: 2 where standard deviations (float32) are made beside the thin volume.

    >>> from thinslice.planning.windows import ModelWindow, plan_windows
    >>> plan = plan_windows((60, 512, 512), 5, ModelWindow(depth=4), "released")
    >>> estimate_memory(plan, 400.0).thick_bytes == 60 * 512 * 512 * 2
    True
    """
    depth, height, width = plan.shape
    plane = height * width
    fed_depth, fed_height, fed_width = plan.largest
    fed = batch * fed_depth * fed_height * fed_width
    given = batch * ((fed_depth - 1) * plan.factor + 1) * fed_height * fed_width
    # The buffer holds what one row of windows gives, and what the row before left unfinished; a finished slab is
    # there as float32 and, once rounded, in the output's type, and again on its way to the file.
    thin_rows = max(span.out_stop - span.out_start for span in plan.depths)
    averaged = 2 if plan.blend == "average" else 1
    slab = plane * (4 * fed_depth + thin_rows * (4 * averaged + 2 * voxel_bytes))
    # A second channel is float32 throughout, and the two are put together once.
    slab += (channels - 1) * plane * thin_rows * (4 * averaged + 8)
    given_bytes = 8 * given if channels == 1 else 16 * channels * given
    return MemoryEstimate(
        thick_bytes=depth * plane * voxel_bytes,
        # The output twice: the network's tensor, and the one it computes it from.
        working_bytes=int(RETAINED_SHARE * (fed * (working_bytes + 4) + given_bytes)),
        slab_bytes=slab,
        thin_bytes=plan.thin_shape[0] * plane * (voxel_bytes + 4 * (channels - 1)) if collect else 0,
    )
