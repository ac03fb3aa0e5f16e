/** Whether a volume can be upscaled, by which factor, and the profile of its slices (`thinslice.planning.eligibility`). */

import { PageError } from './errors';
import type { NetworkFacts } from './network';
import { SliceProfile } from './profile';
import type { Volume } from './volume';

/** Factors that networks were trained for. */
export const [MIN_FACTOR, MAX_FACTOR] = [2, 8] as const;

/** The distance of thin slices that is aimed at, mm. */
export const TARGET_MM = 1;

/** Slices whose thickness differs from their distance by less than this share count as contiguous. */
const WIDTH_TOLERANCE = 0.01;

/** Thickness over distance, and thickness in mm, outside of which a header is taken to be wrong. */
const [MIN_WIDTH, MAX_WIDTH, MIN_THICKNESS_MM] = [0.04, 4, 0.1] as const;

/** The usual factor: thick distance over 1 mm, rounded half up, in the range that is possible. */
export function usualFactor(spacingMm: number): number {
  return Math.floor(Math.round((spacingMm / TARGET_MM) * 1e4) / 1e4 + 0.5);
}

/**
 * The factor to upscale by.
 *
 * @param factor that a user asks for; null for the usual one.
 * @throws PageError with the reason and what works.
 */
export function chooseFactor(volume: Volume, factor: number | null): number {
  if (volume.grid.shape[0] < 2) {
    throw new PageError(
      'There is one slice only, and thin slices are made between two; give the folder of the whole series, or a file of the whole volume.',
    );
  }
  if (volume.isAxisAmbiguous) {
    throw new PageError(
      'Several axes could be the through-plane one (their spacings are equal or nearly so); on the command line, ' +
        'thinslice upscale with --axis names it.',
    );
  }
  const thickMm = volume.grid.spacingMm[0];
  const shown = written(thickMm);
  const chosen = factor ?? usualFactor(thickMm);
  if (factor === null && chosen < MIN_FACTOR) {
    throw new PageError(
      `Slices ${shown} mm apart are already thin for a target of ${TARGET_MM} mm (factor ${chosen}); choose factor ${MIN_FACTOR} for ${written(thickMm / MIN_FACTOR)} mm.`,
    );
  }
  if (!Number.isInteger(chosen) || chosen < MIN_FACTOR || chosen > MAX_FACTOR) {
    const works = chosen > MAX_FACTOR ? MAX_FACTOR : MIN_FACTOR;
    const asked = factor === null ? `a target of ${TARGET_MM} mm (factor ${chosen})` : `factor ${chosen}`;
    throw new PageError(
      `Slices ${shown} mm apart cannot be upscaled to ${asked}: factors ${MIN_FACTOR} to ${MAX_FACTOR} are possible; choose factor ${works} for ${written(thickMm / works)} mm.`,
    );
  }
  return chosen;
}

/** Slice thickness over slice distance; an unknown or implausible one counts as contiguous. */
export function relativeThickness(volume: Volume): number {
  if (volume.thicknessMm === null) return 1;
  const relative = volume.thicknessMm / volume.grid.spacingMm[0];
  return Math.abs(relative - 1) <= WIDTH_TOLERANCE || !isPlausibleThickness(volume) ? 1 : relative;
}

function isPlausibleThickness(volume: Volume): boolean {
  if (volume.thicknessMm === null) return true;
  const relative = volume.thicknessMm / volume.grid.spacingMm[0];
  return relative >= MIN_WIDTH && relative <= MAX_WIDTH && volume.thicknessMm >= MIN_THICKNESS_MM;
}

/** Weights of thin slices in a thick one: a box as wide as the slice is thick. */
export function sliceProfile(volume: Volume, factor: number): SliceProfile {
  return SliceProfile.mean(factor, relativeThickness(volume));
}

/** A sentence when slices overlap, leave gaps or state an implausible thickness; else null. */
export function profileWarning(volume: Volume): string | null {
  if (volume.thicknessMm === null) return null;
  const start = `Slices ${written(volume.thicknessMm)} mm thick lie ${written(volume.grid.spacingMm[0])} mm apart, `;
  const width = relativeThickness(volume);
  if (width > 1) return `${start}so they overlap; their true profile is used.`;
  if (width < 1) return `${start}so there are gaps between them; their true profile is used.`;
  return isPlausibleThickness(volume) ? null : `${start}which is not plausible; they are taken as contiguous.`;
}

/** Refuse slices that overlap more than any that the network was trained on. */
export function refuseOverlap(volume: Volume, facts: NetworkFacts): void {
  const width = relativeThickness(volume);
  if (width <= facts.widestSlice + WIDTH_TOLERANCE) return;
  const distance = volume.grid.spacingMm[0];
  throw new PageError(
    `Slices are ${Number(width.toPrecision(3))} times as thick as they are apart (${written(width * distance)} mm at ` +
      `${written(distance)} mm), and ${facts.name} was trained up to ${facts.widestSlice} times. ` +
      'Check the slice thickness in the header.',
  );
}

/** A number with four digits, without trailing zeros. */
export function written(value: number): string {
  return `${Number(value.toPrecision(4))}`;
}
