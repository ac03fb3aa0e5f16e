/** Volumes that are too large for the graphics memory: shown with fewer rows and columns, and the page states it. */

import type { Grid, Vec3 } from './geometry';

/** Bytes of the textures of both volumes, the moments and the deviations when planes are reduced. */
export function textureBytes(thick: Vec3, thin: Vec3, hasDeviation: boolean, reduction: number): number {
  const plane = Math.ceil(thin[1] / reduction) * Math.ceil(thin[2] / reduction);
  // Thick HU of two bytes and moments of four; thin HU and deviations of two each.
  return plane * (thick[0] * 6 + thin[0] * (hasDeviation ? 4 : 2));
}

/**
 * Pixels of a row and of a column that become one: 1 where everything fits, else 2, 3, ...
 *
 * 1024 x 1024 x 600 with 120 thick slices takes 1.9 GiB, with 2 x 2 pixels as one 0.5 GiB.
 *
 * @param budgetBytes bytes that textures may take.
 * @param longest voxels that a texture may have along an axis.
 */
export function chooseReduction(
  thick: Vec3,
  thin: Vec3,
  hasDeviation: boolean,
  budgetBytes: number,
  longest: number,
): number {
  let reduction = 1;
  while (
    reduction < Math.min(thin[1], thin[2]) &&
    (textureBytes(thick, thin, hasDeviation, reduction) > budgetBytes ||
      Math.ceil(Math.max(thin[1], thin[2]) / reduction) > longest)
  ) {
    reduction++;
  }
  return reduction;
}

/** The grid after `reduction` x `reduction` pixels became one: the first centre moves by (reduction - 1) / 2 pixels. */
export function reducedGrid(grid: Grid, reduction: number): Grid {
  if (reduction === 1) return grid;
  const shift = (reduction - 1) / 2;
  const [, height, width] = grid.spacingMm;
  const move = (row: 0 | 1 | 2): number =>
    grid.originMm[row] + shift * ((height ?? 1) * grid.direction[row][1] + (width ?? 1) * grid.direction[row][2]);
  return {
    ...grid,
    shape: [grid.shape[0], Math.ceil(grid.shape[1] / reduction), Math.ceil(grid.shape[2] / reduction)],
    spacingMm: [
      grid.spacingMm[0],
      height === null ? null : height * reduction,
      width === null ? null : width * reduction,
    ],
    originMm: [move(0), move(1), move(2)],
  };
}

/**
 * Means of blocks of reduction x reduction pixels, rounded; blocks at the border hold fewer.
 *
 * @param slab (slices, height, width).
 */
export function reduceSlab(slab: Int16Array, height: number, width: number, reduction: number): Int16Array {
  if (reduction === 1) return slab;
  const slices = slab.length / (height * width);
  const [rows, columns] = [Math.ceil(height / reduction), Math.ceil(width / reduction)];
  const out = new Int16Array(slices * rows * columns);
  for (let slice = 0; slice < slices; slice++) {
    for (let row = 0; row < rows; row++) {
      const [top, bottom] = [row * reduction, Math.min((row + 1) * reduction, height)];
      for (let column = 0; column < columns; column++) {
        const [left, right] = [column * reduction, Math.min((column + 1) * reduction, width)];
        let sum = 0;
        for (let y = top; y < bottom; y++) {
          const line = (slice * height + y) * width;
          for (let x = left; x < right; x++) sum += slab[line + x];
        }
        out[(slice * rows + row) * columns + column] = Math.round(sum / ((bottom - top) * (right - left)));
      }
    }
  }
  return out;
}
