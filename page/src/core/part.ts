/** A part of the plane of a thick volume, through all slices. */

import type { Voxels } from './intensity';

export interface ThickVolume {
  /** (depth, height, width) HU. */
  readonly hu: Voxels;
  readonly shape: readonly [number, number, number];
  readonly paddingHu: number | null;
}

/** Rows or columns [start, stop). */
export type Range = readonly [number, number];

export class ThickPart {
  /** Of the part: (depth, height, width). */
  readonly shape: readonly [number, number, number];
  readonly paddingHu: number | null;

  constructor(
    private readonly thick: ThickVolume,
    private readonly rows: Range = [0, thick.shape[1]],
    private readonly columns: Range = [0, thick.shape[2]],
  ) {
    this.shape = [thick.shape[0], rows[1] - rows[0], columns[1] - columns[0]];
    this.paddingHu = thick.paddingHu;
  }

  /** Pixels of a slice. */
  get pixels(): number {
    return this.shape[1] * this.shape[2];
  }

  /** HU of a thick slice, (height, width). */
  slice(k: number): Voxels {
    const [, height, width] = this.thick.shape;
    const { hu } = this.thick;
    const start = (k * height + this.rows[0]) * width;
    if (this.shape[2] === width) return hu.subarray(start, start + this.pixels);
    const out = hu instanceof Int16Array ? new Int16Array(this.pixels) : new Float32Array(this.pixels);
    for (let y = 0; y < this.shape[1]; y++) {
      const line = start + y * width;
      out.set(hu.subarray(line + this.columns[0], line + this.columns[1]), y * this.shape[2]);
    }
    return out;
  }
}
