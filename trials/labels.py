"""Ways to bring labels onto thin slices: volumes before and after, and agreement with labels of the thin slices.

    python trials/labels.py THIN.nii.gz [--factor 5] [--itk]

Thick slices are means of `factor` thin ones. Both are segmented by the same thresholds: 1 soft tissue, 2 lung, 3 bone,
4 vessels of the lung. The thick labels go onto the thin grid by copying the nearest slice, by signed distance alone
(what SimpleITK's distance maps give), by `thinslice.upscale_labels`, and with --itk by ITK's morphological contour
interpolation (package itk-morphologicalcontourinterpolation).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

from thinslice import Geometry, Volume, read, upscale_labels
from thinslice.evaluation.clinical.lung_density import find_lung
from thinslice.inference.labels import LabelAreas, Labels
from thinslice.inference.shapes import signed_distance
from thinslice.typing import Doubles

NAMES = {1: "soft tissue", 2: "lung", 3: "bone", 4: "vessels"}


def main() -> None:
    """Print one row for each way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("thin", type=Path)
    parser.add_argument("--factor", type=int, default=5)
    parser.add_argument("--itk", action="store_true")
    options = parser.parse_args()
    thin, factor = read(options.thin), options.factor
    depth = thin.shape[0] // factor
    means = thin.hu[: depth * factor].reshape(depth, factor, *thin.shape[1:]).mean(axis=1)
    step_mm, *pixel_mm = (step or 1.0 for step in thin.geometry.spacing_mm)
    thick = Volume(
        segmented(means, factor * step_mm * pixel_mm[0] * pixel_mm[1]).astype(np.int16),
        thin.geometry.respaced(factor * step_mm, depth),
    )
    grid = thick.geometry.thin_grid(factor)
    first = factor // 2
    truth = segmented(thin.hu, step_mm * pixel_mm[0] * pixel_mm[1])[first : first + grid.shape[0]]
    ways: dict[str, Callable[[Volume, Geometry], Labels]] = {
        "nearest slice": lambda labels, grid: labels.hu[(np.arange(grid.shape[0]) / factor + 0.5).astype(int)],
        "signed distance": by_distance,
        "thinslice": lambda labels, grid: upscale_labels(labels, grid).hu,
    }
    if options.itk:
        ways["ITK contours"] = by_itk
    print(f"| way | seconds | {' | '.join(NAMES.values())} |\n|---|---:|{'---|' * len(NAMES)}")
    for name, way in ways.items():
        begun = time.perf_counter()
        found = way(thick, grid)
        took = time.perf_counter() - begun
        cells = [compared(thick, grid, found, truth, label) for label in NAMES]
        print(f"| {name} | {took:.0f} | {' | '.join(cells)} |", flush=True)


def segmented(hu: Doubles, voxel_mm3: float) -> Labels:
    """Labels by thresholds, (depth, height, width)."""
    labels = np.zeros(hu.shape, np.uint8)
    body = np.stack([ndimage.binary_fill_holes(ndimage.binary_opening(plane > -300, iterations=2)) for plane in hu])
    labels[body] = 1
    lung = find_lung(hu, voxel_mm3)
    labels[lung] = 2
    smooth = ndimage.gaussian_filter(np.asarray(hu, dtype=np.float32), (0, 1, 1))
    pieces, count = ndimage.label(ndimage.binary_opening((smooth > 180) & body, np.ones((1, 2, 2))))
    large = np.bincount(pieces.ravel(), minlength=count + 1) * voxel_mm3 > 200.0
    large[0] = False
    labels[large[pieces]] = 3
    closed = np.stack([ndimage.binary_closing(plane, iterations=6) for plane in lung])
    labels[closed & ~lung & (hu > -500) & (labels != 3)] = 4
    return labels


def by_distance(labels: Volume, grid: Geometry) -> Labels:
    """Signed distance between slices, interpolated linearly, label by label."""
    factor = (grid.shape[0] - 1) // (labels.shape[0] - 1)
    pixel_mm = (grid.spacing_mm[1] or 1.0, grid.spacing_mm[2] or 1.0)
    found = np.zeros(grid.shape, np.uint8)
    for label in NAMES:
        shapes = labels.hu == label
        depths = [signed_distance(shape, pixel_mm) if shape.any() else np.full(shape.shape, -1e6) for shape in shapes]
        for index in range(grid.shape[0]):
            k, share = divmod(index / factor, 1.0)
            after = min(int(k) + 1, len(depths) - 1)
            found[index][(1 - share) * depths[int(k)] + share * depths[after] > 0] = label
    return found


def by_itk(labels: Volume, grid: Geometry) -> Labels:
    """ITK's morphological contour interpolation of labels with empty slices between them."""
    import itk

    factor = (grid.shape[0] - 1) // (labels.shape[0] - 1)
    sparse = np.zeros(grid.shape, np.uint8)
    sparse[::factor] = labels.hu
    return np.asarray(
        itk.array_from_image(itk.morphological_contour_interpolator(itk.image_from_array(sparse), axis=2))
    )


def compared(thick: Volume, grid: Geometry, found: Labels, truth: Labels, label: int) -> str:
    """Change of a label's volume in percent, and its overlap with the labels of the thin slices (Dice)."""
    reach_mm = (grid.shape[0] - 1) * grid.spacing_mm[0]
    before, after = LabelAreas(thick.geometry), LabelAreas(grid)
    for areas, planes in ((before, thick.hu), (after, found)):
        for plane in planes:
            areas.add(plane)
    change = 100.0 * (after.ml(label, reach_mm) / before.ml(label, reach_mm) - 1.0)
    ours, known = found == label, truth == label
    return f"{change:+.2f} %, {2 * np.sum(ours & known) / (ours.sum() + known.sum()):.3f}"


if __name__ == "__main__":
    main()
