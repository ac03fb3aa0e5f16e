/** What the page knows of a network, and how thick slices are described to it. */

import type { SliceProfile } from './profile';
import type { NetworkWindow } from './spans';

/** Facts that `thinslice models export` writes into an ONNX file. */
export interface NetworkFacts {
  readonly name: string;
  readonly version: string;
  /** Version of the package that exported it. */
  readonly packageVersion: string;
  readonly summary: string;
  /** SHA-256 of the weights in the package. */
  readonly weightsSha256: string;
  /** Factors that it can do. */
  readonly factors: readonly number[];
  /** Channels inside, and pixels per side of the plane that become channels. */
  readonly features: number;
  readonly unshuffle: number;
  /** Reach along depth (thick slices), height and width (pixels). */
  readonly halo: readonly [number, number, number];
  /** Slice thickness over slice distance up to which it was trained. */
  readonly widestSlice: number;
  /** Whether it also gives standard deviations. */
  readonly hasDeviation: boolean;
}

/** Inputs of a pass, by their names in the graph. */
export interface Pass {
  /** (depth, height, width), unit intensity. */
  readonly thick: Float32Array;
  readonly shape: readonly [number, number, number];
  readonly description: Description;
}

/** What a pass gives, ((depth - 1) * factor + 1, height, width) each. */
export interface Made {
  /** Unit intensity, not clamped. */
  readonly thin: Float32Array<ArrayBuffer>;
  /** Standard deviations, of the same unit; null from a network that gives none. */
  readonly deviation: Float32Array<ArrayBuffer> | null;
}

/** Runs a pass. */
export type Infer = (pass: Pass) => Promise<Made>;

/** Thick slices as the graph takes them (`thinslice.models.thinnet_config.Description`). */
export interface Description {
  /** (4,). */
  readonly condition: Float32Array;
  /** (factor, 6). */
  readonly positions: Float32Array;
  /** Weights of thin slices in a thick one. */
  readonly profile: Float64Array;
  /** What is added to the diagonal of A A^T. */
  readonly damping: number;
}

/** Layers of features, and thin volumes, that are held at once in a pass. */
const [HELD_LAYERS, HELD_THIN] = [3, 4] as const;

/** The network's window for a profile: thick slices that overlap couple thin slices farther than the network reaches. */
export function networkWindow(facts: NetworkFacts, profile: SliceProfile): NetworkWindow {
  const [depth, height, width] = facts.halo;
  const layer = facts.features / facts.unshuffle ** 2;
  // As for the thin slices: in the network's own memory and as a copy.
  const deviationBytes = facts.hasDeviation ? 8 * profile.factor : 0;
  return {
    halo: [Math.max(depth, profile.correctionReach), height, width],
    workingBytes: 4 * Math.max(HELD_LAYERS * layer, layer + HELD_THIN * profile.factor) + deviationBytes,
  };
}

export function describe(profile: SliceProfile): Description {
  return {
    condition: conditionFeatures(profile),
    positions: thinPositions(profile.factor),
    profile: Float64Array.from(profile.weights),
    damping: profile.damping,
  };
}

/** Description of the thick slices for the body: (4,), as `thinnet.condition_features`. */
export function conditionFeatures(profile: SliceProfile): Float32Array {
  const fineness = Math.log2(profile.factor) - 2;
  const width = profile.width - 1;
  return Float32Array.of(fineness, fineness ** 2, width, width * fineness);
}

/** Description of the thin slices of a thick one: (factor, 6), as `thinnet.thin_positions`. */
export function thinPositions(factor: number): Float32Array {
  const fineness = Math.log2(factor) - 2;
  const rows: number[] = [];
  for (let i = 0; i < factor; i++) {
    const offset = (i - Math.floor(factor / 2)) / factor;
    const angle = 2 * Math.PI * offset;
    rows.push(2 * offset, Math.cos(angle), Math.sin(angle), Math.sin(2 * angle), fineness, 2 * offset * fineness);
  }
  return Float32Array.from(rows);
}
