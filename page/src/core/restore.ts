/** Values outside the network's window, and padding, in slabs of thin slices (`thinslice.inference.restore`). */

import { roundHalfEven, WINDOW_MAX_HU, WINDOW_MIN_HU, type Voxels } from './intensity';
import type { ThickPart } from './part';

/** The thick slice nearest to a thin one; halfway between two, the upper one. */
export function nearestThick(thinIndex: number, factor: number): number {
  return Math.floor((2 * thinIndex + factor) / (2 * factor));
}

export class Restorer {
  /** Thin voxels so far to which the source's excess was added. */
  voxelsOutsideWindow = 0;
  private readonly excesses = new Map<number, Float32Array | null>();

  constructor(
    private readonly thick: ThickPart,
    private readonly factor: number,
  ) {}

  /**
   * A finished slice in the source's type.
   *
   * @param index thin index.
   * @param hu HU of the network's output, inside its window; changed in place.
   */
  finish(index: number, hu: Float32Array<ArrayBuffer>, out: Voxels): void {
    this.addExcess(index, hu);
    const { paddingHu } = this.thick;
    const nearest = paddingHu === null ? null : this.thick.slice(nearestThick(index, this.factor));
    const isWhole = out instanceof Int16Array;
    for (let i = 0; i < hu.length; i++) {
      if (paddingHu !== null && nearest?.[i] === paddingHu) out[i] = paddingHu;
      else out[i] = isWhole ? roundHalfEven(hu[i]) : hu[i];
    }
  }

  /**
   * Add the interpolated excess of the source.
   *
   * At factor 4, thin slice 5 gets 3/4 of the excess of thick slice 1 and 1/4 of that of thick slice 2, where thick
   * slice 1, the nearest, has any. Thin slice 6 is halfway: half of each, where both have any.
   */
  private addExcess(index: number, hu: Float32Array): void {
    const below = Math.min(Math.floor(index / this.factor), this.thick.shape[0] - 1);
    const step = index - below * this.factor;
    const nearest = nearestThick(index, this.factor);
    const owners = (2 * step === this.factor ? [nearest - 1, nearest] : [nearest]).map((k) => this.excess(k));
    if (owners.some((owner) => owner === null)) return;
    const first = this.excess(below);
    const second = step > 0 ? this.excess(below + 1) : null;
    const [w1, w2] = [Math.fround(1 - step / this.factor), Math.fround(step / this.factor)];
    for (let i = 0; i < hu.length; i++) {
      if (owners.some((owner) => owner?.[i] === 0)) continue;
      const sum = Math.fround(Math.fround((first?.[i] ?? 0) * w1) + Math.fround((second?.[i] ?? 0) * w2));
      if (sum === 0) continue;
      this.voxelsOutsideWindow++;
      hu[i] += sum;
    }
  }

  /** HU beyond the window of a thick slice; null where it has none. */
  private excess(k: number): Float32Array | null {
    const known = this.excesses.get(k);
    if (known !== undefined) return known;
    const { paddingHu, pixels } = this.thick;
    let found: Float32Array | null = null;
    this.thick.slice(k).forEach((hu, i) => {
      if ((hu >= WINDOW_MIN_HU && hu <= WINDOW_MAX_HU) || hu === paddingHu) return;
      found ??= new Float32Array(pixels);
      found[i] = hu - Math.min(Math.max(hu, WINDOW_MIN_HU), WINDOW_MAX_HU);
    });
    // Thin slices come in order, so few thick ones are needed at a time.
    for (const old of this.excesses.keys()) if (old < k - 2) this.excesses.delete(old);
    this.excesses.set(k, found);
    return found;
  }
}
