"""Write viewer/test/fixture.json: small synthetic volumes and what the package makes of them, for the viewer's tests.

    python tools/viewer_fixture.py           # writes the file
    python tools/viewer_fixture.py --check   # exit 1 where the file is not what the package gives

The viewer's arithmetic (TypeScript, and the same again in its shader) is compared with these values, so that what the
viewer shows as linear and cubic is what `thinslice upscale --model linear` and `--model cubic` make.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline

import thinslice
from thinslice.geometry import AXIAL_DIRECTION, Geometry, nearest_thick
from thinslice.intensity import WINDOW_MAX_HU, WINDOW_MIN_HU

FILE = Path(__file__).parents[1] / "viewer" / "test" / "fixture.json"

PADDING_HU = -2000
DECIMALS = 3


def grid(geometry: Geometry) -> dict[str, Any]:
    """A grid as the viewer takes it."""
    return {
        "shape": geometry.shape,
        "spacingMm": geometry.spacing_mm,
        "originMm": geometry.origin_mm,
        "direction": geometry.direction,
    }


def phantom(depth: int, height: int, width: int) -> np.ndarray[Any, Any]:
    """A sphere in air with metal, noise and padding at a corner; (depth, height, width) HU, whole numbers."""
    random = np.random.default_rng(depth)
    place = np.meshgrid(*(np.linspace(-1, 1, n) for n in (depth, height, width)), indexing="ij")
    hu = np.where(sum(axis**2 for axis in place) < 0.8, 40.0, -1000.0) + random.normal(0, 25, (depth, height, width))
    hu[depth // 2, 1, 1] = 3000
    hu[depth // 2 + 1, 1, 1] = 2500
    hu[1, 1, 2] = 2600
    hu[:, 0, 0] = PADDING_HU
    hu[0, 0, 1] = PADDING_HU
    return np.round(hu)


def whole_factor(name: str, depth: int, factor: int) -> dict[str, Any]:
    """A case at a whole factor: what upscaling by interpolation makes of the phantom, in float32."""
    hu = phantom(depth, 4, 5).astype(np.float32)
    thick = thinslice.Volume(hu, Geometry(hu.shape, (float(factor), 0.7, 0.8), (-20.0, -30.0, 100.0)))
    thick = replace(thick, provenance=replace(thick.provenance, padding_hu=float(PADDING_HU)))
    made = {model: thinslice.upscale(thick, model=model, factor=factor) for model in ("linear", "cubic")}
    return case(name, thick.geometry, made["cubic"].geometry, hu, factor) | {
        "paddingHu": PADDING_HU,
        **{model: rounded(volume.hu) for model, volume in made.items()},
    }


def own_spacing(name: str, depth: int, ratio: float) -> dict[str, Any]:
    """A case whose thin slices lie at a distance of their own: the spline through the thick slices at their places."""
    direction = ((0.0, 0.6, -0.8), (0.0, 0.8, 0.6), (1.0, 0.0, 0.0))
    hu = np.clip(phantom(depth, 4, 5), -1000, 1000)
    thick = Geometry(hu.shape, (ratio, 0.7, 0.7), (10.0, 20.0, -30.0), direction)
    thin = thick.respaced(1.0, int((depth - 1) * ratio) + 1)
    at = np.arange(thin.shape[0]) / ratio
    return case(name, thick, thin, hu, ratio) | {
        "paddingHu": None,
        "linear": rounded(np.stack([_linear(hu, float(place)) for place in at])),
        "cubic": rounded(
            np.clip(CubicSpline(np.arange(depth), hu, bc_type="not-a-knot")(at), WINDOW_MIN_HU, WINDOW_MAX_HU)
        ),
    }


def _linear(hu: np.ndarray[Any, Any], place: float) -> np.ndarray[Any, Any]:
    below = min(int(place), len(hu) - 2)
    return hu[below] * (1 - place + below) + hu[below + 1] * (place - below)


def case(name: str, thick: Geometry, thin: Geometry, hu: np.ndarray[Any, Any], factor: float) -> dict[str, Any]:
    """What every case holds."""
    return {
        "name": name,
        "thickGrid": grid(thick),
        "thinGrid": grid(thin),
        "thick": hu.astype(int).ravel().tolist(),
        "nearest": [
            min(nearest_thick(index, int(factor) if factor == int(factor) else factor), len(hu) - 1)
            for index in range(thin.shape[0])
        ],
    }


def rounded(values: np.ndarray[Any, Any]) -> list[float]:
    """Values in one list, (depth, height, width) order."""
    return [float(value) for value in np.round(np.asarray(values, dtype=np.float64), DECIMALS).ravel()]


def fixture() -> str:
    """The file's content."""
    cases = [
        whole_factor("factor 4: thin slices halfway between thick ones", 9, 4),
        whole_factor("factor 5", 6, 5),
        whole_factor("factor 3 of three thick slices", 3, 3),
        whole_factor("factor 2 of four thick slices", 4, 2),
        own_spacing("3.75 mm to 1 mm, oblique", 8, 3.75),
    ]
    axial = Geometry((4, 3, 2), (5.0, 0.7, 0.8), (1.0, 2.0, 3.0), AXIAL_DIRECTION)
    positions = [
        {"grid": grid(some), "index": index, "positionMm": some.position_mm(index)}
        for some in (axial, replace(axial, direction=((0.0, 0.6, -0.8), (0.0, 0.8, 0.6), (1.0, 0.0, 0.0))))
        for index in ((0.0, 0.0, 0.0), (1.5, 2.0, 1.0))
    ]
    return json.dumps({"cases": cases, "positions": positions}, separators=(",", ":")) + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        current = FILE.is_file() and FILE.read_text() == fixture()
        sys.exit(0 if current else f"{FILE.name} is out of date: run python tools/viewer_fixture.py")
    FILE.write_text(fixture())
