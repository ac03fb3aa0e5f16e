"""Share of a run's work that is done, also inside one window: many volumes are a single window."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

from thinslice.inference.backends.base import Backend
from thinslice.planning import WindowPlan
from thinslice.typing import Floats, Progress

STEPS = 12
"""Parts of a network whose ends are counted, at least; deeper ones are counted until there are so many."""

MOST_OF_A_PASS = 0.98
"""Share of a pass that an estimate may reach before the pass ends."""

TICK_S = 1.0
"""Time between two estimates."""


class WorkShare:
    """Runs a network and reports the share of all windows' voxels that is done.

    Within a pass torch reports each part of the network that ends. A backend that runs the network as one graph reports
    nothing, so the share is estimated from the time that earlier passes took, or the golden case.

    Args:
        plan: the windows.
        model: the network, whose parts torch runs.
        network: the network, ready to run.
        report: called with the share, 0 to 1, never less than before; None to report nothing.
        progress: called with the windows done and their total.
        seconds_per_voxel: time that a thick voxel is expected to take, where it is known.
    """

    def __init__(
        self,
        plan: WindowPlan,
        model: Any,
        network: Backend,
        report: Callable[[float], None] | None,
        *,
        progress: Progress | None = None,
        seconds_per_voxel: float | None = None,
    ) -> None:
        extents = [window.shape[0] * window.shape[1] * window.shape[2] for window in plan.windows]
        self._voxels = [0, *accumulate(extents)]
        self._model = model
        self._network = network
        self._report = report
        self._progress = progress
        self._windows = 0
        self._share = 0.0
        self._seconds_per_voxel = seconds_per_voxel

    def infer(self, windows: Floats) -> Floats:
        """The network's output for windows (batch, 1, D, H, W), as the backend gives it."""
        if self._report is None:
            return self._network(windows)
        begun = time.perf_counter()
        is_graph = self._network.choice.backend != "torch"
        with self._estimated(windows.size) if is_graph else self._counted(windows.size):
            thin = self._network(windows)
        if self._windows:
            # The first pass of a graph holds its compilation.
            self._seconds_per_voxel = (time.perf_counter() - begun) / windows.size
        return thin

    def windows_done(self, done: int, total: int) -> None:
        """Note that so many windows are done, those without the network included."""
        self._windows = done
        self._advance(self._voxels[done])
        if self._progress is not None:
            self._progress(done, total)

    def _advance(self, voxels: float) -> None:
        self._share = max(self._share, voxels / self._voxels[-1])
        if self._report is not None:
            self._report(self._share)

    @contextmanager
    def _counted(self, voxels: int) -> Iterator[None]:
        """Report each part of the network that ends, as torch runs them one after the other."""
        parts, ended = network_parts(self._model), 0
        passes = 1 + len(getattr(self._model, "MIRRORED", ()))  # of an ensemble
        before = self._voxels[self._windows]

        def end(*_: Any) -> None:
            nonlocal ended
            ended += 1
            self._advance(before + voxels * min(MOST_OF_A_PASS, ended / (passes * len(parts))))

        hooks = [part.register_forward_hook(end) for part in parts]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def _estimated(self, voxels: int) -> Iterator[None]:
        """Report the time that has passed, as a share of what the pass is expected to take."""
        expected_s = 0.0 if self._seconds_per_voxel is None else self._seconds_per_voxel * voxels
        begun, before, ended = time.perf_counter(), self._voxels[self._windows], threading.Event()

        def tick() -> None:
            while not ended.wait(TICK_S):
                passed = (time.perf_counter() - begun) / expected_s
                self._advance(before + voxels * min(MOST_OF_A_PASS, passed))

        clock = threading.Thread(target=tick, name="progress", daemon=True)
        if expected_s > 2 * TICK_S:
            clock.start()
        try:
            yield
        finally:
            ended.set()
            if clock.is_alive():
                clock.join()


def network_parts(model: Any) -> list[Any]:
    """Modules of a network that run one after the other: children, and theirs, until there are `STEPS` or no more."""
    parts = [model]
    while len(parts) < STEPS:
        deeper = [child for part in parts for child in (list(part.children()) or [part])]
        if deeper == parts:
            break
        parts = deeper
    return parts
