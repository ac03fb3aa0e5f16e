/** Facts that `thinslice models export` wrote into an ONNX file, read from its bytes. */

import { PageError } from '../core/errors';
import type { NetworkFacts } from '../core/network';

/** Numbers of fields: the metadata of the model, and key and value of an entry (`onnx.proto`). */
const [METADATA, KEY, VALUE] = [14, 1, 2] as const;

/** Key of the JSON. */
const THINSLICE = 'thinslice';

/** The JSON as the package writes it (docs/reference/onnx.md). */
interface Exported {
  readonly name: string;
  readonly version: string;
  readonly thinslice: string;
  readonly summary: string | null;
  readonly weights_sha256: string;
  readonly factors: readonly number[];
  readonly config: { readonly features: number; readonly unshuffle: number };
  readonly halo: readonly [number, number, number];
  readonly widest_slice: number;
  readonly deviation: object | null;
}

/** @throws PageError for a file without these facts. */
export function networkFacts(onnx: Uint8Array): NetworkFacts {
  for (const { number, bytes } of fieldsOf(onnx)) {
    if (number !== METADATA) continue;
    const entry = new Map(fieldsOf(bytes).map((field) => [field.number, new TextDecoder().decode(field.bytes)]));
    if (entry.get(KEY) !== THINSLICE) continue;
    const facts = JSON.parse(entry.get(VALUE) ?? '') as Exported;
    return {
      name: facts.name,
      version: facts.version,
      packageVersion: facts.thinslice,
      summary: facts.summary ?? '',
      weightsSha256: facts.weights_sha256,
      factors: facts.factors,
      features: facts.config.features,
      unshuffle: facts.config.unshuffle,
      halo: facts.halo,
      widestSlice: facts.widest_slice,
      hasDeviation: facts.deviation !== null,
    };
  }
  throw new PageError('The network in this page is damaged; get the page again.');
}

/** The fields of a message that hold bytes; others are passed over. */
function fieldsOf(message: Uint8Array): { readonly number: number; readonly bytes: Uint8Array }[] {
  const found: { readonly number: number; readonly bytes: Uint8Array }[] = [];
  let at = 0;
  const varint = (): number => {
    let [value, scale] = [0, 1];
    for (;;) {
      const byte = message[at++];
      value += (byte & 0x7f) * scale;
      if (byte < 0x80 || at >= message.length) return value;
      scale *= 128;
    }
  };
  while (at < message.length) {
    const tag = varint();
    switch (tag & 7) {
      case 0:
        varint();
        break;
      case 1:
        at += 8;
        break;
      case 2: {
        const length = varint();
        found.push({ number: Math.floor(tag / 8), bytes: message.subarray(at, at + length) });
        at += length;
        break;
      }
      case 5:
        at += 4;
        break;
      default:
        return found;
    }
  }
  return found;
}
