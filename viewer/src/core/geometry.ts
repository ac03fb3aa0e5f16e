/**
 * Where voxels lie: the same facts as `thinslice.geometry` in Python, with the same axis order.
 *
 * Axis order (depth, height, width); world coordinates are LPS millimetres (x to the patient's left, y to posterior,
 * z to superior).
 */

export type Vec3 = readonly [number, number, number];

/** Array axis: 0 depth, 1 height, 2 width. */
export type Axis = 0 | 1 | 2;

/** The sampling grid of a volume. */
export interface Grid {
  /** Voxels along (depth, height, width). */
  readonly shape: Vec3;
  /** Distance of voxel centres along (depth, height, width), mm; an in-plane one that the source does not state is null. */
  readonly spacingMm: readonly [number, number | null, number | null];
  /** LPS (x, y, z) of the centre of voxel [0, 0, 0]. */
  readonly originMm: Vec3;
  /** 3 x 3, row-major; its columns are the LPS unit vectors of the depth, height and width axes. */
  readonly direction: readonly [Vec3, Vec3, Vec3];
}

/** Two grids lie on one another when their voxels are closer than this, mm. */
export const REGISTRATION_TOLERANCE_MM = 0.1;

/** A grid, or a pair of grids, that the viewer cannot show. */
export class GridError extends Error {
  override readonly name = 'GridError';
}

/** Distances of voxel centres, mm; an unknown one counts as 1 mm. */
export function stepsMm(grid: Grid): Vec3 {
  const [depth, height, width] = grid.spacingMm;
  return [depth, height ?? 1, width ?? 1];
}

/** Whether distances in the plane are known. */
export function isPlaneKnown(grid: Grid): boolean {
  return grid.spacingMm[1] !== null && grid.spacingMm[2] !== null;
}

/** LPS unit vector along which an array axis runs. */
export function axisVector(grid: Grid, axis: Axis): Vec3 {
  return [grid.direction[0][axis], grid.direction[1][axis], grid.direction[2][axis]];
}

export function dot(a: Vec3, b: Vec3): number {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

/** LPS position of a voxel centre given by (depth, height, width) index, which may be fractional. */
export function positionOf(grid: Grid, index: Vec3): Vec3 {
  const steps = stepsMm(grid);
  const along = (row: 0 | 1 | 2): number =>
    grid.originMm[row] +
    grid.direction[row][0] * steps[0] * index[0] +
    grid.direction[row][1] * steps[1] * index[1] +
    grid.direction[row][2] * steps[2] * index[2];
  return [along(0), along(1), along(2)];
}

/** Fractional (depth, height, width) index of an LPS position; the inverse of `positionOf`, as axes are orthonormal. */
export function indexAt(grid: Grid, positionMm: Vec3): Vec3 {
  const steps = stepsMm(grid);
  const offset: Vec3 = [
    positionMm[0] - grid.originMm[0],
    positionMm[1] - grid.originMm[1],
    positionMm[2] - grid.originMm[2],
  ];
  const along = (axis: Axis): number => dot(offset, axisVector(grid, axis)) / steps[axis];
  return [along(0), along(1), along(2)];
}

/** Index with each component moved into [0, voxels - 1]. */
export function clampIndex(grid: Grid, index: Vec3): Vec3 {
  const inside = (axis: Axis): number => Math.min(Math.max(index[axis], 0), grid.shape[axis] - 1);
  return [inside(0), inside(1), inside(2)];
}

/** Place of thin slices among thick ones: thin slice j lies at thick index `start + step * j`. */
export interface DepthMap {
  readonly start: number;
  readonly step: number;
}

/**
 * How the depth of two grids corresponds, by origin and spacing, so that no whole factor is needed.
 *
 * At factor 5 thin slice 35 lies at thick index 0 + 0.2 * 35 = 7. Slices of 1 mm out of 3.75 mm have the step 0.2667.
 *
 * @throws GridError when rows and columns of the two do not lie on one another.
 */
export function depthMap(thick: Grid, thin: Grid): DepthMap {
  if (thick.shape[1] !== thin.shape[1] || thick.shape[2] !== thin.shape[2]) {
    throw new GridError('The thick and the thin volume have different numbers of rows or columns.');
  }
  const start = indexAt(thick, thin.originMm)[0];
  const step = stepsMm(thin)[0] / stepsMm(thick)[0];
  const [rows, columns] = [thin.shape[1] - 1, thin.shape[2] - 1];
  for (const [row, column] of [
    [0, 0],
    [0, columns],
    [rows, 0],
  ] as const) {
    for (const slice of [0, thin.shape[0] - 1]) {
      const there = positionOf(thin, [slice, row, column]);
      const expected = positionOf(thick, [start + step * slice, row, column]);
      if (
        Math.hypot(there[0] - expected[0], there[1] - expected[1], there[2] - expected[2]) > REGISTRATION_TOLERANCE_MM
      ) {
        throw new GridError('The thick and the thin volume do not lie on one grid of rows and columns.');
      }
    }
  }
  return { start, step };
}

/**
 * Check a grid that comes from outside.
 *
 * @throws GridError with the fault.
 */
export function checkGrid(grid: Grid): void {
  const [depth, height, width] = grid.shape;
  if (![depth, height, width].every((extent) => Number.isInteger(extent) && extent >= 1)) {
    throw new GridError('A volume needs at least one voxel along each axis.');
  }
  if (!stepsMm(grid).every((step) => Number.isFinite(step) && step > 0)) {
    throw new GridError('The distance of voxels must be positive.');
  }
  for (const a of [0, 1, 2] as const) {
    for (const b of [0, 1, 2] as const) {
      const product = dot(axisVector(grid, a), axisVector(grid, b));
      if (!(Math.abs(product - (a === b ? 1 : 0)) < 1e-3)) {
        throw new GridError('The axes of the volume are not orthonormal; resample it first.');
      }
    }
  }
}
