/** RMS difference between the thick slices and averages of the thin ones (`ConsistencyMeter` in Python). */

import { WINDOW_MAX_HU, WINDOW_MIN_HU, type Voxels } from './intensity';
import type { ThickPart } from './part';
import type { SliceProfile } from './profile';

/** RMS up to which the result of a consistent network is as usual, HU. */
export const USUAL_CONSISTENCY_HU = 5;

export class ConsistencyMeter {
  private readonly underWay = new Map<number, Float32Array>();
  private readonly first: number;
  private readonly last: number;
  private next = 0;
  /** Sum of the squared differences so far, HU^2, and how many voxels were compared. */
  squares = 0;
  voxels = 0;

  constructor(
    private readonly profile: SliceProfile,
    private readonly thick: ThickPart,
  ) {
    [this.first, this.last] = profile.supported(thick.shape[0]);
  }

  /**
   * Add the next finished thin slices.
   *
   * Factor 5, slices twice as thick as their distance: thick slice 2 has weights for thin slices 5 to 15, and thick slice
   * 3 for 10 to 20. Thin slice 12 counts for both; thin slice 15 completes slice 2.
   */
  add(hu: Voxels): void {
    const { factor, reach, weights } = this.profile;
    const { pixels } = this.thick;
    for (let at = 0; at < hu.length; at += pixels, this.next++) {
      const from = Math.max(this.first, Math.ceil((this.next - reach) / factor));
      const to = Math.min(this.last - 1, Math.floor((this.next + reach) / factor));
      for (let k = from; k <= to; k++) {
        const sum = this.underWay.get(k) ?? new Float32Array(pixels);
        const offset = this.next - (k * factor - reach);
        for (let i = 0; i < pixels; i++) sum[i] += weights[offset] * hu[at + i];
        this.underWay.set(k, sum);
        if (offset === weights.length - 1) this.compare(k, sum);
      }
    }
  }

  private compare(k: number, made: Float32Array): void {
    this.underWay.delete(k);
    const thick = this.thick.slice(k);
    for (let i = 0; i < thick.length; i++) {
      const hu = thick[i];
      if (!(hu > WINDOW_MIN_HU && hu < WINDOW_MAX_HU) || hu === this.thick.paddingHu) continue;
      this.squares += (made[i] - hu) ** 2;
      this.voxels++;
    }
  }
}

/** RMS difference over all meters, HU; null when no voxel could be compared. */
export function rmsHu(meters: readonly ConsistencyMeter[]): number | null {
  const voxels = meters.reduce((sum, meter) => sum + meter.voxels, 0);
  return voxels > 0 ? Math.sqrt(meters.reduce((sum, meter) => sum + meter.squares, 0) / voxels) : null;
}
