/** RMS difference between the thick slices and averages of the thin ones (`ConsistencyMeter` in Python). */

import { WINDOW_MAX_HU, WINDOW_MIN_HU, type Voxels } from './intensity';
import type { SliceProfile } from './profile';

/** RMS up to which the result of a consistent network is as usual, HU. */
export const USUAL_CONSISTENCY_HU = 5;

export class ConsistencyMeter {
  private readonly underWay = new Map<number, Float32Array>();
  private readonly first: number;
  private readonly last: number;
  private readonly plane: number;
  private next = 0;
  private squares = 0;
  private voxels = 0;

  /** @param thick (depth, height, width) HU. */
  constructor(
    private readonly profile: SliceProfile,
    private readonly thick: Voxels,
    depth: number,
    private readonly paddingHu: number | null,
  ) {
    [this.first, this.last] = profile.supported(depth);
    this.plane = thick.length / depth;
  }

  /**
   * Add the next finished thin slices.
   *
   * Factor 5, slices twice as thick as their distance: thick slice 2 has weights for thin slices 5 to 15, and thick slice
   * 3 for 10 to 20. Thin slice 12 counts for both; thin slice 15 completes slice 2.
   */
  add(hu: Voxels): void {
    const { factor, reach, weights } = this.profile;
    for (let at = 0; at < hu.length; at += this.plane, this.next++) {
      const from = Math.max(this.first, Math.ceil((this.next - reach) / factor));
      const to = Math.min(this.last - 1, Math.floor((this.next + reach) / factor));
      for (let k = from; k <= to; k++) {
        const sum = this.underWay.get(k) ?? new Float32Array(this.plane);
        const offset = this.next - (k * factor - reach);
        for (let i = 0; i < this.plane; i++) sum[i] += weights[offset] * hu[at + i];
        this.underWay.set(k, sum);
        if (offset === weights.length - 1) this.compare(k, sum);
      }
    }
  }

  /** RMS difference so far in HU; null when no voxel could be compared. */
  get rmsHu(): number | null {
    return this.voxels > 0 ? Math.sqrt(this.squares / this.voxels) : null;
  }

  private compare(k: number, made: Float32Array): void {
    this.underWay.delete(k);
    for (let i = 0; i < this.plane; i++) {
      const hu = this.thick[k * this.plane + i];
      if (!(hu > WINDOW_MIN_HU && hu < WINDOW_MAX_HU) || hu === this.paddingHu) continue;
      this.squares += (made[i] - hu) ** 2;
      this.voxels++;
    }
  }
}
