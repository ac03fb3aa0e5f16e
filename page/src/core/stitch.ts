/**
 * A plan carried out: thick slices in, slabs of thin slices out, in order (`thinslice.inference.stitch` in Python).
 *
 * Memory holds one pass of the network, and the thin slices of one row of windows, where a row is all windows of the same
 * thick slices.
 */

import { Averages } from './consistency';
import { clampedHu, networkInput, type Voxels } from './intensity';
import { describe, networkWindow, type Infer, type NetworkFacts, type Pass } from './network';
import type { SliceProfile } from './profile';
import { Restorer } from './restore';
import { overlapCut, type Cut, type Span } from './spans';

/** Voxels of a slab that is given on. */
const SLAB_VOXELS = 1 << 21;

/** Bytes for a pass and the thin slices of a row. */
export const BUDGET_BYTES = 512 * 2 ** 20;

export interface ThickVolume {
  /** (depth, height, width) HU. */
  readonly hu: Voxels;
  readonly shape: readonly [number, number, number];
  readonly paddingHu: number | null;
}

/** Finished thin slices. */
export interface Slab {
  /** Thin index of the first one. */
  readonly start: number;
  /** (slices, height, width) HU. */
  readonly hu: Voxels;
}

export class Stitcher {
  readonly cut: Cut;
  /** Thin voxels so far to which the source's excess was added. */
  voxelsOutsideWindow = 0;
  private readonly factor: number;

  constructor(
    private readonly thick: ThickVolume,
    facts: NetworkFacts,
    private readonly profile: SliceProfile,
    budgetBytes = BUDGET_BYTES,
  ) {
    this.factor = profile.factor;
    this.cut = overlapCut(thick.shape, this.factor, networkWindow(facts, profile), budgetBytes);
  }

  /** The slabs; `progress` gets the share of the voxels that have passed the network. */
  async *slabs(infer: Infer, progress: (share: number) => void = () => undefined): AsyncGenerator<Slab> {
    const { shape, hu, paddingHu } = this.thick;
    const [depth, height, width] = shape;
    const plane = height * width;
    const restorer = new Restorer(hu, depth, this.factor, paddingHu);
    const description = describe(this.profile);
    const averages = new Map<number, Averages>();
    let [done, total] = [0, 0];
    this.eachWindow((row, rows, columns) => (total += extent(row) * extent(rows) * extent(columns)));
    for (const row of this.cut.depths) {
      const slices = extent(row);
      const kept = averages.get(slices) ?? new Averages(slices, this.profile);
      averages.set(slices, kept);
      const unit = new Float32Array(slices * plane);
      for (let i = 0, at = row.start * plane; i < unit.length; i++, at++) unit[i] = networkInput(hu[at], paddingHu);
      const thin = new Float32Array(kept.thinSlices * plane);
      for (const rows of this.cut.heights) {
        for (const columns of this.cut.widths) {
          const made = await infer(this.passOf(unit, row, rows, columns, description));
          this.place(made, rows, columns, kept.thinSlices, thin);
          done += slices * extent(rows) * extent(columns);
          progress(done / total);
        }
      }
      kept.clampConsistently(unit, thin);
      const step = Math.max(1, Math.floor(SLAB_VOXELS / plane));
      for (let start = row.outStart; start < row.outStop; start += step) {
        const stop = Math.min(start + step, row.outStop);
        yield this.slab(thin, row, start, stop, restorer);
        this.voxelsOutsideWindow = restorer.voxelsOutsideWindow;
      }
    }
  }

  /** Windows in the order in which they are run. */
  eachWindow(visit: (row: Span, rows: Span, columns: Span) => void): void {
    for (const row of this.cut.depths) {
      for (const rows of this.cut.heights) for (const columns of this.cut.widths) visit(row, rows, columns);
    }
  }

  /** @param unit (slices of the row, height, width) of the whole plane. */
  private passOf(unit: Float32Array, row: Span, rows: Span, columns: Span, description: Pass['description']): Pass {
    const [, height, width] = this.thick.shape;
    const shape = [extent(row), extent(rows), extent(columns)] as const;
    const thick = new Float32Array(shape[0] * shape[1] * shape[2]);
    for (let k = 0, at = 0; k < shape[0]; k++) {
      for (let y = rows.start; y < rows.stop; y++, at += shape[2]) {
        const line = (k * height + y) * width;
        thick.set(unit.subarray(line + columns.start, line + columns.stop), at);
      }
    }
    return { thick, shape, description };
  }

  /** Put what a window gives where it belongs among the thin slices of its row; its halo is left out. */
  private place(made: Float32Array, rows: Span, columns: Span, thinSlices: number, thin: Float32Array): void {
    const [, height, width] = this.thick.shape;
    const [h, w] = [extent(rows), extent(columns)];
    if (made.length !== thinSlices * h * w) {
      throw new RangeError(`The network gave ${made.length} values, not ${thinSlices} x ${h} x ${w}.`);
    }
    const count = columns.outStop - columns.outStart;
    for (let z = 0; z < thinSlices; z++) {
      for (let y = rows.outStart; y < rows.outStop; y++) {
        const from = (z * h + y - rows.start) * w + columns.trim;
        thin.set(made.subarray(from, from + count), (z * height + y) * width + columns.outStart);
      }
    }
  }

  /** Slices [start, stop) in HU, finished. */
  private slab(thin: Float32Array, row: Span, start: number, stop: number, restorer: Restorer): Slab {
    const plane = this.thick.shape[1] * this.thick.shape[2];
    const size = (stop - start) * plane;
    const hu = this.thick.hu instanceof Int16Array ? new Int16Array(size) : new Float32Array(size);
    const slice = new Float32Array(plane);
    for (let index = start; index < stop; index++) {
      const from = (index - row.outStart + row.trim) * plane;
      for (let i = 0; i < plane; i++) {
        const unit = thin[from + i];
        if (!Number.isFinite(unit)) {
          throw new RangeError('The network gave values that are not finite numbers; load the page again.');
        }
        slice[i] = clampedHu(unit);
      }
      restorer.finish(index, slice, hu.subarray((index - start) * plane, (index - start + 1) * plane));
    }
    return { start, hu };
  }
}

const extent = (span: Span): number => span.stop - span.start;
