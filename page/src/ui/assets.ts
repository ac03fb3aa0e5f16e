/** Scripts, runtimes and networks: in the page itself, or beside it on a server. */

import { PageError } from '../core/errors';
import type { Runtime } from '../worker/messages';

/** Set by the build: whether everything stands in the page. */
declare const IS_SINGLE_FILE: boolean;

/** Most threads that a run takes; more gain little. */
const MOST_THREADS = 8;

/** Names of the networks' files, the first one as the page's default; set by the build. */
declare const NETWORKS: readonly string[];

export const NETWORK_FILES = NETWORKS;

/** Files of the graphs that also give standard deviations, by the names of their networks; set by the build. */
declare const WITH_UNCERTAINTY: Readonly<Partial<Record<string, string>>>;

export const UNCERTAINTY_FILES = WITH_UNCERTAINTY;

/** Bytes of a file of the page. */
export async function load(name: string): Promise<ArrayBuffer> {
  if (!IS_SINGLE_FILE) {
    const answer = await fetch(name);
    if (!answer.ok) throw new PageError('A part of this page could not be loaded; load the page again.');
    return answer.arrayBuffer();
  }
  const text = document.getElementById(`asset-${name}`)?.textContent;
  if (text == null) throw new PageError('This file is damaged: a part of it is missing. Copy it again.');
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream('gzip'));
  return new Response(stream).arrayBuffer();
}

/** A worker of the page. */
export async function startWorker(): Promise<Worker> {
  if (!IS_SINGLE_FILE) return new Worker('worker.js', { type: 'module' });
  workerUrl ??= URL.createObjectURL(new Blob([await load('worker.js')], { type: 'text/javascript' }));
  return new Worker(workerUrl);
}

let workerUrl: string | null = null;

/** The runtime of the networks: on threads where the page may have them. */
export async function runtime(): Promise<Runtime> {
  if (IS_SINGLE_FILE) return { binary: await load('ort-wasm-simd-threaded.wasm') };
  return { folder: new URL('./', location.href).href, threads: threads() };
}

/** Threads that a run takes: one, where the browser or the server does not allow more. */
export function threads(): number {
  if (IS_SINGLE_FILE || !globalThis.crossOriginIsolated) return 1;
  return Math.min(MOST_THREADS, navigator.hardwareConcurrency);
}

/** Bytes of base64; browsers that are not of the newest lack the short way. */
function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  const { fromBase64 } = Uint8Array as unknown as { fromBase64?: (text: string) => Uint8Array<ArrayBuffer> };
  if (fromBase64 !== undefined) return fromBase64.call(Uint8Array, base64);
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}
