/**
 * The slice profile: the weights of thin slices in a thick one (`thinslice.profile` in Python).
 *
 * Thick slice k is centred on thin slice factor * k: at factor 5, thick slice 2 on thin slice 10.
 */

import { extremeEigenvalues, Matrix, solveSymmetric } from './matrix';

/** Condition number of A A^T past which the projection is damped. */
const MAX_CONDITION = 30;

/** Thick slices after which a condition number hardly grows, and a slice's influence has died out. */
const DEEP = 65;

/** Influence of a thick slice, as a share of its peak, below which it is neglected. */
const REACH_TOLERANCE = 1e-6;

export class SliceProfile {
  private dampingFound: number | null = null;
  private readonly corrections = new Map<number, Matrix>();

  /** @param weights odd in number, symmetric, of sum 1; the middle one belongs to thin slice factor * k. */
  constructor(
    readonly factor: number,
    readonly weights: readonly number[],
  ) {}

  /**
   * A box `width` thick spacings wide: each thin slice counts by its overlap with it.
   *
   * `mean(5)` has the weights 0.2 five times, `mean(2)` 0.25, 0.5, 0.25.
   */
  static mean(factor: number, width = 1): SliceProfile {
    const half = 0.5 * factor * width;
    const reach = Math.max(0, Math.ceil(half - 0.5 - 1e-9));
    const overlaps: number[] = [];
    for (let at = -reach; at <= reach; at++) {
      overlaps.push(Math.min(Math.max(Math.min(at + 0.5, half) - Math.max(at - 0.5, -half), 0), 1));
    }
    const sum = overlaps.reduce((total, overlap) => total + overlap, 0);
    return new SliceProfile(
      factor,
      overlaps.map((overlap) => Math.round((overlap / sum) * 1e12) / 1e12),
    );
  }

  /** Thin slices on either side of the centre that carry weight. */
  get reach(): number {
    return Math.floor(this.weights.length / 2);
  }

  /** Extent over slice distance: width of the box with the same standard deviation. */
  get width(): number {
    const squares = this.weights.reduce((sum, weight, i) => sum + weight * (i - this.reach) ** 2, 0);
    return Math.sqrt(12 * squares) / this.factor;
  }

  /** Thick slices [start, stop) of `depth` whose whole profile lies on the thin grid. */
  supported(depth: number): readonly [number, number] {
    const margin = Math.ceil(this.reach / this.factor);
    return [margin, Math.max(margin, depth - margin)];
  }

  /** A: (supported thick slices, thin slices), so that A thin = thick. */
  matrix(depth: number): Matrix {
    const [start, stop] = this.supported(depth);
    const a = new Matrix(stop - start, (depth - 1) * this.factor + 1);
    for (let k = start; k < stop; k++) {
      this.weights.forEach((weight, i) => {
        a.set(k - start, k * this.factor - this.reach + i, weight);
      });
    }
    return a;
  }

  /**
   * A^T (A A^T)^-1: (thin slices, supported thick slices), the smallest change of the thin slices that adds a given
   * amount to each thick one; damped where slices overlap strongly.
   */
  correction(depth: number): Matrix {
    let found = this.corrections.get(depth);
    if (found === undefined) {
      const a = this.matrix(depth);
      found = a.rows === 0 ? new Matrix(a.columns, 0) : solveSymmetric(this.gram(a), a).transposed();
      this.corrections.set(depth, found);
    }
    return found;
  }

  /** Whether `correction` reproduces the thick slices exactly. */
  isExact(depth: number): boolean {
    const [start, stop] = this.supported(depth);
    return start === stop || this.damping === 0;
  }

  /**
   * Reach, in thick slices, of one thick slice on thin slices that must average back to all thick slices.
   *
   * Contiguous slices at factor 5 have the reach 1.
   */
  get correctionReach(): number {
    const [first] = this.supported(0);
    const depth = DEEP + 2 * first;
    const row = Math.floor(DEEP / 2);
    const correction = this.correction(depth);
    const column = Array.from({ length: correction.rows }, (_, thin) => Math.abs(correction.at(thin, row)));
    const least = REACH_TOLERANCE * Math.max(...column);
    const middle = first + row;
    let farthest = 0;
    column.forEach((weight, thin) => {
      if (weight > least) farthest = Math.max(farthest, Math.abs(thin / this.factor - middle));
    });
    return Math.ceil(farthest);
  }

  /** What is added to the diagonal of A A^T so that its condition number is at most `MAX_CONDITION`; 0 where it is. */
  get damping(): number {
    if (this.dampingFound === null) {
      const a = this.matrix(DEEP + 2 * this.supported(0)[0]);
      const [low, high] = extremeEigenvalues(a.times(a.transposed()));
      this.dampingFound = high <= MAX_CONDITION * low ? 0 : (high - MAX_CONDITION * low) / (MAX_CONDITION - 1);
    }
    return this.dampingFound;
  }

  private gram(a: Matrix): Matrix {
    const gram = a.times(a.transposed());
    for (let i = 0; i < gram.rows; i++) gram.set(i, i, gram.at(i, i) + this.damping);
    return gram;
  }
}
