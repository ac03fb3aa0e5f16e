/**
 * Cubic spline through equidistant knots with not-a-knot ends: the package's `cubic` (`thinslice.models.interpolate`).
 *
 * Between knots k and k + 1, with s the share of the way and r = 1 - s, the spline is
 *
 *     r y[k] + s y[k+1] + ((r^3 - r) m[k] + (s^3 - s) m[k+1]) / 6
 *
 * where m are its second derivatives, the moments. They solve m[k-1] + 4 m[k] + m[k+1] = 6 d[k] with
 * d[k] = y[k-1] - 2 y[k] + y[k+1]. Not-a-knot ends (one cubic over the first two intervals) mean m[0] = 2 m[1] - m[2],
 * which turns the first equation into m[1] = d[1]; the last one is its mirror image.
 */

/** Factors of the elimination in the rows 2 .. depth - 3: row k keeps 1 / (4 - factor of the row before). */
export function eliminationFactors(rows: number): Float64Array {
  const factors = new Float64Array(Math.max(rows, 0));
  for (let row = 0; row < rows; row++) factors[row] = 1 / (4 - (row > 0 ? factors[row - 1] : 0));
  return factors;
}

/**
 * Moments of the splines through every column of a volume.
 *
 * @param values (depth, plane) HU, any numbers of columns in a plane; already inside the networks' window.
 * @param depth number of slices, >= 1.
 * @returns (depth, plane) second derivatives, HU per squared thick distance. All 0 for one or two slices, which makes
 *   the spline a straight line; for three the parabola through them.
 *
 * Knots 0, 1, 8, 27 (k^3) have moments 0, 6, 12, 18 (6 k): a cubic is its own spline.
 */
export function moments(values: ArrayLike<number>, depth: number): Float32Array {
  const plane = values.length / depth;
  const out = new Float32Array(values.length);
  if (depth < 3) return out;
  const last = depth - 1;
  const difference = (k: number, column: number): number =>
    values[(k - 1) * plane + column] - 2 * values[k * plane + column] + values[(k + 1) * plane + column];
  for (const k of new Set([1, last - 1])) {
    for (let column = 0; column < plane; column++) out[k * plane + column] = difference(k, column);
  }
  // Rows 2 .. last - 2 are a tridiagonal system whose borders are known: eliminate downwards, substitute upwards.
  const factors = eliminationFactors(last - 3);
  for (let k = 2; k <= last - 2; k++) {
    const factor = factors[k - 2];
    for (let column = 0; column < plane; column++) {
      const at = k * plane + column;
      out[at] = (6 * difference(k, column) - out[at - plane]) * factor;
    }
  }
  for (let k = last - 2; k >= 2; k--) {
    const factor = factors[k - 2];
    for (let column = 0; column < plane; column++) {
      const at = k * plane + column;
      out[at] -= factor * out[at + plane];
    }
  }
  for (let column = 0; column < plane; column++) {
    const end = last * plane + column;
    out[column] = depth === 3 ? out[plane + column] : 2 * out[plane + column] - out[2 * plane + column];
    out[end] = depth === 3 ? out[end - plane] : 2 * out[end - plane] - out[end - 2 * plane];
  }
  return out;
}

/** Value of the spline between two knots; see the module. */
export function splineValue(share: number, y0: number, y1: number, m0: number, m1: number): number {
  const rest = 1 - share;
  return rest * y0 + share * y1 + ((rest ** 3 - rest) * m0 + (share ** 3 - share) * m1) / 6;
}
