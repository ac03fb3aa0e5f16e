/** Distances, profiles and how numbers are written. */

import { positionOf, stepsMm, type Grid, type Vec3 } from './geometry';

/** A line between two places, fractional (depth, height, width) indices on the thin grid. */
export interface Line {
  readonly from: Vec3;
  readonly to: Vec3;
}

/** Length of a line, mm. */
export function lengthMm(grid: Grid, line: Line): number {
  const [a, b] = [positionOf(grid, line.from), positionOf(grid, line.to)];
  return Math.hypot(b[0] - a[0], b[1] - a[1], b[2] - a[2]);
}

/** Slices of a slab that is as thick as asked, at least one: 5 mm of slices 1 mm apart are 5. */
export function slabSteps(thicknessMm: number, stepMm: number): number {
  return Math.min(Math.max(Math.round(thicknessMm / stepMm), 1), MOST_SLAB_STEPS);
}

/** Most samples of a slab that a view takes. */
export const MOST_SLAB_STEPS = 256;

/** Depths of a profile, mm from the first slice: one a thin slice. */
export function profileDepthsMm(grid: Grid): readonly number[] {
  const step = stepsMm(grid)[0];
  return Array.from({ length: grid.shape[0] }, (_, slice) => slice * step);
}

/** A number with a true minus sign and at most so many decimals: -0.04 with one decimal is '0'. */
export function written(value: number, decimals = 0): string {
  const rounded = Number(value.toFixed(decimals));
  return (Object.is(rounded, -0) ? 0 : rounded).toFixed(decimals).replace('-', '\u2212');
}

/** LPS position in words of its letters: 'L 12.3, P 4.0, H 101.5 mm'. */
export function positionText(positionMm: Vec3): string {
  const letters = [
    ['L', 'R'],
    ['P', 'A'],
    ['H', 'F'],
  ] as const;
  const parts = positionMm.map((mm, axis) => `${letters[axis][mm >= 0 ? 0 : 1]} ${Math.abs(mm).toFixed(1)}`);
  return `${parts.join(', ')} mm`;
}

/** Round values for axes that cover a range: at most `most` of them. */
export function niceTicks(low: number, high: number, most = 5): readonly number[] {
  const span = Math.max(high - low, 1e-6);
  const power = 10 ** Math.floor(Math.log10(span / most));
  const step = power * ([1, 2, 5, 10].find((nice) => span / (power * nice) <= most) ?? 10);
  const ticks: number[] = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high + 1e-9; tick += step) ticks.push(Number(tick.toFixed(9)));
  return ticks;
}
