"""Estimate of the memory that a run needs, before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thinslice.planning.spans import pass_bytes
from thinslice.planning.windows import WindowPlan

RUNTIME_BYTES = 300 << 20
"""Memory of the interpreter, torch and the command line before the first voxel (measured on Linux)."""

KERNEL_BYTES = 112 << 20
"""Memory of a network's weights, its compiled kernels, and the pieces that it processes at a time."""

BACKEND_SHARE = {"openvino": 0.91}
"""Memory of a pass in another backend as a share of torch's: torch leaves holes between blocks that it frees."""

ELEMENT_BYTES, SLICE_BYTES = 500, 60_000
"""Memory of one element of a DICOM header, and of what is kept beside the elements of one slice (measured: runs over
200 to 2,000 slices of 32 x 32 with 30 to 85 elements took 339 to 540 MiB, and 340 to 555 are stated)."""

WAITING_BYTES = 96 << 20
"""Finished slabs that may wait to be written while the next ones are made."""

SLAB_BYTES = 8 << 20
"""Thin slices are finished, and handed to writers, in slabs of about this many bytes, counted as float32: large enough
for a call to cost nothing, small enough for writer, preview and report to need little memory."""


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a run needs, by purpose.

    Attributes:
        thick_bytes: the thick volume, in memory already when the run starts.
        working_bytes: the network's working memory and output for one batch of windows; on an accelerator, its memory.
        slab_bytes: thin slices on their way from the network to the file.
        thin_bytes: the whole thin volume (and its standard deviations), when collected; 0 when slabs are streamed.
        runtime_bytes: interpreter and libraries.
        header_bytes: headers of a DICOM source, in memory already when the run starts.
    """

    thick_bytes: int
    working_bytes: int
    slab_bytes: int
    thin_bytes: int
    runtime_bytes: int
    header_bytes: int = 0

    @property
    def additional_bytes(self) -> int:
        """Bytes beyond those in use when the run starts."""
        return self.working_bytes + self.slab_bytes + self.thin_bytes

    @property
    def total_bytes(self) -> int:
        """Expected peak of the whole process in bytes."""
        return self.runtime_bytes + self.header_bytes + self.thick_bytes + self.additional_bytes


def estimate_memory(
    plan: WindowPlan,
    working_bytes: float,
    *,
    thin_bytes: float = 0.0,
    voxel_bytes: int = 2,
    batch: int = 1,
    collect: bool = False,
    channels: int = 1,
    backend: str = "torch",
    learned: bool = True,
    header_elements: Sequence[int] = (),
) -> MemoryEstimate:
    """The memory that a run needs.

    Args:
        plan: the windows.
        working_bytes: bytes of working memory per thick input voxel (`ModelWindow.working_bytes`).
        thin_bytes: the same per thin voxel (`ModelWindow.thin_bytes`).
        voxel_bytes: bytes per voxel of the thick volume and of the thin one: 2 for int16, 4 for float32.
        batch: windows per pass.
        collect: whether the whole thin volume is held (`upscale`) or streamed (`upscale_slabs`).
        channels: 2 where standard deviations (float32) are made beside the thin volume.
        backend: name of the backend that runs the network.
        learned: whether the network has weights, and is no interpolation.
        header_elements: elements of the DICOM header of each slice; none for another source.

    >>> from thinslice.planning import ModelWindow, plan_windows
    >>> plan = plan_windows((60, 512, 512), 5, ModelWindow(depth=4), "released")
    >>> estimate_memory(plan, 400.0).thick_bytes == 60 * 512 * 512 * 2
    True
    """
    depth, height, width = plan.shape
    plane = height * width
    # The buffer holds the thin slices of one row of windows; finished slabs are under way to the file beside it.
    thin_rows = max(span.out_stop - span.out_start for span in plan.depths)
    under_way = 2 * channels * max(SLAB_BYTES, 4 * plane)
    for each_bytes in (voxel_bytes, *(4 for _ in range(channels - 1))):
        under_way += min(WAITING_BYTES, thin_rows * plane * each_bytes)
    taken = pass_bytes(plan.largest, plan.factor, working_bytes, thin_bytes=thin_bytes, batch=batch, channels=channels)
    working = int(BACKEND_SHARE.get(backend, 1.0) * taken)
    buffer = 4 * channels * thin_rows * plane
    slabs = buffer + under_way
    if len(plan.windows) == 1 and not thin_bytes:
        # Nothing is finished before the only pass is over; then only its output is left of its memory, as large as the
        # buffer. (Where several thin volumes were held, holes are left beside it.)
        slabs = max(0, buffer + slabs - working)
    return MemoryEstimate(
        thick_bytes=depth * plane * voxel_bytes,
        working_bytes=working,
        slab_bytes=slabs,
        thin_bytes=plan.thin_shape[0] * plane * (voxel_bytes + 4 * (channels - 1)) if collect else 0,
        runtime_bytes=RUNTIME_BYTES + learned * KERNEL_BYTES,
        header_bytes=ELEMENT_BYTES * sum(header_elements) + SLICE_BYTES * len(header_elements),
    )
