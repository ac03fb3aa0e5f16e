"""Export of a network to an ONNX file, compared with torch before the file gets its name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from thinslice.about import NOTICE, __version__
from thinslice.commands.outputs import check_place
from thinslice.errors import ModelError, ShapeError, UsageError
from thinslice.inference.prepare import WIDEST_TRAINED
from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU, WINDOW_WIDTH_HU
from thinslice.options import option
from thinslice.planning import MAX_FACTOR, MIN_FACTOR
from thinslice.profile import SliceProfile
from thinslice.system.atomic import atomic_file
from thinslice.typing import Floats, Notify

if TYPE_CHECKING:
    from thinslice.models.base import ThroughPlaneModel
    from thinslice.models.graphs.onnx_export import Recording

SUFFIX = ".onnx"

FORMAT = 1
"""Version of the metadata's keys."""

TOLERANCE_HU = 0.01
"""Largest accepted difference between the file, run by onnxruntime, and torch."""

COMPARED_PLANE = (37, 42)
"""Height and width of the windows on which an open graph is compared: one odd, one even."""

COMPARED_DEPTHS = (2, 3, 9)
"""Depths of these windows: no thick slice, one, and several have their whole profile inside."""

COMPARED_WIDTHS = (1.0, 1.5, 2.0)
"""Thickness of slices over their distance; above 1 A A^T is no diagonal, at 2 it is damped."""

USUAL_DEPTH = 4
"""Thick slices of a fixed graph's window, for a network that takes any number."""

USUAL_PLANE = 256
"""Side in pixels of a fixed graph's window, for a network whose windows may be larger."""


@dataclass(frozen=True)
class ExportJob:
    """A network, and the file to write.

    Attributes:
        model: a name of the catalog, or a weights file.
        target: ONNX file to write.
        factor: thin slices per thick interval; None for the network's own.
        depth, plane: thick slices, and side in pixels, of the windows of a fixed graph; None for the network's own.
        uncertainty: whether the graph also gives standard deviations.
        all_inputs: whether every input of an open graph must be given.
        overwrite: replace a file that exists.
    """

    model: str
    target: Path
    factor: int | None = None
    depth: int | None = None
    plane: int | None = None
    uncertainty: bool = False
    all_inputs: bool = False
    overwrite: bool = False


def run_export(job: ExportJob, *, notify: Notify | None = None) -> dict[str, Any]:
    """Write a network as an ONNX file, unless onnxruntime and torch differ by more than `TOLERANCE_HU`.

    Args:
        job: network and file.
        notify: called with one plain line before each step that takes seconds.

    Returns:
        The metadata in the file, JSON values.

    Raises:
        UsageError: an unknown network, another suffix, options that the network has no use for, or the extra `onnx`
            is not installed.
        ModelError: the network cannot be recorded, has no head for standard deviations, or its file differs from torch.
        OutputError: the file exists or cannot be written.
    """
    from thinslice.models.graphs import onnx_export
    from thinslice.models.load import load_model

    if job.target.suffix.lower() != SUFFIX:
        raise UsageError(f"{job.target.name!r} must end in {SUFFIX}, the one format that networks are exported to.")
    check_place(job.target, overwrite=job.overwrite)
    onnx_export.load_packages()
    model = load_model(job.model)
    name = str((getattr(model, "card", None) or {}).get("name") or Path(job.model).stem)
    recording = recorded_as(model, job, name)
    if notify is not None:
        notify(f"{name}: recording the graph")
    graph = onnx_export.to_onnx(model, recording, name=name)
    values = metadata(model, recording, name)
    if notify is not None:
        notify(f"{name}: comparing onnxruntime with torch")
    with atomic_file(job.target, overwrite=job.overwrite) as partial:
        values["agreement_hu"] = compare(graph.SerializeToString(), model, recording, name)
        onnx_export.write_metadata(graph, values, summary=f"thinslice {__version__}, network {name}. {NOTICE}")
        partial.write_bytes(graph.SerializeToString())
    return values


def recorded_as(model: ThroughPlaneModel, job: ExportJob, name: str) -> Recording:
    """What a job makes part of the graph.

    Raises:
        UsageError: a window for a graph that takes any.
        ShapeError: a factor or depth that the network cannot do; the message lists those that it can.
        ModelError: standard deviations of a network without a head for them.
    """
    from thinslice.inference.deviation import with_uncertainty
    from thinslice.models.graphs.onnx_export import Recording, is_open

    factor = model.default_factor if job.factor is None else job.factor
    if factor not in model.factors:
        able = ", ".join(str(each) for each in sorted(model.factors))
        raise ShapeError(f"{name} cannot do factor {factor}; it can do {able}.")
    scale = with_uncertainty(model, "learned", name=name)[1].scale if job.uncertainty else None
    if is_open(model):
        if job.depth is not None or job.plane is not None:
            raise UsageError(
                f"The graph of {name} takes any number of slices and any plane; leave {option('depth')} and "
                f"{option('plane')} out."
            )
        return Recording(factor, None, scale, job.all_inputs)
    window = model.window
    depth = job.depth or window.depth or max(window.min_depth, min(USUAL_DEPTH, window.max_depth or USUAL_DEPTH))
    if depth < window.min_depth or (window.depth is not None and depth != window.depth):
        takes = f"{window.depth}" if window.depth is not None else f"{window.min_depth} or more"
        raise ShapeError(f"{name} takes {takes} thick slices, not {depth}; change {option('depth')}.")
    height, width = (job.plane or min(USUAL_PLANE, side) for side in window.tile)
    return Recording(factor, (depth, height, width))


