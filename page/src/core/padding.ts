/** The value outside the reconstruction of a scanner, found from the voxels (`thinslice.io.padding` in Python). */

import { WINDOW_MIN_HU, type Voxels } from './intensity';

/** Smallest share of voxels that padding fills, and its distance from all other values. */
const PADDING_SHARE = 0.01;
const APART_HU = 50;

/** A value so far below all others is no noise, whatever its share; fewer voxels may be defects of a detector. */
const FAR_APART_HU = 400;
const FEW_VOXELS = 16;

/** The HU that marks voxels outside the reconstruction; null where there is none. */
export function paddingBelowWindow(hu: Voxels): number | null {
  let lowest = Infinity;
  for (const value of hu) if (value < lowest) lowest = value;
  if (lowest >= WINDOW_MIN_HU) return null;
  let [count, above] = [0, Infinity];
  for (const value of hu) {
    if (value === lowest) count++;
    else if (value < above) above = value;
  }
  const apart = above - lowest;
  const isPadding =
    (apart >= FAR_APART_HU && count >= FEW_VOXELS) || (apart >= APART_HU && count >= PADDING_SHARE * hu.length);
  return isPadding ? lowest : null;
}
