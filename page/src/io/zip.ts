/** Files in zip archives, by fflate. */

import { unzipSync, type UnzipFileInfo } from 'fflate';
import { PageError } from '../core/errors';

/** Bytes of members, unpacked, that are held at once. */
const BATCH_BYTES = 64 * 2 ** 20;

/** Most members of an archive. */
const MOST_MEMBERS = 20_000;

/** Folders, and what systems put beside files. */
const IGNORED = /\/$|(^|\/)(\.|__MACOSX\/)/;

/** Whether a file is a zip archive, from its first bytes. */
export function isZip(head: Uint8Array): boolean {
  return head[0] === 0x50 && head[1] === 0x4b && (head[2] === 3 || head[2] === 5);
}

/**
 * The files of an archive, a few at a time; their names, which may be those of patients, are left out.
 *
 * @param mostBytes that all of them may take, unpacked: an archive can declare to be larger than any memory.
 * @throws PageError for an archive that is damaged, encrypted, empty or too large.
 */
export function* zipMembers(archive: Uint8Array, mostBytes: number): Generator<Uint8Array> {
  const sizes = new Map<string, number>();
  const note = ({ name, originalSize }: UnzipFileInfo): boolean => {
    if (!IGNORED.test(name) && originalSize > 0) sizes.set(name, originalSize);
    return false;
  };
  unpack(archive, note);
  const total = [...sizes.values()].reduce((sum, size) => sum + size, 0);
  if (sizes.size === 0) throw new PageError('There is no file in this zip archive.');
  if (total > mostBytes || sizes.size > MOST_MEMBERS) {
    throw new PageError('This zip archive is too large for a browser; unpack it and choose the folder of one series.');
  }
  let [batch, bytes] = [new Set<string>(), 0];
  const left = [...sizes];
  for (const [number, [name, size]] of left.entries()) {
    batch.add(name);
    bytes += size;
    if (bytes < BATCH_BYTES && number + 1 < left.length) continue;
    const chosen = batch;
    yield* Object.values(unpack(archive, (file) => chosen.has(file.name)));
    [batch, bytes] = [new Set<string>(), 0];
  }
}

function unpack(archive: Uint8Array, filter: (file: UnzipFileInfo) => boolean): Record<string, Uint8Array> {
  try {
    return unzipSync(archive, { filter });
  } catch {
    throw new PageError('The zip archive is damaged, cut short or encrypted; copy it again, or unpack it yourself.');
  }
}
