/**
 * Clamping after which thin slices still average back to the thick ones (`thinslice.inference.consistency` in Python).
 */

import type { Matrix } from './matrix';
import type { SliceProfile } from './profile';

/** Most corrections of a column. */
const ROUNDS = 6;

/** Unit intensity, 0.03 HU: less than the error of rounding to whole HU. */
const SETTLED = 1e-5;

/** Columns that are corrected at a time; they end together, as in Python, so that results are the same. */
const COLUMNS = 512;

/** Sum of squared weights that stands for none. */
const LEAST_SQUARES = Math.fround(1e-6);

// Whether a voxel has room turns on its last bit, so sums are rounded one by one to 32 bits, as in Python.
const { fround } = Math;

/** Row of a matrix without its zeros. */
interface SparseRow {
  readonly columns: Int32Array;
  readonly weights: Float64Array;
}

/** The averages that windows of some depth have to keep; computed once. */
export class Averages {
  readonly thinSlices: number;
  private readonly first: number;
  private readonly averages: readonly SparseRow[];
  private readonly isExact: boolean;

  constructor(
    readonly depth: number,
    profile: SliceProfile,
  ) {
    this.thinSlices = (depth - 1) * profile.factor + 1;
    [this.first] = profile.supported(depth);
    this.averages = sparseRows(profile.matrix(depth));
    this.isExact = profile.isExact(depth);
  }

  /**
   * Clamp to [0, 1] in place, and move the clamped amount to voxels that have room.
   *
   * @param thick (depth, columns), unit intensity in [0, 1]; at 1, metal, thin voxels are only clamped.
   * @param thin (thin slices, columns), consistent with `thick`.
   */
  clampConsistently(thick: Float32Array, thin: Float32Array): void {
    const columns = thick.length / this.depth;
    if (this.averages.length === 0 || !this.isExact) {
      for (let i = 0; i < thin.length; i++) thin[i] = Math.min(Math.max(thin[i], 0), 1);
      return;
    }
    const beyond = this.columnsBeyond(thin, columns);
    for (let start = 0; start < beyond.length; start += COLUMNS) {
      this.settle(thick, thin, columns, beyond.subarray(start, start + COLUMNS));
    }
  }

  private columnsBeyond(thin: Float32Array, columns: number): Int32Array {
    const isBeyond = new Uint8Array(columns);
    for (let slice = 0, i = 0; slice < this.thinSlices; slice++) {
      for (let c = 0; c < columns; c++, i++) if (!(thin[i] >= 0 && thin[i] <= 1)) isBeyond[c] = 1;
    }
    const found: number[] = [];
    isBeyond.forEach((flag, c) => {
      if (flag === 1) found.push(c);
    });
    return Int32Array.from(found);
  }

  /** Move voxels of some columns inside [0, 1] until their averages are right, or no voxel has room. */
  private settle(thick: Float32Array, thin: Float32Array, columns: number, chosen: Int32Array): void {
    const count = chosen.length;
    const values = new Float32Array(this.thinSlices * count);
    for (let slice = 0; slice < this.thinSlices; slice++) {
      for (let c = 0; c < count; c++) {
        values[slice * count + c] = Math.min(Math.max(thin[slice * columns + chosen[c]], 0), 1);
      }
    }
    const missing = new Float32Array(this.averages.length * count);
    for (let round = 0; round < ROUNDS; round++) {
      if (this.missingOf(missing, values, thick, columns, chosen) < SETTLED) break;
      const before = values.slice();
      for (const sign of [1, -1]) this.moveInto(values, before, missing, count, sign);
      for (let i = 0; i < values.length; i++) values[i] = Math.min(Math.max(values[i], 0), 1);
    }
    for (let slice = 0; slice < this.thinSlices; slice++) {
      for (let c = 0; c < count; c++) thin[slice * columns + chosen[c]] = values[slice * count + c];
    }
  }

  /** What the averages lack, (supported thick slices, chosen columns); returns the largest magnitude. */
  private missingOf(
    missing: Float32Array,
    values: Float32Array,
    thick: Float32Array,
    columns: number,
    chosen: Int32Array,
  ): number {
    const count = chosen.length;
    let largest = 0;
    this.averages.forEach((row, k) => {
      for (let c = 0; c < count; c++) {
        const wanted = thick[(this.first + k) * columns + chosen[c]];
        let sum = 0;
        for (let i = 0; i < row.columns.length; i++) {
          sum = fround(sum + fround(row.weights[i] * values[row.columns[i] * count + c]));
        }
        // A thick voxel of metal was clamped to 1 itself: to average 1, all its thin ones would have to be 1.
        const lacks = wanted < 1 ? fround(wanted - sum) : 0;
        missing[k * count + c] = lacks;
        largest = Math.max(largest, Math.abs(lacks));
      }
    });
    return largest;
  }

  /** Spread what is missing, of one sign, over the voxels that had room in its direction `before` either sign was spread. */
  private moveInto(
    values: Float32Array,
    before: Float32Array,
    missing: Float32Array,
    count: number,
    sign: number,
  ): void {
    const hasRoom = (value: number): boolean => (sign > 0 ? value < 1 : value > 0);
    const change = new Float32Array(values.length);
    this.averages.forEach((row, k) => {
      for (let c = 0; c < count; c++) {
        const part = missing[k * count + c];
        if (part * sign <= 0) continue;
        let squares = 0;
        for (let i = 0; i < row.columns.length; i++) {
          if (hasRoom(before[row.columns[i] * count + c])) squares = fround(squares + fround(row.weights[i] ** 2));
        }
        const share = fround(part / Math.max(squares, LEAST_SQUARES));
        for (let i = 0; i < row.columns.length; i++) {
          change[row.columns[i] * count + c] += fround(row.weights[i] * share);
        }
      }
    });
    for (let i = 0; i < values.length; i++) if (hasRoom(before[i])) values[i] += change[i];
  }
}

/** Rows without zeros, their weights rounded to 32 bits as in Python. */
function sparseRows(matrix: Matrix): readonly SparseRow[] {
  return Array.from({ length: matrix.rows }, (_, row) => {
    const columns: number[] = [];
    for (let c = 0; c < matrix.columns; c++) if (matrix.at(row, c) !== 0) columns.push(c);
    return {
      columns: Int32Array.from(columns),
      weights: Float64Array.from(columns, (c) => Math.fround(matrix.at(row, c))),
    };
  });
}
