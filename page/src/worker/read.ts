/** A file to a volume, with what its voxels show. */

import { profileWarning } from '../core/eligibility';
import { continuityWarnings } from '../core/continuity';
import { examine } from '../core/plausibility';
import { rowsReversed, type Volume } from '../core/volume';
import { readNifti } from '../io/nifti';
import type { ReadJob, Report } from './messages';

export async function read(job: ReadJob, send: (report: Report, transfer?: Transferable[]) => void): Promise<void> {
  let volume: Volume = await readNifti(job.file);
  if (job.dicom !== null) {
    // The converter turns rows over; the network gets them as the scanner made them.
    volume = { ...rowsReversed(volume), thicknessMm: job.dicom.thicknessMm };
  }
  const found = examine(volume.hu, volume.paddingHu);
  const warnings = [
    ...volume.warnings,
    ...(found.sentence === null || found.isRefused ? [] : [found.sentence]),
    ...continuityWarnings(volume.hu, [volume.grid.shape[0], volume.grid.shape[1], volume.grid.shape[2]]),
    profileWarning(volume) ?? [],
  ].flat();
  const refusal = found.isRefused ? found.sentence : null;
  send({ kind: 'volume', volume, refusal, warnings }, [volume.hu.buffer]);
}
