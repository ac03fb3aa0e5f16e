/** Voxels as they stand in a page, before gzip: what makes them shorter (`thinslice.pictures.viewer.page`). */

/**
 * Undo the packing of voxels.
 *
 * @param bytes low bytes of all 16-bit differences, then their high bytes. A difference is a voxel less the one before
 *   it in its row, modulo 65536; the first of a row stands alone.
 * @param width voxels of a row.
 *
 * Low bytes 1, 2 and high bytes 0, 0 in one row of two are the voxels 1, 3.
 */
export function undoDifferences(bytes: Uint8Array, width: number): Int16Array {
  const count = bytes.length / 2;
  const voxels = new Int16Array(count);
  for (let row = 0; row < count; row += width) {
    let value = 0;
    for (let i = row; i < row + width; i++) {
      value += bytes[i] | (bytes[count + i] << 8);
      voxels[i] = value;
    }
  }
  return voxels;
}
