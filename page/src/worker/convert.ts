/** DICOM files to volumes, by dcm2niix in WebAssembly. */

import start from '@niivue/dcm2niix/module';
import { PageError } from '../core/errors';
import { candidates, type Sidecar } from '../io/dicom';
import { HEAD_BYTES, sliceFacts, type SliceFacts } from '../io/dicom_header';
import { isZip, zipMembers } from '../io/zip';
import type { ConvertJob, Report } from './messages';

/** Most bytes of files that are taken at once: they are held in memory beside what is made of them. */
const MOST_BYTES = 2 ** 31;

const [INPUT, OUTPUT] = ['/input', '/output'] as const;

/** Exit codes of dcm2niix without a fault of reading: all done, no DICOM found, and some files not converted. */
const SOUND_CODES: readonly number[] = [0, 2, 3, 8];

export async function convert(job: ConvertJob, send: (report: Report) => void): Promise<void> {
  const total = job.files.reduce((sum, file) => sum + file.size, 0);
  if (total > MOST_BYTES) {
    throw new PageError('These files are more than 2 GB, too much for a browser; choose the folder of one series.');
  }
  const lines: string[] = [];
  const note = (line: string): void => void lines.push(line);
  const converter = await start({ wasmBinary: job.binary, locateFile: (name) => name, print: note, printErr: note });
  converter.FS.mkdir(INPUT);
  converter.FS.mkdir(OUTPUT);
  const slices: SliceFacts[] = [];
  let taken = 0;
  const take = (bytes: Uint8Array): void => {
    slices.push(...[sliceFacts(bytes.subarray(0, HEAD_BYTES)) ?? []].flat());
    // A number for a name: names of files may be those of patients.
    converter.FS.createDataFile(INPUT, `${taken++}.dcm`, bytes, true, true);
  };
  for (const [number, file] of job.files.entries()) {
    const bytes = new Uint8Array(await file.arrayBuffer());
    if (isZip(bytes)) for (const member of zipMembers(bytes, MOST_BYTES)) take(member);
    else take(bytes);
    send({ kind: 'progress', share: (number + 1) / job.files.length / 2 });
  }
  // Names are the series' number and whatever marks the converter adds; volumes are not cropped or turned.
  const code = converter.callMain(['-o', OUTPUT, '-f', 's%s', '-b', 'y', '-ba', 'y', '-z', 'n', '-x', 'i', INPUT]);
  const names = converter.FS.readdir(OUTPUT).filter((name) => name.endsWith('.nii'));
  if (names.length === 0) {
    throw new PageError(
      SOUND_CODES.includes(code)
        ? 'These files hold no CT slices: choose the folder of a DICOM series, or a NIfTI file (.nii, .nii.gz).'
        : `The DICOM files could not be read (dcm2niix, exit code ${code}); choose the folder of one complete series.`,
    );
  }
  const files = names.map((name) => {
    const stem = name.slice(0, -'.nii'.length);
    const bytes = converter.FS.readFile(`${OUTPUT}/${name}`);
    converter.FS.unlink(`${OUTPUT}/${name}`);
    return { stem, bytes, sidecar: sidecarOf(converter.FS, `${OUTPUT}/${stem}.json`) };
  });
  send({ kind: 'candidates', candidates: candidates(files, slices, lines) });
}

function sidecarOf(files: { readFile(path: string): Uint8Array }, path: string): Sidecar {
  try {
    return JSON.parse(new TextDecoder().decode(files.readFile(path))) as Sidecar;
  } catch {
    // Without facts a volume is what its NIfTI header states.
    return {};
  }
}
