"""Measurements of models on phantoms with known nodules, slanted edges and noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.data.phantoms.nodule_field import NoduleField, nodule_field
from thinslice.data.phantoms.slanted_edge import MATERIALS_HU, distance_mm, slanted_edge
from thinslice.data.phantoms.thorax import thick_from
from thinslice.evaluation.clinical import edges as clinical_edges
from thinslice.evaluation.clinical import nodules, noise_spectrum
from thinslice.typing import Notify
from thinslice.volume import Volume

NOISE_HU = 20.0
"""Standard deviation of the noise in a thin slice's soft tissue; 16 in lung."""

POSITIONS, CROPPED_POSITIONS = 6, 2
"""Places within a thick slice for each kind of nodule, diameter and setting; the second in a cropped field."""

EDGE_REACH_MM = 20.0
"""Distance to either side of a slanted edge over which its spread is measured."""

_MARGIN = 12
"""Pixels at a slanted edge's border that are left out."""

Upscaler = Callable[[Volume], npt.NDArray[Any]]


def phantom_results(
    methods: Mapping[str, Upscaler],
    factor: int,
    *,
    seed: int = 0,
    pixels: int | None = None,
    notify: Notify | None = None,
) -> list[dict[str, Any]]:
    """Nodules, edges and noise of truth, thick slices and methods.

    Args:
        methods: label -> function from a thick volume to thin HU at this factor.
        factor: thin slices per thick interval; thin slices are 1 mm.
        seed: of the phantoms.
        pixels: height and width of the nodule field, for slow methods; None for all of it.
        notify: called with lines about the progress.

    Returns:
        A dictionary for each row, truth and thick slices first: `method`, `factor`, `thick_mm`, `nodules` (one by one),
        `nodule_summary`, `nodules_missing`, `noise`, `edges`.
    """
    edges = {
        name: (thick_from(slanted_edge(name, noise_hu=NOISE_HU, seed=seed).volume, factor), hu)
        for name, hu in MATERIALS_HU.items()
    }
    return [
        {
            **row,
            "edges": {
                name: _edge(row["method"], _made(row["method"], methods, *pair, factor), *pair, hu)
                for name, (pair, hu) in edges.items()
            },
        }
        for row in _nodule_rows(methods, factor, seed=seed, pixels=pixels, notify=notify)
    ]


def nodule_results(
    methods: Mapping[str, Upscaler],
    factor: int,
    *,
    seed: int = 0,
    pixels: int | None = None,
    notify: Notify | None = None,
) -> list[dict[str, Any]]:
    """The field of nodules alone; arguments and rows as for `phantom_results`, without `edges`."""
    return list(_nodule_rows(methods, factor, seed=seed, pixels=pixels, notify=notify))


def _nodule_rows(
    methods: Mapping[str, Upscaler], factor: int, *, seed: int, pixels: int | None, notify: Notify | None
) -> Iterator[dict[str, Any]]:
    """Rows of truth, thick slices and methods, one at a time."""
    notify = notify or (lambda line: None)
    field = (
        nodule_field(seed, thick_mm=float(factor), positions=POSITIONS)
        if pixels is None
        else nodule_field(seed, thick_mm=float(factor), positions=CROPPED_POSITIONS, pixels=max(pixels, 112))
    )
    scans = [
        thick_from(field.scan(nodules=with_nodules, noise_hu=NOISE_HU, draw=draw), factor)
        for with_nodules, draw in ((True, 0), (False, 0), (False, 1))
    ]
    truths: list[float | None] = []
    for label in ("truth", "thick", *methods):
        if label in methods:
            notify(f"  {label}")
        made = [_made(label, methods, thick, thin, factor) for thick, thin in scans]
        found = _nodules(made, scans[0][1], field, factor, seed)
        truths = truths or [nodule["detectability"] for nodule in found["nodules"]]
        # Nodule by nodule: every row has the same noise at the same filters.
        for nodule, known in zip(found["nodules"], truths, strict=True):
            own = nodule["detectability"]
            nodule["detectability_percent"] = None if own is None or not known else 100.0 * own / known
        found["nodule_summary"] = nodules.summary(found["nodules"])
        yield {"method": label, "factor": factor, "thick_mm": float(factor), **found}


def _made(label: str, methods: Mapping[str, Upscaler], thick: Volume, thin: Volume, factor: int) -> npt.NDArray[Any]:
    if label == "truth":
        return thin.hu
    if label == "thick":
        return clinical_edges.straight_between(thick.hu, factor)
    return methods[label](thick)


def _nodules(made: list[npt.NDArray[Any]], truth: Volume, field: NoduleField, factor: int, seed: int) -> dict[str, Any]:
    grid = truth.geometry
    begin = round(field.grid.index_at(grid.origin_mm)[0])
    inside = slice(begin, begin + grid.shape[0])
    known = field.full[inside] - field.empty[inside]
    lung = field.lung[inside]
    with_nodules, without, again = (hu.astype(np.float32) for hu in made)
    noise = (again - without) / np.float32(np.sqrt(2.0))
    found = nodules.measure_nodules(
        with_nodules - without,
        known,
        noise,
        lung,
        field.nodules,
        grid,
        thick_mm=float(factor),
        first_mm=grid.origin_mm[2],
        seed=seed,
    )
    wall = field.empty[inside] > 0.0
    steps = tuple(float(step or 1.0) for step in grid.spacing_mm)
    return {
        "nodules": [result.to_json() for result in found],
        "nodules_missing": field.missing + len(field.nodules) - len(found),
        "noise": {
            "lung_sd_hu": nodules.noise_sd(noise, lung),
            "soft_sd_hu": nodules.noise_sd(noise, wall),
            "power": noise_spectrum.noise_power(noise, lung, (steps[0], steps[1], steps[2])),
        },
    }


def _edge(label: str, hu: npt.NDArray[Any], thick: Volume, thin: Volume, levels: tuple[float, float]) -> dict[str, Any]:
    """Spread and rise of a slanted edge; of thick slices at their own places, without interpolation."""
    volume = thick if label == "thick" else Volume(np.asarray(hu, dtype=np.float32), thin.geometry)
    away = distance_mm(volume.geometry)
    inner = (slice(None), slice(_MARGIN, -_MARGIN), slice(_MARGIN, -_MARGIN))
    at, spread = clinical_edges.spread_function(volume.hu[inner], away[inner], reach_mm=EDGE_REACH_MM)
    return {
        "rise_mm": clinical_edges.rise_mm(at, spread, low=levels[0], high=levels[1]),
        "at_mm": at.tolist(),
        "hu": [round(float(value), 2) for value in spread],
        "levels_hu": list(levels),
    }
