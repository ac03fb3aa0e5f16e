/** What the page and its workers tell each other; a worker does one job and ends. */

import type { Patch } from '../core/stitch';
import type { NetworkFacts } from '../core/network';
import type { Volume } from '../core/volume';

/** The WebAssembly runtime of the networks: its binary, or the folder that it is loaded from, for threads. */
export type Runtime = { readonly binary: ArrayBuffer } | { readonly folder: string; readonly threads: number };

export interface ReadJob {
  readonly kind: 'read';
  readonly file: Blob;
  /** The volume was made from DICOM: rows run as there, and these facts hold. */
  readonly dicom: { readonly thicknessMm: number | null } | null;
}

export interface ConvertJob {
  readonly kind: 'convert';
  readonly files: readonly File[];
  readonly binary: ArrayBuffer;
}

export interface UpscaleJob {
  readonly kind: 'upscale';
  readonly volume: Volume;
  readonly factor: number;
  readonly facts: NetworkFacts;
  readonly network: ArrayBuffer;
  readonly runtime: Runtime;
}

export type Job = ReadJob | ConvertJob | UpscaleJob;

/** One volume that a DICOM folder holds. */
export interface Candidate {
  /** What a reader chooses by; from the headers. */
  readonly label: string;
  /** Why it cannot be upscaled; null where it can. */
  readonly refusal: string | null;
  readonly file: Blob;
  readonly thicknessMm: number | null;
}

/** Facts about a finished run. */
export interface RunFacts {
  readonly consistencyRmsHu: number | null;
  readonly voxelsOutsideWindow: number;
  readonly windows: number;
}

export type Report =
  | { readonly kind: 'volume'; readonly volume: Volume; readonly refusal: string | null; readonly warnings: string[] }
  | { readonly kind: 'candidates'; readonly candidates: readonly Candidate[] }
  | { readonly kind: 'progress'; readonly share: number }
  | { readonly kind: 'patch'; readonly patch: Patch }
  | { readonly kind: 'done'; readonly facts: RunFacts }
  /** `isExpected`: the message is written for the reader of the page. */
  | { readonly kind: 'fault'; readonly message: string; readonly isExpected: boolean };
