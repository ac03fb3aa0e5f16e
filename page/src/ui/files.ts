/** Files and folders that were dropped or chosen. */

import { PageError } from '../core/errors';

/** All files of a drop, folders included. */
export async function droppedFiles(transfer: DataTransfer): Promise<File[]> {
  // Entries must be taken before the first await: the list is emptied afterwards.
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry());
  const plain = [...transfer.files];
  const found: File[] = [];
  for (const entry of entries) if (entry !== null) await walk(entry, found);
  return found.length > 0 ? found : plain;
}

async function walk(entry: FileSystemEntry, found: File[]): Promise<void> {
  if (entry.isFile) {
    found.push(
      await new Promise<File>((resolve, reject) => {
        (entry as FileSystemFileEntry).file(resolve, reject);
      }),
    );
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  for (;;) {
    // A reader gives a hundred entries at a time.
    const some = await new Promise<FileSystemEntry[]>((resolve, reject) => {
      reader.readEntries(resolve, reject);
    });
    if (some.length === 0) return;
    for (const each of some) await walk(each, found);
  }
}

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
  if (wanted.some((file) => /\.zip$/i.test(file.name))) {
    throw new PageError('This page takes no zip files: unpack it, and choose the folder.');
  }
  if (wanted.some((file) => /\.(nrrd|nhdr|mha|mhd|hdr|img)$/i.test(file.name))) {
    throw new PageError('This page takes DICOM folders and NIfTI files (.nii, .nii.gz); thinslice upscale takes more.');
  }
  if (wanted.length === 0) throw new PageError('There is no file in what was chosen.');
  return { dicom: wanted };
}
