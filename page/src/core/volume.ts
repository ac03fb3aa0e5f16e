/** A thick volume: voxels, grid, and what a user should know (`thinslice.volume` in Python). */

import { positionOf, type Grid, type Vec3 } from '../../../viewer/src/core/geometry';
import type { Voxels } from './intensity';

/** How a file states positions, so that the result states them alike. */
export interface Orientations {
  readonly sformCode: number;
  readonly qformCode: number;
  /** From the world of the orientation that is used to that of the other, where they differ; RAS mm, 4 x 4 by rows. */
  readonly otherWorld: readonly number[] | null;
}

/** The file's axis for depth, height and width. */
export type FileAxes = readonly [number, number, number];

export interface Volume {
  /** (depth, height, width) HU. */
  readonly hu: Voxels;
  readonly grid: Grid;
  /** Extent over which a slice averages, mm; null where unknown. */
  readonly thicknessMm: number | null;
  readonly paddingHu: number | null;
  readonly axes: FileAxes;
  readonly isAxisAmbiguous: boolean;
  readonly orientations: Orientations;
  /** Sentences about the file. */
  readonly warnings: readonly string[];
}

/**
 * The grid with `factor` thin slices per thick interval: thick slice k lies where thin slice factor * k lies.
 *
 * At factor 5, 60 thick slices of 5 mm become (60 - 1) * 5 + 1 = 296 thin ones of 1 mm.
 */
export function thinGrid(thick: Grid, factor: number): Grid {
  const [depth, height, width] = thick.shape;
  const [step, ...plane] = thick.spacingMm;
  return { ...thick, shape: [(depth - 1) * factor + 1, height, width], spacingMm: [step / factor, ...plane] };
}

/** 4 x 4 by rows from a file's indices to RAS mm; the grid's depth, height and width are the file's `axes`. */
export function affineInFileOrder(grid: Grid, axes: FileAxes): number[] {
  const affine = new Array<number>(16).fill(0);
  affine[15] = 1;
  const signs: Vec3 = [-1, -1, 1];
  for (const row of [0, 1, 2] as const) {
    for (const axis of [0, 1, 2] as const) {
      affine[4 * row + axes[axis]] = signs[row] * grid.direction[row][axis] * (grid.spacingMm[axis] ?? 1);
    }
    affine[4 * row + 3] = signs[row] * grid.originMm[row];
  }
  return affine;
}

/** Voxels along the file's axes 0, 1 and 2. */
export function shapeInFileOrder(grid: Grid, axes: FileAxes): [number, number, number] {
  const shape: [number, number, number] = [0, 0, 0];
  axes.forEach((fileAxis, axis) => (shape[fileAxis] = grid.shape[axis]));
  return shape;
}

/** The same volume with its rows in reverse order. */
export function rowsReversed(volume: Volume): Volume {
  const { grid, hu } = volume;
  const [depth, height, width] = grid.shape;
  const turned = hu instanceof Int16Array ? new Int16Array(hu.length) : new Float32Array(hu.length);
  for (let k = 0; k < depth; k++) {
    for (let y = 0; y < height; y++) {
      const from = (k * height + height - 1 - y) * width;
      turned.set(hu.subarray(from, from + width), (k * height + y) * width);
    }
  }
  const [d0, d1, d2] = grid.direction;
  const row = ([d, h, w]: Vec3): Vec3 => [d, -h, w];
  return {
    ...volume,
    hu: turned,
    grid: {
      ...grid,
      originMm: positionOf(grid, [0, height - 1, 0]),
      direction: [row(d0), row(d1), row(d2)],
    },
  };
}
