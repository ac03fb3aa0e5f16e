/** Whether every slice fits its neighbours and is one of its own (`thinslice.continuity` in Python, in its words). */

import type { Voxels } from './intensity';

const BLOCKS = 8;
const LEAST_PIXELS = 8;
const SAMPLES = 16;
const COMPARED_HU = [-1024, 1500] as const;
const FLOOR_HU = 30;
const [UNLIKE_INSIDE, UNLIKE_AT_END] = [2.5, 4] as const;
const SHOWN = 3;

type Shape = readonly [number, number, number];

/** What a user should know about slices that do not fit their neighbours, or that repeat one. */
export function continuityWarnings(hu: Voxels, shape: Shape): string[] {
  const warnings: string[] = [];
  const unlike = unlikeSlices(hu, shape);
  if (unlike.length > 0) {
    const worst = Math.max(...unlike.map(({ ratio }) => ratio)).toFixed(1);
    warnings.push(
      `${unlike.length} slice(s) differ from their neighbours far more than these from each other (number ` +
        `${listed(unlike.map(({ sliceIndex }) => sliceIndex))}, counted from 0; up to ${worst} times as much), as ` +
        'where pixels are damaged or a slice belongs elsewhere; look at them before you trust the result.',
    );
  }
  const repeated = repeatedSlices(hu, shape);
  if (repeated.length > 0) {
    warnings.push(
      `${repeated.length} slice(s) hold exactly the voxels of the slice before (number ${listed(repeated)}, ` +
        'counted from 0), which no scanner makes: slices may have been lost, or copied to fill a gap.',
    );
  }
  return warnings;
}

/** The slices that do not fit their neighbours; none of fewer than four slices. */
export function unlikeSlices(
  hu: Voxels,
  shape: Shape,
): readonly { readonly sliceIndex: number; readonly ratio: number }[] {
  const [depth] = shape;
  if (depth < 4) return [];
  const { near, far } = distances(hu, shape);
  const ratioOf = (one: Float64Array, other: Float64Array, over: Float64Array): number =>
    one.reduce((most, value, i) => Math.max(most, Math.min(value, other[i]) / (over[i] + FLOOR_HU)), 0);
  return Array.from({ length: depth }, (_, k) => {
    if (k === 0) return { ratio: ratioOf(near[0], far[0], near[1]), limit: UNLIKE_AT_END };
    if (k === depth - 1) return { ratio: ratioOf(near[k - 1], far[k - 2], near[k - 2]), limit: UNLIKE_AT_END };
    return { ratio: ratioOf(near[k - 1], near[k], far[k - 1]), limit: UNLIKE_INSIDE };
  }).flatMap(({ ratio, limit }, sliceIndex) => (ratio > limit ? [{ sliceIndex, ratio }] : []));
}

/** The slices that hold the voxels of the slice before; none where all slices are alike, as in a phantom. */
export function repeatedSlices(hu: Voxels, [depth, height, width]: Shape): readonly number[] {
  const plane = height * width;
  const found: number[] = [];
  for (let k = 1; k < depth; k++) {
    const [before, slice] = [hu.subarray((k - 1) * plane, k * plane), hu.subarray(k * plane, (k + 1) * plane)];
    let [isSame, isFlat] = [true, true];
    for (let i = 0; i < plane && isSame; i++) {
      isSame = slice[i] === before[i];
      if (slice[i] !== slice[0]) isFlat = false;
    }
    if (isSame && !isFlat) found.push(k);
  }
  return found.length < depth - 1 ? found : [];
}

/** Mean absolute differences by block: of neighbours, and of slices two apart. */
function distances(
  hu: Voxels,
  [depth, height, width]: Shape,
): { readonly near: readonly Float64Array[]; readonly far: readonly Float64Array[] } {
  const steps = [height, width].map((size) => Math.max(1, Math.floor(size / (BLOCKS * SAMPLES))));
  const sizes = [Math.ceil(height / steps[0]), Math.ceil(width / steps[1])];
  const counts = sizes.map((size) => Math.min(BLOCKS, Math.max(1, Math.floor(size / LEAST_PIXELS))));
  const blockOf = sizes.map((size, axis) => {
    const starts = Array.from({ length: counts[axis] }, (_, i) => Math.floor((i * size) / counts[axis]));
    return Int32Array.from({ length: size }, (_, at) => starts.filter((start) => start <= at).length - 1);
  });
  const between = (one: number, other: number): Float64Array => {
    const [sums, pixels] = [new Float64Array(counts[0] * counts[1]), new Float64Array(counts[0] * counts[1])];
    for (let y = 0; y < sizes[0]; y++) {
      for (let x = 0; x < sizes[1]; x++) {
        const at = y * steps[0] * width + x * steps[1];
        const block = blockOf[0][y] * counts[1] + blockOf[1][x];
        sums[block] += Math.abs(compared(hu[one * height * width + at]) - compared(hu[other * height * width + at]));
        pixels[block]++;
      }
    }
    return sums.map((sum, i) => sum / pixels[i]);
  };
  return {
    near: Array.from({ length: depth - 1 }, (_, k) => between(k, k + 1)),
    far: Array.from({ length: depth - 2 }, (_, k) => between(k, k + 2)),
  };
}

function compared(hu: number): number {
  return Math.min(Math.max(hu, COMPARED_HU[0]), COMPARED_HU[1]);
}

function listed(numbers: readonly number[]): string {
  const shown = numbers.slice(0, SHOWN).join(', ');
  return numbers.length > SHOWN ? `${shown} and ${numbers.length - SHOWN} more` : shown;
}
