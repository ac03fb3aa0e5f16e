/** What files that were dropped or chosen are. */

import { PageError } from '../core/errors';

/** What was chosen: one NIfTI file, or files that may be DICOM. */
export type Choice = { readonly nifti: File } | { readonly dicom: readonly File[] };

/**
 * Which of the two files are; other things that lie in folders are left out.
 *
 * @throws PageError for nothing usable, or several volumes.
 */
export function choiceOf(files: readonly File[]): Choice {
  const wanted = files.filter((file) => !file.name.startsWith('.') && file.size > 0);
  const nifti = wanted.filter((file) => /\.nii(\.gz)?$/i.test(file.name));
  if (nifti.length > 1) throw new PageError(`There are ${nifti.length} NIfTI files; choose one.`);
  if (nifti.length === 1) return { nifti: nifti[0] };
  if (wanted.some((file) => /\.(nrrd|nhdr|mha|mhd|hdr|img)$/i.test(file.name))) {
    throw new PageError('This page takes DICOM folders and NIfTI files (.nii, .nii.gz); thinslice upscale takes more.');
  }
  if (wanted.length === 0) throw new PageError('There is no file in what was chosen.');
  return { dicom: wanted };
}
