/** Voxels as they stand in a page, before gzip: what makes them shorter (`packed_bytes` of `thinslice.pictures.viewer.page`). */

/** A byte that stands for a number of 16 bits, which follows behind all bytes. */
const ESCAPE = 255;

/**
 * Voxels of packed bytes.
 *
 * @param bytes one for each voxel, then 16-bit numbers for those that are `ESCAPE`, low byte first. A number 2 n stands
 *   for the difference n, and 2 n - 1 for -n; a difference is what is left of a voxel after those before it were taken
 *   away along depth, height and width, one after the other, modulo 65536.
 * @param count voxels.
 * @param height rows of a slice.
 * @param width voxels of a row.
 *
 * Bytes 2, 255, 4, 4 in one row of two are the voxels 1, 515: the second one is 514 more, as 1028 = 4 + 256 * 4 states.
 */
export function unpackVoxels(bytes: Uint8Array, count: number, height: number, width: number): Int16Array {
  const voxels = new Int16Array(count);
  const plane = height * width;
  let escaped = count;
  // Sums along height, of the sums along width.
  const above = new Int16Array(width);
  for (let row = 0; row < count; row += width) {
    if (row % plane === 0) above.fill(0);
    let sum = 0;
    for (let x = 0; x < width; x++) {
      let number = bytes[row + x];
      if (number === ESCAPE) {
        number = bytes[escaped] | (bytes[escaped + 1] << 8);
        escaped += 2;
      }
      sum += (number >> 1) ^ -(number & 1);
      above[x] += sum;
      voxels[row + x] = above[x];
    }
    if (row < plane) continue;
    for (let i = row, before = row - plane; i < row + width; i++, before++) voxels[i] += voxels[before];
  }
  return voxels;
}