def metadata(model: ThroughPlaneModel, recording: Recording, name: str) -> dict[str, Any]:
    """What a program needs that runs the file without thinslice, JSON values.

    docs/reference/onnx.md describes the keys.
    """
    card: dict[str, Any] = getattr(model, "card", None) or {}
    config: Any = getattr(model, "config", None)
    is_open, window = recording.shape is None, model.window
    factors = sorted(model.factors) if is_open else [recording.factor]
    values: dict[str, Any] = {
        "format": FORMAT,
        "thinslice": __version__,
        "name": name,
        "version": str(card.get("version") or __version__),
        "architecture": type(model).__name__.lower(),
        "config": {} if config is None else config.model_dump(mode="json"),
        "weights_sha256": getattr(model, "sha256", None),
        "weights_licence": card.get("weights_licence"),
        "window_hu": [WINDOW_MIN_HU, WINDOW_MAX_HU],
        "factors": factors,
        "default_factor": recording.factor,
        "any_depth_and_plane": is_open,
        "window_shape": None if recording.shape is None else list(recording.shape),
        "min_depth": window.min_depth,
        "tile": list(window.tile),
        "halo": list(window.halo),
        "consistent": model.consistent,
        "widest_slice": float(card.get("widest_slice", WIDEST_TRAINED)),
        "deviation": None if recording.scale is None else dict(card.get("deviation") or {}).get("calibration") or {},
        "summary": card.get("summary"),
        "limits": card.get("limits"),
        "notice": NOTICE,
    }
    if is_open:
        from thinslice.models.thinnet_config import description

        values["inputs_by_factor"] = {
            str(factor): {field: value.tolist() for field, value in description(factor)._asdict().items()}
            for factor in factors
            if MIN_FACTOR <= factor <= MAX_FACTOR
        }
    return values


def compare(graph: bytes, model: ThroughPlaneModel, recording: Recording, name: str) -> float:
    """Largest difference in HU between a graph, run by onnxruntime on the CPU, and the network, run by torch.

    Raises:
        ModelError: it is more than `TOLERANCE_HU`, or onnxruntime cannot run the graph; nothing should use it.
    """
    from thinslice.models.graphs.onnx_export import load_packages

    _, onnxruntime = load_packages()
    try:
        session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        largest = max(
            float(np.abs(ours - theirs).max()) * WINDOW_WIDTH_HU
            for inputs, expected in _cases(model, recording)
            for ours, theirs in zip(session.run(None, inputs), expected, strict=True)
        )
    # The runtime raises errors of its own types, which have no common base.
    except Exception as error:
        raise ModelError(
            f"onnxruntime cannot run the graph of {name} ({str(error).splitlines()[0][:160]}); it is not written."
        ) from error
    if not largest <= TOLERANCE_HU:  # written so that NaN fails too
        raise ModelError(
            f"The graph of {name} differs from torch by {largest:.2g} HU, more than {TOLERANCE_HU}; it is not written."
        )
    return round(largest, 6)


def _cases(model: ThroughPlaneModel, recording: Recording) -> Iterator[tuple[dict[str, Floats], tuple[Floats, ...]]]:
    """Inputs of the graph, and what torch makes of the same; the same seed each time.

    The thick slices are noise of about 100 HU around -256 HU, more than in most scans.
    """
    import torch

    from thinslice.models.graphs.onnx_export import THICK
    from thinslice.models.thinnet_config import description

    rng = np.random.default_rng(0)

    def noise(*shape: int) -> Floats:
        values: Floats = np.clip(0.25 + 0.03 * rng.standard_normal((1, 1, *shape), dtype=np.float32), 0.0, 1.0)
        return values

    def by_torch(thick: Floats, factor: int, profile: SliceProfile) -> tuple[Floats, ...]:
        with torch.inference_mode():
            x = torch.from_numpy(thick)
            if recording.scale is None:
                results = [model(x, factor=factor, profile=profile)]
            else:
                thin, deviation = model.with_deviation(x, factor=factor, profile=profile)
                results = [thin, recording.scale * deviation]
            return tuple(result.numpy() for result in results)

    if recording.shape is not None:
        thick = noise(*recording.shape)
        yield {THICK: thick}, by_torch(thick, recording.factor, SliceProfile.mean(recording.factor))
        return
    for factor in sorted(model.factors):
        for depth, width in zip(COMPARED_DEPTHS, COMPARED_WIDTHS, strict=True):
            thick = noise(depth, *COMPARED_PLANE)
            profile = SliceProfile.mean(factor, width=width)
            inputs = {THICK: thick, **description(factor, profile)._asdict()}
            yield inputs, by_torch(thick, factor, profile)
    if not recording.all_inputs:
        thick = noise(COMPARED_DEPTHS[-1], *COMPARED_PLANE)
        yield {THICK: thick}, by_torch(thick, recording.factor, SliceProfile.mean(recording.factor))
