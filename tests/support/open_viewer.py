"""A viewer in a page of a browser, and values read back from it; what a page holds."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from thinslice.geometry import Geometry
from thinslice.pictures.viewer.page import grid_json, unpacked


@dataclass
class OpenViewer:
    """A viewer in a page, `window.viewer` there."""

    page: Any

    def values(self, call: str) -> npt.NDArray[np.float32]:
        """HU of an expression about `viewer` that gives a Float32Array; what is missing is NaN."""
        numbers = self.page.evaluate(f"Array.from({call}, (hu) => Number.isNaN(hu) ? null : hu)")
        return np.array([np.nan if number is None else number for number in numbers], np.float32)

    def column(self, mode: str, row: int, column: int, slices: int) -> npt.NDArray[np.float32]:
        """HU of a mode along the depth."""
        return self.values(f"viewer.valuesAlong('{mode}', [0, {row}, {column}], [1, 0, 0], {slices})")

    def set(self, part: str) -> None:
        """Change parts of the state and draw."""
        self.page.evaluate(f"viewer.set({part}); viewer.draw();")

    def state(self, name: str) -> Any:
        return self.page.evaluate(f"viewer.state.{name}")

    def add(self, volume: str, first: int, voxels: npt.NDArray[np.int16]) -> None:
        """Add slices."""
        self.page.evaluate(
            "([volume, first, voxels]) => viewer.addSlab(volume, first, Int16Array.from(voxels))",
            [volume, first, voxels.ravel().tolist()],
        )


def open_viewer(
    page: Any,
    thick: npt.NDArray[np.int16],
    thick_grid: Geometry,
    thin_grid: Geometry,
    thin: npt.NDArray[np.int16] | None = None,
    deviation: npt.NDArray[np.int16] | None = None,
    **options: Any,
) -> OpenViewer:
    """Open a viewer with whole volumes; one without slices is still to come."""
    page.evaluate(
        "(options) => { window.viewer = ThinsliceViewer.createViewer(document.body, options); viewer.focus(); }",
        {
            "thick": grid_json(thick_grid),
            "thin": grid_json(thin_grid),
            "hasThin": thin is not None,
            "hasDeviation": deviation is not None,
            **options,
        },
    )
    viewer = OpenViewer(page)
    for volume, voxels in (("thick", thick), ("thin", thin), ("deviation", deviation)):
        if voxels is not None and len(voxels):
            viewer.add(volume, 0, voxels)
    page.evaluate("viewer.draw()")
    return viewer


def held(html: str) -> tuple[dict[str, Any], dict[str, npt.NDArray[np.int16]]]:
    """Options and volumes that a page holds."""
    data = json.loads(re.search(r'id="thinslice-volumes">(.*?)</script>', html).group(1))  # type: ignore[union-attr]
    found: dict[str, list[npt.NDArray[np.int16]]] = {}
    for slab in data["slabs"]:
        text = re.search(rf"<!--{slab['name']}:([^<]*)-->", html).group(1)  # type: ignore[union-attr]
        shape = (slab["slices"], *data["options"]["thin"]["shape"][1:])
        found.setdefault(slab["volume"], []).append(unpacked(base64.b64decode(text), shape))
    return data["options"], {volume: np.concatenate(slabs) for volume, slabs in found.items()}
