/** What dcm2niix made of DICOM files, judged: what it had to correct is refused. */

import type { Candidate } from '../worker/messages';
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
  readonly SliceThickness?: number;
}

/** Words of the converter's messages that mean that slices do not lie as a volume needs them. */
const IRREGULAR = /interslice distance varies|slice distance varies|missing (images|slices)|slices? (may be )?missing/i;

/**
 * A volume that was converted, and why it cannot be upscaled.
 *
 * @param stem name of the converted file, with the marks that dcm2niix adds.
 * @param lines what dcm2niix printed.
 */
export function candidateOf(
  stem: string,
  bytes: Uint8Array<ArrayBuffer>,
  sidecar: Sidecar,
  lines: readonly string[],
): Candidate {
  const facts = factsOf(bytes);
  const label = [
    sidecar.SeriesNumber === undefined ? 'Series' : `Series ${sidecar.SeriesNumber}`,
    sidecar.SeriesDescription,
    sidecar.ConvolutionKernel === undefined ? undefined : `kernel ${sidecar.ConvolutionKernel}`,
    facts.text,
  ]
    .filter((part) => part !== undefined && part !== '')
    .join(', ');
  const thickness = sidecar.SliceThickness;
  return {
    label,
    refusal: refusalOf(stem, sidecar, lines) ?? facts.refusal,
    file: new Blob([bytes]),
    thicknessMm: thickness !== undefined && thickness > 0 ? thickness : null,
  };
}

/** Why a converted series cannot be upscaled, from the converter's marks and the headers; null where nothing speaks against. */
export function refusalOf(stem: string, sidecar: Sidecar, lines: readonly string[]): string | null {
  if (sidecar.Modality !== undefined && sidecar.Modality !== 'CT') {
    return `This is ${sidecar.Modality}, not CT.`;
  }
  if (sidecar.ImageType?.some((part) => part.toUpperCase() === 'LOCALIZER') === true) {
    return 'This is a localizer, not a series of slices.';
  }
  if (/_Tilt/i.test(stem)) {
    return (
      'The gantry was tilted, so the slices do not lie above each other: thinslice upscale with --on-tilt resample ' +
      'removes the tilt.'
    );
  }
  if (/_Eq/i.test(stem) || lines.some((line) => IRREGULAR.test(line))) {
    return (
      'The slices do not lie at equal distances: one may be missing, or two series are mixed. Choose the folder of one ' +
      'complete series; thinslice inspect names the gap.'
    );
  }
  return null;
}

function factsOf(bytes: Uint8Array<ArrayBuffer>): { readonly text: string; readonly refusal: string | null } {
  try {
    const { shape, affineRas } = parseHeader(new DataView(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, 540)));
    const step = Number(columnLength(affineRas, 2).toFixed(3));
    return { text: `${shape[2]} slices of ${shape[1]} x ${shape[0]}, ${step} mm apart`, refusal: null };
  } catch (error) {
    if (!(error instanceof PageError)) throw error;
    return { text: 'no volume of slices', refusal: error.message };
  }
}
