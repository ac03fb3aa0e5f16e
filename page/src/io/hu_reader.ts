/** Stored values to HU: 16-bit integers as long as these are exact (`thinslice.io.hu_collector` in Python). */

import type { Voxels } from '../core/intensity';
import type { StoredType } from './nifti_header';

/** HU in place of NaN and infinity: air. */
const FILL_HU = -1024;

const LARGEST_FLOAT32 = 3.4028234663852886e38;
const [INT16_MIN, INT16_MAX] = [-32768, 32767] as const;

/** Unsigned 16-bit values from here on are a signed -4096 .. -1 that lost its sign. */
const WRAPPED_FROM = 0x10000 - 4096;

const BYTES: { readonly [stored in StoredType]: number } = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  f64: 8,
  i64: 8,
  u64: 8,
};

export function bytesOf(stored: StoredType): number {
  return BYTES[stored];
}

export interface Hu {
  readonly hu: Voxels;
  readonly warnings: readonly string[];
}

/** HU = slope * stored + intercept of all voxels, in the file's order; the bytes are used up. */
export function toHu(
  bytes: Uint8Array<ArrayBuffer>,
  stored: StoredType,
  isLittleEndian: boolean,
  slope: number,
  intercept: number,
): Hu {
  if (!isLittleEndian) swapBytes(bytes, BYTES[stored]);
  const values = typed(bytes, stored);
  const isPlain = slope === 1 && intercept === 0;
  if (isPlain && values instanceof Int16Array) return { hu: values, warnings: [] };
  if (isPlain && values instanceof Uint16Array) return unsigned(values);
  return scaled(values, slope, intercept, stored.startsWith('f'));
}

type Stored = Exclude<ReturnType<typeof typed>, BigInt64Array | BigUint64Array>;

function typed(bytes: Uint8Array<ArrayBuffer>, stored: StoredType) {
  const count = bytes.length / BYTES[stored];
  const [buffer, at] = [bytes.buffer, bytes.byteOffset];
  switch (stored) {
    case 'u8':
      return bytes;
    case 'i8':
      return new Int8Array(buffer, at, count);
    case 'u16':
      return new Uint16Array(buffer, at, count);
    case 'i16':
      return new Int16Array(buffer, at, count);
    case 'u32':
      return new Uint32Array(buffer, at, count);
    case 'i32':
      return new Int32Array(buffer, at, count);
    case 'f32':
      return new Float32Array(buffer, at, count);
    case 'f64':
      return new Float64Array(buffer, at, count);
    case 'i64':
      return Float64Array.from(new BigInt64Array(buffer, at, count), Number);
    case 'u64':
      return Float64Array.from(new BigUint64Array(buffer, at, count), Number);
  }
}

function unsigned(values: Uint16Array<ArrayBuffer>): Hu {
  let [wraps, isMiddle] = [false, false];
  for (const value of values) {
    if (value > INT16_MAX) {
      if (value >= WRAPPED_FROM) wraps = true;
      else isMiddle = true;
    }
  }
  if (wraps && !isMiddle) {
    const sentence =
      'Values from 61440 up among unsigned 16-bit voxels are negative HU that lost their sign; they were read as signed.';
    return { hu: new Int16Array(values.buffer, values.byteOffset, values.length), warnings: [sentence] };
  }
  if (!wraps && !isMiddle) return { hu: new Int16Array(values.buffer, values.byteOffset, values.length), warnings: [] };
  return withLimits(
    Float32Array.from(values),
    0,
    values.reduce((most, value) => Math.max(most, value), 0),
    [],
  );
}

function scaled(values: Stored, slope: number, intercept: number, isReal: boolean): Hu {
  let [low, high, replaced, isWhole] = [Infinity, -Infinity, 0, true];
  const convert = (value: number): number => {
    const hu = slope * value + intercept;
    return !isReal || Math.abs(hu) <= LARGEST_FLOAT32 ? hu : FILL_HU;
  };
  for (const value of values) {
    const hu = convert(value);
    if (hu === FILL_HU && slope * value + intercept !== FILL_HU) replaced++;
    if (hu < low) low = hu;
    if (hu > high) high = hu;
    if (isWhole && !Number.isInteger(hu)) isWhole = false;
  }
  const warnings: string[] = [];
  if (replaced > 0) warnings.push(`${replaced} voxels were not finite numbers and were set to ${FILL_HU} HU (air).`);
  if (isWhole && low >= INT16_MIN && high <= INT16_MAX) {
    const hu = new Int16Array(values.length);
    for (let i = 0; i < hu.length; i++) hu[i] = convert(values[i]);
    return { hu, warnings };
  }
  const hu = new Float32Array(values.length);
  for (let i = 0; i < hu.length; i++) hu[i] = convert(values[i]);
  return withLimits(hu, low, high, warnings);
}

function withLimits(hu: Float32Array<ArrayBuffer>, low: number, high: number, before: readonly string[]): Hu {
  if (low >= INT16_MIN && high <= INT16_MAX) return { hu, warnings: before };
  const sentence = `Values reach from ${low} to ${high} HU, which 16 bits do not hold; they are kept as 32-bit floats.`;
  return { hu, warnings: [...before, sentence] };
}

function swapBytes(bytes: Uint8Array, size: number): void {
  for (let i = 0; size > 1 && i < bytes.length; i += size) bytes.subarray(i, i + size).reverse();
}
