/** Small dense matrices, row by row in 64-bit numbers. */

export class Matrix {
  readonly values: Float64Array;

  constructor(
    readonly rows: number,
    readonly columns: number,
    values?: Float64Array,
  ) {
    this.values = values ?? new Float64Array(rows * columns);
  }

  at(row: number, column: number): number {
    return this.values[row * this.columns + column];
  }

  set(row: number, column: number, value: number): void {
    this.values[row * this.columns + column] = value;
  }

  transposed(): Matrix {
    const out = new Matrix(this.columns, this.rows);
    for (let r = 0; r < this.rows; r++) for (let c = 0; c < this.columns; c++) out.set(c, r, this.at(r, c));
    return out;
  }

  /** The product; zeros on the left cost nothing. */
  times(other: Matrix): Matrix {
    const out = new Matrix(this.rows, other.columns);
    for (let r = 0; r < this.rows; r++) {
      const target = out.values.subarray(r * other.columns, (r + 1) * other.columns);
      for (let k = 0; k < this.columns; k++) {
        const factor = this.at(r, k);
        if (factor === 0) continue;
        const row = other.values.subarray(k * other.columns, (k + 1) * other.columns);
        for (let c = 0; c < row.length; c++) target[c] += factor * row[c];
      }
    }
    return out;
  }
}

/**
 * X with `matrix` X = `right`, by Cholesky's decomposition.
 *
 * @param matrix symmetric and positive definite.
 */
export function solveSymmetric(matrix: Matrix, right: Matrix): Matrix {
  const n = matrix.rows;
  const lower = new Matrix(n, n);
  for (let r = 0; r < n; r++) {
    for (let c = 0; c <= r; c++) {
      let sum = matrix.at(r, c);
      for (let k = 0; k < c; k++) sum -= lower.at(r, k) * lower.at(c, k);
      lower.set(r, c, r === c ? Math.sqrt(sum) : sum / lower.at(c, c));
    }
  }
  const out = new Matrix(n, right.columns, right.values.slice());
  const row = (r: number): Float64Array => out.values.subarray(r * right.columns, (r + 1) * right.columns);
  const eliminate = (target: number, source: number, factor: number): void => {
    if (factor === 0) return;
    const [to, from] = [row(target), row(source)];
    for (let c = 0; c < to.length; c++) to[c] -= factor * from[c];
  };
  const divide = (target: number): void => {
    const to = row(target);
    for (let c = 0; c < to.length; c++) to[c] /= lower.at(target, target);
  };
  for (let r = 0; r < n; r++) {
    for (let k = 0; k < r; k++) eliminate(r, k, lower.at(r, k));
    divide(r);
  }
  for (let r = n - 1; r >= 0; r--) {
    for (let k = r + 1; k < n; k++) eliminate(r, k, lower.at(k, r));
    divide(r);
  }
  return out;
}

/** Smallest and largest eigenvalue of a symmetric matrix, by Jacobi's rotations. */
export function extremeEigenvalues(matrix: Matrix): readonly [number, number] {
  const n = matrix.rows;
  const a = matrix.values.slice();
  for (let sweep = 0; sweep < 50; sweep++) {
    let off = 0;
    for (let p = 0; p < n; p++) {
      for (let q = p + 1; q < n; q++) {
        const apq = a[p * n + q];
        off += apq * apq;
        if (Math.abs(apq) < 1e-300) continue;
        const theta = (a[q * n + q] - a[p * n + p]) / (2 * apq);
        const t = (theta >= 0 ? 1 : -1) / (Math.abs(theta) + Math.hypot(theta, 1));
        const cosine = 1 / Math.hypot(t, 1);
        const sine = t * cosine;
        for (let k = 0; k < n; k++) {
          const [kp, kq] = [a[k * n + p], a[k * n + q]];
          a[k * n + p] = cosine * kp - sine * kq;
          a[k * n + q] = sine * kp + cosine * kq;
        }
        for (let k = 0; k < n; k++) {
          const [pk, qk] = [a[p * n + k], a[q * n + k]];
          a[p * n + k] = cosine * pk - sine * qk;
          a[q * n + k] = sine * pk + cosine * qk;
        }
      }
    }
    if (off < 1e-26) break;
  }
  let [low, high] = [Infinity, -Infinity];
  for (let i = 0; i < n; i++) {
    low = Math.min(low, a[i * n + i]);
    high = Math.max(high, a[i * n + i]);
  }
  return [low, high];
}
