"""Segmentation of a thin volume by a program of the user's, as a suite names it."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

from thinslice.errors import ModelError, UsageError
from thinslice.inference.labels import Labels, labels_on
from thinslice.io.files import read_as, write
from thinslice.io.settings import ReadSettings
from thinslice.recipes import Segmentation
from thinslice.volume import Volume


def segment(volume: Volume, segmentation: Segmentation, folder: Path) -> Labels:
    """Labels of a volume: it is written as NIfTI, the command runs, and what it wrote is read.

    The program gets voxels and grid, nothing of a header. It runs without a shell, in the present folder.

    Args:
        volume: thin slices, HU; an unknown spacing counts as 1 mm.
        segmentation: with the command.
        folder: what `{suite}` in the command stands for.

    Returns:
        (depth, height, width) whole numbers on the grid of the volume.

    Raises:
        UsageError: the program is not found; correct the command.
        ModelError: it failed, took too long, or wrote no labels; run it by hand on a thin volume.
        GeometryError, InputError: what it wrote does not lie on the volume's grid, or is no labels.
    """
    steps = tuple(1.0 if step is None else step for step in volume.geometry.spacing_mm)
    grid = replace(volume.geometry, spacing_mm=(steps[0], steps[1], steps[2]))
    called = f"The segmentation {segmentation.name!r}"
    with tempfile.TemporaryDirectory(prefix="thinslice-segmentation-") as place:
        given, wanted = Path(place) / "volume.nii.gz", Path(place) / "labels.nii.gz"
        write(Volume(volume.hu, grid), given)
        known = {"{volume}": str(given), "{labels}": str(wanted), "{suite}": str(folder)}
        words = list(segmentation.command)
        for name, text in known.items():
            words = [word.replace(name, text) for word in words]
        try:
            done = subprocess.run(words, capture_output=True, timeout=segmentation.timeout_s, check=False)
        except OSError as error:
            raise UsageError(f"{called} cannot be started: {words[0]!r} is not found; correct its command.") from error
        except subprocess.TimeoutExpired as error:
            raise ModelError(
                f"{called} took longer than {segmentation.timeout_s:g} s; raise its timeout_s, or use a faster program."
            ) from error
        if done.returncode != 0 or not wanted.is_file():
            what = f"ended with exit code {done.returncode}" if done.returncode else "wrote no {labels}"
            raise ModelError(f"{called} {what}; run its command by hand on a thin volume to find out why.")
        return labels_on(read_as(wanted, ReadSettings(axis=None)), grid)
