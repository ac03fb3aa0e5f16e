/**
 * What every view shows, in plain arithmetic: the reference of the shader (`src/gl/shader.ts`), line by line.
 *
 * Every mode has a value at each voxel of the thin grid. Between voxels all modes are mixed alike, so that views, swipe
 * and differences agree by construction; only `thick` keeps its steps along the depth.
 */

import type { DepthMap, Vec3 } from './geometry';
import { splineValue } from './spline';

/** What a view shows. */
export type Mode = 'thick' | 'linear' | 'cubic' | 'thin' | 'difference' | 'deviation';

/** Modes in the order of the numbers that the shader knows them by. */
export const MODES: readonly Mode[] = ['thick', 'linear', 'cubic', 'thin', 'difference', 'deviation'];

/** The networks' window, HU: what `thinslice.intensity` maps to [0, 1]. */
export const NETWORK_WINDOW_HU = [-1024, 2048] as const;

/** Thick distances and thin slices that are a rounding error of positions. */
export const POSITION_TOLERANCE = 1e-4;

/** Voxels of the volumes on their grids, (depth, height, width). */
export interface Voxels {
  /** Voxels of the thick volume along (depth, height, width). */
  readonly thickShape: Vec3;
  readonly thick: ArrayLike<number>;
  /** Second derivatives along the depth of the thick volume inside the networks' window; from `moments`. */
  readonly moments: ArrayLike<number>;
  readonly thinShape: Vec3;
  /** HU, or null where there is no thin volume. */
  readonly thin: ArrayLike<number> | null;
  /** Standard deviations in steps of `deviationStepHu`, or null. */
  readonly deviation: ArrayLike<number> | null;
  readonly deviationStepHu: number;
  readonly depth: DepthMap;
  /** HU that marks padding, or null. */
  readonly paddingHu: number | null;
}

/** HU moved into the networks' window. */
export function insideWindow(hu: number): number {
  return Math.min(Math.max(hu, NETWORK_WINDOW_HU[0]), NETWORK_WINDOW_HU[1]);
}

/** HU as the networks take it: inside their window, padding as air. */
export function networkInput(hu: number, paddingHu: number | null): number {
  return paddingHu !== null && hu === paddingHu ? NETWORK_WINDOW_HU[0] : insideWindow(hu);
}

/** Which two thick slices a thin one lies between: `below` and `below + 1`, at `share` of the way. */
export interface Between {
  readonly below: number;
  readonly share: number;
  /** The nearest thick slice; halfway between two, the upper one (`thinslice.geometry.nearest_thick`). */
  readonly nearest: number;
  /** Whether the thin slice lies halfway. */
  readonly halfway: boolean;
}

/**
 * Place of a thin slice among thick ones, or null where it lies more than half a thick distance beyond the outermost.
 *
 * At factor 4 thin slice 6 lies at 1.5: below 1, share 0.5, nearest 2, halfway.
 */
export function between(depth: DepthMap, thickSlices: number, thinSlice: number): Between | null {
  const at = depth.start + depth.step * thinSlice;
  if (at < -0.5 - POSITION_TOLERANCE || at > thickSlices - 0.5 + POSITION_TOLERANCE) return null;
  const inside = Math.min(Math.max(at, 0), thickSlices - 1);
  const below = Math.min(Math.floor(inside + POSITION_TOLERANCE), Math.max(thickSlices - 2, 0));
  const share = Math.min(Math.max(inside - below, 0), 1);
  const nearest = Math.min(Math.floor(inside + 0.5 + POSITION_TOLERANCE), thickSlices - 1);
  return { below, share, nearest, halfway: Math.abs(share - 0.5) < POSITION_TOLERANCE };
}

/**
 * Value of a mode at a voxel of the thin grid, or null where there is none.
 *
 * `linear` and `cubic` are what the package's models of these names make: interpolated inside the networks' window;
 * then what the thick voxels have beyond it is added (`thinslice.inference.restore`), and padding stays padding.
 *
 * @param index whole (depth, height, width) index on the thin grid.
 */
export function voxelValue(voxels: Voxels, mode: Mode, index: Vec3): number | null {
  const [slice, row, column] = index;
  const plane = voxels.thinShape[1] * voxels.thinShape[2];
  const inPlane = row * voxels.thinShape[2] + column;
  if (mode === 'thin') return voxels.thin === null ? null : voxels.thin[slice * plane + inPlane];
  if (mode === 'deviation') {
    return voxels.deviation === null ? null : voxels.deviation[slice * plane + inPlane] * voxels.deviationStepHu;
  }
  if (mode === 'difference') {
    const thin = voxelValue(voxels, 'thin', index);
    const cubic = voxelValue(voxels, 'cubic', index);
    return thin === null || cubic === null ? null : thin - cubic;
  }
  const place = between(voxels.depth, voxels.thickShape[0], slice);
  if (place === null) return null;
  const nearest = voxels.thick[place.nearest * plane + inPlane];
  if (mode === 'thick' || (voxels.paddingHu !== null && nearest === voxels.paddingHu)) return nearest;
  const lower = place.below * plane + inPlane;
  const upper = Math.min(place.below + 1, voxels.thickShape[0] - 1) * plane + inPlane;
  const [y0, y1] = [voxels.thick[lower], voxels.thick[upper]];
  const [c0, c1] = [networkInput(y0, voxels.paddingHu), networkInput(y1, voxels.paddingHu)];
  const { share } = place;
  const made =
    mode === 'linear'
      ? c0 * (1 - share) + c1 * share
      : insideWindow(splineValue(share, c0, c1, voxels.moments[lower], voxels.moments[upper]));
  const [e0, e1] = [excess(y0, voxels.paddingHu), excess(y1, voxels.paddingHu)];
  const owned = place.halfway ? e0 !== 0 && e1 !== 0 : (place.nearest === place.below ? e0 : e1) !== 0;
  return owned ? made + e0 * (1 - share) + e1 * share : made;
}

/** What a thick voxel has beyond the networks' window, HU; padding has nothing. */
function excess(hu: number, paddingHu: number | null): number {
  return paddingHu !== null && hu === paddingHu ? 0 : hu - insideWindow(hu);
}

/**
 * Value of a mode at any place, mixed from the voxels of the thin grid around it; null outside, or where a voxel with
 * weight has no value.
 *
 * @param index fractional (depth, height, width) index on the thin grid.
 */
export function sample(voxels: Voxels, mode: Mode, index: Vec3): number | null {
  if (index.some((at, axis) => at < -0.5 || at > voxels.thinShape[axis] - 0.5)) return null;
  if (mode === 'difference') {
    const [thin, cubic] = [sample(voxels, 'thin', index), sample(voxels, 'cubic', index)];
    return thin === null || cubic === null ? null : thin - cubic;
  }
  const corners = index.map((at, axis): readonly [number, number][] => {
    const inside = Math.min(Math.max(at, 0), voxels.thinShape[axis] - 1);
    if (axis === 0 && mode === 'thick') return [[Math.floor(inside + 0.5), 1]];
    const low = Math.floor(inside + POSITION_TOLERANCE);
    const share = inside - low;
    return share < POSITION_TOLERANCE
      ? [[low, 1]]
      : [
          [low, 1 - share],
          [low + 1, share],
        ];
  });
  let total = 0;
  for (const [slice, a] of corners[0]) {
    for (const [row, b] of corners[1]) {
      for (const [column, c] of corners[2]) {
        const value = voxelValue(voxels, mode, [slice, row, column]);
        if (value === null) return null;
        total += a * b * c * value;
      }
    }
  }
  return total;
}
