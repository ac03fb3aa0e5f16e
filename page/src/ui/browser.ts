/** What this browser can do, and how much memory a run needs. */

import { thinGrid, type Volume } from '../core/volume';
import { BUDGET_BYTES } from '../core/stitch';

/** Memory of the page and the runtime without any volume. */
const BASE_BYTES = 200 * 2 ** 20;

/** Memory that phones and tablets give a page. */
const HANDHELD_BYTES = 700 * 2 ** 20;

/** Share of a computer's memory that browsers give a page. */
const USABLE_SHARE = 0.5;

/** Why nothing can be computed here; null where all is there. */
export function missingFeature(): string | null {
  if (
    !('DecompressionStream' in globalThis) ||
    !('CompressionStream' in globalThis) ||
    !('WebAssembly' in globalThis)
  ) {
    return 'This browser lacks what the page needs; use a current Firefox, Chrome, Edge or Safari.';
  }
  return null;
}

/** Bytes that a run needs, about: both volumes, and the budget of the worker. */
export function neededBytes(volume: Volume, factor: number, hasDeviation: boolean): number {
  const [depth, height, width] = thinGrid(volume.grid, factor).shape;
  const each = volume.hu.BYTES_PER_ELEMENT;
  const thin = depth * height * width;
  return BASE_BYTES + BUDGET_BYTES + each * (2 * volume.hu.length + thin) + (hasDeviation ? 2 * thin : 0);
}

/** A sentence where memory may be too short; null where it should do. */
export function memoryWarning(volume: Volume, factor: number, hasDeviation: boolean): string | null {
  const needed = neededBytes(volume, factor, hasDeviation);
  const isHandheld = navigator.maxTouchPoints > 1 && !window.matchMedia('(any-pointer: fine)').matches;
  const { deviceMemory } = navigator as unknown as { deviceMemory?: number };
  const given = isHandheld
    ? HANDHELD_BYTES
    : deviceMemory === undefined
      ? Infinity
      : deviceMemory * 2 ** 30 * USABLE_SHARE;
  if (needed <= given) return null;
  const where = isHandheld ? 'phones and tablets seldom give a page so much' : 'this computer may have too little';
  return `This run needs about ${(needed / 2 ** 30).toFixed(1)} GiB of memory, and ${where}: the browser may end the page.`;
}
