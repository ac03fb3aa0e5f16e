/**
 * The few attributes of a DICOM file that dcm2niix does not pass on.
 *
 * Source: DICOM PS3.5, sections 7.1 (data elements), 7.5 (sequences) and 10.1 (transfer syntaxes).
 */

/** Bytes at the beginning of a file in which the attributes lie. */
export const HEAD_BYTES = 1 << 18;

/** Attributes by group and element. */
const [SLICE_THICKNESS, SERIES_NUMBER, TRANSFER_SYNTAX] = [0x00180050, 0x00200011, 0x00020010] as const;

const [ITEM, ITEM_END, SEQUENCE_END] = [0xfffee000, 0xfffee00d, 0xfffee0dd] as const;

const UNDEFINED = 0xffffffff;

/** Characters of the longest value that is read. */
const LONGEST_TEXT = 256;

/** Representations whose length takes four bytes, after two reserved ones. */
const LONG = new Set(['OB', 'OD', 'OF', 'OL', 'OV', 'OW', 'SQ', 'SV', 'UC', 'UN', 'UR', 'UT', 'UV']);

const [IMPLICIT, BIG_ENDIAN, DEFLATED] = [
  '1.2.840.10008.1.2',
  '1.2.840.10008.1.2.2',
  '1.2.840.10008.1.2.1.99',
] as const;

export interface SliceFacts {
  readonly seriesNumber: number | null;
  readonly thicknessMm: number | null;
}

/** No element has it. */
const NONE = -1;

const isPastMeta = (tag: number): boolean => tag >= 0x00030000;

/** Facts of a file; null for one that is no DICOM, or whose header is packed. */
export function sliceFacts(head: Uint8Array): SliceFacts | null {
  const start = text(head, 128, 4) === 'DICM' ? 132 : null;
  if (start === null) return null;
  const meta = new Elements(head, start, true, false);
  const syntax = meta.find(TRANSFER_SYNTAX, isPastMeta)?.replace(/\0/g, '').trim() ?? IMPLICIT;
  // The rest of the group lies between.
  meta.find(NONE, isPastMeta);
  if (syntax === DEFLATED) return null;
  const elements = new Elements(head, meta.at, syntax !== IMPLICIT, syntax === BIG_ENDIAN);
  const thickness = elements.find(SLICE_THICKNESS, (tag) => tag > SLICE_THICKNESS);
  const series = elements.find(SERIES_NUMBER, (tag) => tag > SERIES_NUMBER);
  return { seriesNumber: numberOf(series), thicknessMm: numberOf(thickness) };
}

/** Data elements in their order, from a place on. */
class Elements {
  private readonly view: DataView;

  constructor(
    private readonly bytes: Uint8Array,
    public at: number,
    private readonly isExplicit: boolean,
    private readonly isBigEndian: boolean,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** The text of an element; null where `isPast` holds for an element before it is found, or the bytes end. */
  find(wanted: number, isPast: (tag: number) => boolean): string | null {
    while (this.at + 8 <= this.bytes.length) {
      const tag = this.tag(this.at);
      if (tag === wanted) {
        const { start, length } = this.value(tag);
        this.at = start + length;
        return text(this.bytes, start, length);
      }
      if (isPast(tag)) return null;
      this.skip(tag);
    }
    return null;
  }

  private tag(at: number): number {
    const little = !this.isBigEndian;
    return this.view.getUint16(at, little) * 0x10000 + this.view.getUint16(at + 2, little);
  }

  /** Where the value of the element at `at` begins, and its length. */
  private value(tag: number): { readonly start: number; readonly length: number } {
    const little = !this.isBigEndian;
    const isItem = tag === ITEM || tag === ITEM_END || tag === SEQUENCE_END;
    if (!this.isExplicit || isItem) return { start: this.at + 8, length: this.view.getUint32(this.at + 4, little) };
    if (!LONG.has(text(this.bytes, this.at + 4, 2))) {
      return { start: this.at + 8, length: this.view.getUint16(this.at + 6, little) };
    }
    if (this.at + 12 > this.bytes.length) return { start: this.bytes.length, length: 0 };
    return { start: this.at + 12, length: this.view.getUint32(this.at + 8, little) };
  }

  /** Pass over the element at `at`, with what it holds. */
  private skip(tag: number): void {
    const { start, length } = this.value(tag);
    this.at = start + length;
    if (length !== UNDEFINED) return;
    this.at = start;
    const end = tag === ITEM ? ITEM_END : SEQUENCE_END;
    while (this.at + 8 <= this.bytes.length) {
      const inner = this.tag(this.at);
      if (inner === end) {
        this.at += 8;
        return;
      }
      this.skip(inner);
    }
  }
}

function numberOf(value: string | null): number | null {
  const found = value === null || value.trim() === '' ? NaN : Number(value.replace(/\0/g, '').trim().replace(',', '.'));
  return Number.isFinite(found) ? found : null;
}

function text(bytes: Uint8Array, at: number, length: number): string {
  return String.fromCharCode(...bytes.subarray(at, at + Math.min(length, LONGEST_TEXT)));
}
