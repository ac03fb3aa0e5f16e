/** HU to the networks' unit range and back, in the 32-bit arithmetic of `thinslice.intensity`. */

/** HU of an array: 16-bit integers where these are exact, else 32-bit floats. */
export type Voxels = Int16Array<ArrayBuffer> | Float32Array<ArrayBuffer>;

/** HU that becomes 0. */
export const WINDOW_MIN_HU = -1024;

/** HU that becomes 1. */
export const WINDOW_MAX_HU = 2048;

/** HU per unit. */
export const WINDOW_WIDTH_HU = WINDOW_MAX_HU - WINDOW_MIN_HU;

/** Unit intensity of HU as the networks take it: in [0, 1], padding as air. */
export function networkInput(hu: number, paddingHu: number | null): number {
  if (hu === paddingHu) return 0;
  return Math.min(Math.max(Math.fround((hu - WINDOW_MIN_HU) / WINDOW_WIDTH_HU), 0), 1);
}

/** HU of unit intensity, clamped to the networks' window. */
export function clampedHu(unit: number): number {
  return Math.fround(Math.fround(Math.min(Math.max(unit, 0), 1) * WINDOW_WIDTH_HU) + WINDOW_MIN_HU);
}

/** The nearest whole number; of two that are equally near, the even one, as NumPy rounds. */
export function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest < 0.5) return below;
  if (rest > 0.5) return below + 1;
  return below % 2 === 0 ? below : below + 1;
}
