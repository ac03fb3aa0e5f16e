"""Raw volumes for a viewer, written as slabs come, so that slices can be looked at while the run goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from thinslice.errors import OutputError, ResourceError
from thinslice.service.folder import read_json
from thinslice.service.schemas import VolumeView
from thinslice.system.atomic import output_errors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from thinslice.geometry import Geometry
    from thinslice.inference.upscale import Slab
    from thinslice.volume import Volume

NAMES = ("thick", "thin", "uncertainty")

UNCERTAINTY_SCALE = 1 / 16
"""HU of one step of a stored standard deviation."""

BYTES_PER_VOXEL = 2


class RawVolumes:
    """Writes NAME.i16 and NAME.json into a folder: a `thinslice.commands.upscale.Watcher`.

    Args:
        folder: is emptied first; remains of a killed attempt may lie there.
        uncertainty: whether standard deviations will come.
    """

    def __init__(self, folder: Path, *, uncertainty: bool) -> None:
        self.folder = folder
        self._uncertainty = uncertainty
        self._files: dict[str, BinaryIO] = {}

    def begin(self, thick: Volume, thin: Geometry) -> None:
        """Write the thick volume, and the grids of what will come."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with output_errors(self.folder):
            self.folder.mkdir()
            padding_hu = thick.provenance.padding_hu
            self._open("thick", thick.geometry, padding_hu=padding_hu)
            self._open("thin", thin, padding_hu=padding_hu)
            if self._uncertainty:
                self._open("uncertainty", thin, UNCERTAINTY_SCALE)
            for plane in thick.hu:
                self._write("thick", plane, 1.0)

    def add(self, slab: Slab) -> None:
        """Write finished slices."""
        with output_errors(self.folder):
            self._write("thin", slab.hu, 1.0)
            if slab.deviation_hu is not None and self._uncertainty:
                self._write("uncertainty", slab.deviation_hu, UNCERTAINTY_SCALE)

    def close(self) -> None:
        """Close the files; they stay."""
        for file in self._files.values():
            file.close()

    def _open(self, name: str, grid: Geometry, scale: float = 1.0, *, padding_hu: float | None = None) -> None:
        described = {
            "name": name,
            "shape": grid.shape,
            "spacing_mm": grid.spacing_mm,
            "origin_mm": grid.origin_mm,
            "direction": grid.direction,
            "thickness_mm": grid.thickness_mm,
            "scale": scale,
            "padding_hu": padding_hu,
        }
        (self.folder / f"{name}.json").write_text(json.dumps(described), encoding="utf-8")
        # Unbuffered: what was written can be fetched at once.
        self._files[name] = (self.folder / f"{name}.i16").open("wb", buffering=0)

    def _write(self, name: str, values: npt.NDArray[Any], scale: float) -> None:
        import numpy as np

        limits = np.iinfo(np.int16)
        steps = values if scale == 1.0 else values / scale
        stored = np.clip(np.rint(steps), limits.min, limits.max).astype("<i2")
        written = self._files[name].write(stored.tobytes())
        if written != stored.nbytes:
            raise ResourceError("The disk of the data folder is full; free some space.")


def described(folder: Path) -> list[VolumeView]:
    """The volumes in a folder, with the number of slices that are there already."""
    found = []
    for name in NAMES:
        values, path = read_json(folder / f"{name}.json"), folder / f"{name}.i16"
        if values is None or not path.is_file():
            continue
        _, height, width = values["shape"]
        ready = path.stat().st_size // (height * width * BYTES_PER_VOXEL)
        found.append(VolumeView(**values, ready_slices=ready))
    return found


def grid_of(view: VolumeView) -> Geometry:
    """The grid of a raw volume."""
    from thinslice.geometry import Geometry

    x, y, z = view.direction  # rows
    return Geometry(view.shape, view.spacing_mm, view.origin_mm, (x, y, z), view.thickness_mm)


def voxels_of(folder: Path, view: VolumeView) -> npt.NDArray[np.int16]:
    """The stored numbers of a complete raw volume, (depth, height, width), read as they are used."""
    import numpy as np

    return np.memmap(folder / f"{view.name}.i16", "<i2", "r", shape=view.shape)


def byte_range(view: VolumeView, start: int, stop: int | None) -> tuple[int, int]:
    """First byte and number of bytes of slices start to stop of a volume, which must be there.

    >>> view = VolumeView(name="thin", shape=(9, 2, 3), spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0),
    ...     direction=((0, 0, 1), (0, 1, 0), (1, 0, 0)), ready_slices=4)
    >>> byte_range(view, 1, 3), byte_range(view, 2, None)
    ((12, 24), (24, 24))
    """
    stop = view.ready_slices if stop is None else stop
    if not 0 <= start < stop <= view.ready_slices:
        raise OutputError(f"Slices {start} to {stop} are not there; {view.ready_slices} are ready.")
    plane = view.shape[1] * view.shape[2] * BYTES_PER_VOXEL
    return start * plane, (stop - start) * plane
