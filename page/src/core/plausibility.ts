/** Whether voxels look like HU of a CT, from their values alone (`thinslice.plausibility` in Python, in its words). */

import type { Voxels } from './intensity';

const SAMPLED_VOXELS = 1_000_000;
const UNIT_REACH = 1.05;
const LEAST_SPREAD_HU = 30;
const MOST_LABELS = 32;
const WRAPPED_HU = 31_000;
const RARE = 0.001;
const AIR_BELOW_HU = -200;
const LOWEST_HU = -3000;
const [FAR_BELOW_HU, SHIFTED_SHARE] = [-1200, 0.02] as const;
const RAW_TISSUE = [850, 1200] as const;
const [MASK_SHARE, MASK_SPIKE] = [0.05, 20] as const;

type Refused = 'unit' | 'signed unit' | 'normalised' | 'labels';
type Warned = '8 bit' | 'wrapped' | 'masked' | 'raw' | 'shifted' | 'other' | 'beyond';
export type Kind = 'hu' | 'empty' | Refused | Warned;

const REFUSALS: { readonly [kind in Refused]: string } = {
  unit: 'The values lie between 0 and 1 and are not HU; convert them to HU first.',
  'signed unit': 'The values lie between -1 and 1 and are not HU; convert them to HU first.',
  normalised:
    'The values span less than the noise of a CT in HU, as after normalisation (z-scores); convert them to HU first.',
  labels: 'The values are a few whole numbers from 0 on, as in a segmentation, and not HU; give the CT itself.',
};

const WARNINGS: { readonly [kind in Warned]: string } = {
  '8 bit':
    'The values are whole numbers from 0 to 255, as after a display window of 8 bits, and not HU: the result will be wrong. Export the CT with its full range.',
  wrapped:
    'Values above 31000 occur, as where negative pixels were read as unsigned: the result will be wrong. Check the data type of the file.',
  masked:
    'Many voxels are exactly 0, as where everything outside the body was set to 0: the network takes it for soft tissue. Give the CT before masking, or set the outside to -1024 HU.',
  raw: 'No voxel lies below -200, and most tissue lies near 1024, as in scanner values that lost their rescale intercept (HU + 1024): the result will be wrong. Subtract 1024 first.',
  shifted:
    'Many voxels lie far below -1024, the HU of a vacuum, as where an intercept was subtracted twice: the result will be wrong. Check the conversion to HU.',
  other:
    'No voxel lies below 0, where HU of air and fat lie: this may be another modality (MR), or a rescaled file. The result will be wrong unless the values are HU.',
  beyond:
    'Some voxels lie below -3000 or above 31000, where neither tissue nor metal lies: pixels may be damaged. Compare them with the original.',
};

export interface Plausibility {
  readonly kind: Kind;
  readonly isRefused: boolean;
  /** What a user should know and do; null where values look like HU. */
  readonly sentence: string | null;
}

/** What the values of a volume look like; padding is left out. */
export function examine(values: Voxels, paddingHu: number | null): Plausibility {
  const step = Math.max(1, Math.floor(values.length / SAMPLED_VOXELS));
  let sample = Float64Array.from({ length: Math.ceil(values.length / step) }, (_, i) => values[i * step]);
  const unpadded = paddingHu === null ? sample : sample.filter((value) => value !== paddingHu);
  if (unpadded.length > 0) sample = unpadded;
  let kind = kindOf(sample.sort());
  if (kind === 'hu' && reachesBeyond(values, paddingHu)) kind = 'beyond';
  const isRefused = kind in REFUSALS;
  const found = isRefused ? REFUSALS[kind as Refused] : kind in WARNINGS ? WARNINGS[kind as Warned] : null;
  const range = `(Values from ${shown(sample[0])} to ${shown(sample[sample.length - 1])}.)`;
  return { kind, isRefused, sentence: found === null ? null : `${found} ${range}` };
}

/** @param sorted ascending. */
function kindOf(sorted: Float64Array): Kind {
  const [low, high] = [sorted[0], sorted[sorted.length - 1]];
  if (low === high) return 'empty';
  const isWhole = sorted.every(Number.isInteger);
  if (isWhole && low >= 0 && distinct(sorted) <= MOST_LABELS) return 'labels';
  if (Math.max(Math.abs(low), Math.abs(high)) <= UNIT_REACH) return low >= 1 - UNIT_REACH ? 'unit' : 'signed unit';
  if (!isWhole && percentile(sorted, 99.9) - percentile(sorted, 0.1) < LEAST_SPREAD_HU) return 'normalised';
  if (isWhole && low >= 0 && high <= 255) return '8 bit';
  if (share(sorted, (value) => value > WRAPPED_HU) > RARE) return 'wrapped';
  const inside = low < FAR_BELOW_HU ? sorted.filter((value) => value !== low) : sorted;
  if (share(inside, (value) => value < FAR_BELOW_HU) > SHIFTED_SHARE) return 'shifted';
  const hasNoAir = share(inside, (value) => value < AIR_BELOW_HU) <= RARE;
  if (hasNoAir && share(inside, (value) => value < -2) <= RARE && isRaw(inside)) return 'raw';
  if (isMasked(inside)) return 'masked';
  return inside[0] < -2 ? 'hu' : 'other';
}

function reachesBeyond(values: Voxels, paddingHu: number | null): boolean {
  let [lowest, low, highestOfLow, isHigh] = [Infinity, 0, -Infinity, false];
  for (const value of values) {
    if (value > WRAPPED_HU) isHigh = true;
    if (value < lowest) lowest = value;
    if (value < LOWEST_HU) {
      low++;
      if (value > highestOfLow) highestOfLow = value;
    }
  }
  if (isHigh) return true;
  return low > 0 && (lowest < highestOfLow || (lowest !== paddingHu && low <= RARE * values.length));
}

function isRaw(values: Float64Array): boolean {
  const dense = values.filter((value) => value > 500);
  const isNear = (value: number): boolean => value > RAW_TISSUE[0] && value < RAW_TISSUE[1];
  return dense.length > 0.05 * values.length && share(dense, isNear) > 0.5;
}

function isMasked(values: Float64Array): boolean {
  const zero = share(values, (value) => value === 0);
  const around = share(values, (value) => Math.abs(value) <= 5.5 && Math.abs(value) >= 0.5) / 10;
  return zero > MASK_SHARE && zero > MASK_SPIKE * around;
}

function share(values: Float64Array, test: (value: number) => boolean): number {
  let count = 0;
  for (const value of values) if (test(value)) count++;
  return count / values.length;
}

function distinct(sorted: Float64Array): number {
  let count = 1;
  for (let i = 1; i < sorted.length; i++) if (sorted[i] !== sorted[i - 1]) count++;
  return count;
}

/** As NumPy's, linear between two values. */
function percentile(sorted: Float64Array, percent: number): number {
  const at = ((sorted.length - 1) * percent) / 100;
  const below = Math.floor(at);
  const above = Math.min(below + 1, sorted.length - 1);
  return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

function shown(value: number): string {
  return `${Number(value.toPrecision(6))}`;
}
