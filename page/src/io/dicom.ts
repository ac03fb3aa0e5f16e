/** What dcm2niix made of DICOM files, judged: what it had to correct is refused. */

import type { Candidate } from '../worker/messages';
import type { SliceFacts } from './dicom_header';
import { parseHeader } from './nifti_header';
import { PageError } from '../core/errors';
import { columnLength } from '../core/affine';

/** Parts that are read of the file with facts beside a volume. */
export interface Sidecar {
  readonly Modality?: string;
  readonly ImageType?: readonly string[];
  readonly SeriesNumber?: number;
  readonly SeriesDescription?: string;
  readonly ConvolutionKernel?: string;
}

/** Marks in the names of volumes that dcm2niix made upright, or of equal distances, beside the volume as it was. */
const [TILT, UNEQUAL] = [/_Tilt/i, /_Eq/i] as const;

/** Words of the converter's messages that mean that slices do not lie as a volume needs them. */
const IRREGULAR = /interslice distance varies|slice distance varies|missing (images|slices)|slices? (may be )?missing/i;

/** A file that dcm2niix made. */
export interface Converted {
  /** Name without suffix, with the marks that dcm2niix adds. */
  readonly stem: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly sidecar: Sidecar;
}

/**
 * The volumes that a reader can choose among, and why some cannot be upscaled.
 *
 * What dcm2niix corrected is not offered: thin slices of a resampled volume would not be those of the scan.
 *
 * @param slices facts of the DICOM files.
 * @param lines what dcm2niix printed.
 */
export function candidates(
  files: readonly Converted[],
  slices: readonly SliceFacts[],
  lines: readonly string[],
): Candidate[] {
  const corrected = files.map(({ stem }) => stem).filter((stem) => TILT.test(stem) || UNEQUAL.test(stem));
  const isUnexplained = lines.some((line) => IRREGULAR.test(line)) && !corrected.some((stem) => UNEQUAL.test(stem));
  const originals = files.filter(({ stem }) => !corrected.includes(stem));
  return originals.map(({ stem, bytes, sidecar }) => {
    const marks = corrected.filter((other) => other.startsWith(`${stem}_`)).join(' ');
    const facts = factsOf(bytes);
    const thicknesses = thicknessesOf(stem, slices);
    return {
      label: labelOf(sidecar, facts.text),
      refusal: refusalOf(sidecar, marks, isUnexplained) ?? thicknessRefusal(thicknesses) ?? facts.refusal,
      file: new Blob([bytes]),
      thicknessMm: thicknesses.length === 1 ? thicknesses[0] : null,
    };
  });
}

/** The slice thicknesses of a series, mm, ascending; its number stands at the beginning of the name. */
function thicknessesOf(stem: string, slices: readonly SliceFacts[]): readonly number[] {
  const number = Number(/^s(\d+)/.exec(stem)?.[1]);
  const found = slices.flatMap(({ seriesNumber, thicknessMm }) =>
    // A series without a number is 0 to the converter.
    (seriesNumber ?? 0) === number && thicknessMm !== null && thicknessMm > 0 ? [thicknessMm] : [],
  );
  return [...new Set(found)].sort((a, b) => a - b);
}

function thicknessRefusal(thicknesses: readonly number[]): string | null {
  if (thicknesses.length < 2) return null;
  return (
    `Slice thickness changes inside the series, from ${thicknesses[0]} to ${thicknesses[thicknesses.length - 1]} mm; ` +
    'give the part of one thickness in a folder of its own.'
  );
}

function labelOf(sidecar: Sidecar, text: string): string {
  return [
    sidecar.SeriesNumber === undefined ? 'Series' : `Series ${sidecar.SeriesNumber}`,
    sidecar.SeriesDescription,
    sidecar.ConvolutionKernel === undefined ? undefined : `kernel ${sidecar.ConvolutionKernel}`,
    text,
  ]
    .filter((part) => part !== undefined && part !== '')
    .join(', ');
}

/** Why a series cannot be upscaled, from its headers and what had to be corrected; null where nothing speaks against. */
function refusalOf(sidecar: Sidecar, marks: string, isIrregular: boolean): string | null {
  if (sidecar.Modality !== undefined && sidecar.Modality !== 'CT') {
    return `This is ${sidecar.Modality}, not CT.`;
  }
  if (sidecar.ImageType?.some((part) => part.toUpperCase() === 'LOCALIZER') === true) {
    return 'This is a localizer (scout view), not a stack of slices; give the axial series.';
  }
  if (TILT.test(marks)) {
    return (
      'The slices are stacked at an angle to their normal (gantry tilt). On the command line, thinslice upscale with ' +
      '--on-tilt resample shifts them upright.'
    );
  }
  if (UNEQUAL.test(marks) || isIrregular) {
    return (
      'The slices do not lie at equal distances: some may be missing, or two series are mixed; get the complete ' +
      'series. On the command line, thinslice inspect names the gap.'
    );
  }
  return null;
}

function factsOf(bytes: Uint8Array<ArrayBuffer>): { readonly text: string; readonly refusal: string | null } {
  try {
    const { shape, affineRas } = parseHeader(new DataView(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 540)));
    const step = Number(columnLength(affineRas, 2).toFixed(3));
    const size = `${shape[1]} x ${shape[0]}`;
    return shape[2] < 2
      ? { text: `one slice of ${size}`, refusal: 'There is one slice only, and thin slices are made between two.' }
      : { text: `${shape[2]} slices of ${size}, ${step} mm apart`, refusal: null };
  } catch (error) {
    if (!(error instanceof PageError)) throw error;
    return { text: 'no stack of slices', refusal: error.message };
  }
}
