/** 4 x 4 matrices by rows, from indices to mm. */

export type Affine = readonly number[];

export function times(a: Affine, b: Affine): number[] {
  const out = new Array<number>(16).fill(0);
  for (let r = 0; r < 4; r++) {
    for (let c = 0; c < 4; c++) for (let k = 0; k < 4; k++) out[4 * r + c] += a[4 * r + k] * b[4 * k + c];
  }
  return out;
}

export function diagonal(x: number, y: number, z: number): number[] {
  return [x, 0, 0, 0, 0, y, 0, 0, 0, 0, z, 0, 0, 0, 0, 1];
}

/** Length of column 0, 1 or 2. */
export function columnLength(affine: Affine, column: number): number {
  return Math.hypot(affine[column], affine[4 + column], affine[8 + column]);
}

/** Determinant of the upper left 3 x 3 part. */
export function determinant(a: Affine): number {
  return a[0] * (a[5] * a[10] - a[6] * a[9]) - a[1] * (a[4] * a[10] - a[6] * a[8]) + a[2] * (a[4] * a[9] - a[5] * a[8]);
}

/** The inverse of a matrix whose last row is 0, 0, 0, 1. */
export function inverse(a: Affine): number[] {
  const d = determinant(a);
  const out = [
    (a[5] * a[10] - a[6] * a[9]) / d,
    (a[2] * a[9] - a[1] * a[10]) / d,
    (a[1] * a[6] - a[2] * a[5]) / d,
    0,
    (a[6] * a[8] - a[4] * a[10]) / d,
    (a[0] * a[10] - a[2] * a[8]) / d,
    (a[2] * a[4] - a[0] * a[6]) / d,
    0,
    (a[4] * a[9] - a[5] * a[8]) / d,
    (a[1] * a[8] - a[0] * a[9]) / d,
    (a[0] * a[5] - a[1] * a[4]) / d,
    0,
    0,
    0,
    0,
    1,
  ];
  for (const row of [0, 1, 2]) {
    out[4 * row + 3] = -(out[4 * row] * a[3] + out[4 * row + 1] * a[7] + out[4 * row + 2] * a[11]);
  }
  return out;
}

/** The largest distance between the positions of one voxel under two matrices, over the corners of a grid. */
export function largestShiftMm(first: Affine, second: Affine, shape: readonly number[]): number {
  let largest = 0;
  for (let corner = 0; corner < 8; corner++) {
    const at = [0, 1, 2].map((axis) => ((corner >> axis) & 1) * (shape[axis] - 1));
    const apart = [0, 1, 2].map((row) =>
      [...at, 1].reduce((sum, index, c) => sum + (first[4 * row + c] - second[4 * row + c]) * index, 0),
    );
    largest = Math.max(largest, Math.hypot(...apart));
  }
  return largest;
}

/** Whether it gives every voxel a place of its own. */
export function isInvertible(affine: Affine): boolean {
  if (!affine.every(Number.isFinite)) return false;
  const lengths = [0, 1, 2].map((column) => columnLength(affine, column));
  return Math.min(...lengths) > 0 && Math.abs(determinant(affine)) / (lengths[0] * lengths[1] * lengths[2]) > 1e-3;
}
