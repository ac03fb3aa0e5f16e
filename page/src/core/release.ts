/** Memory that is given back at once. */

/** What not every browser has yet. */
interface Transferable {
  readonly transfer?: (length: number) => ArrayBuffer;
}

/** Free what an array holds; it is empty afterwards. Browsers that cannot do so free it when they collect garbage. */
export function release(array: { readonly buffer: ArrayBuffer }): void {
  const buffer: ArrayBuffer & Transferable = array.buffer;
  buffer.transfer?.(0);
}
