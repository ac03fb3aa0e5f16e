/** Voxels as they stand in a page, before gzip: what makes them shorter (`packed_bytes` of `thinslice.pictures.viewer.page`). */

/**
 * Voxels of packed bytes.
 *
 * @param bytes low bytes of all 16-bit numbers, then their high bytes. A number 2 n stands for the difference n, and
 *   2 n - 1 for -n; a difference is what is left of a voxel after those before it were taken away along depth, height
 *   and width, one after the other, modulo 65536.
 * @param height rows of a slice.
 * @param width voxels of a row.
 *
 * Low bytes 2, 4 and high bytes 0, 0 in one row of two are the voxels 1, 3.
 */
export function unpackVoxels(bytes: Uint8Array, height: number, width: number): Int16Array {
  const count = bytes.length / 2;
  const voxels = new Int16Array(count);
  const plane = height * width;
  // Sums along height, of the sums along width.
  const above = new Int16Array(width);
  for (let row = 0; row < count; row += width) {
    if (row % plane === 0) above.fill(0);
    const before = row - plane;
    let sum = 0;
    for (let x = 0; x < width; x++) {
      const number = bytes[row + x] | (bytes[count + row + x] << 8);
      sum += (number >> 1) ^ -(number & 1);
      above[x] += sum;
      voxels[row + x] = before < 0 ? above[x] : above[x] + voxels[before + x];
    }
  }
  return voxels;
}
