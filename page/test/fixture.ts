/** What the package makes of small inputs (`tools/page_fixture.py`). */

import fixture from './fixture.json';

export default fixture;

/** The largest difference of two rows of numbers; infinite where they differ in length. */
export function largestDifference(found: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (found.length !== expected.length) return Infinity;
  let largest = 0;
  for (let i = 0; i < found.length; i++) largest = Math.max(largest, Math.abs(found[i] - expected[i]));
  return largest;
}
