/** The line of `thinslice upscale` in a worker: windows, network, stitching, values restored, consistency measured. */

import { chooseFactor, refuseOverlap, sliceProfile } from '../core/eligibility';
import { Stitcher } from '../core/stitch';
import type { Report, UpscaleJob } from './messages';
import { openNetwork } from './runtime';

/** Run a job; patches and progress go to `send` as they come. */
export async function upscale(
  job: UpscaleJob,
  send: (report: Report, transfer?: Transferable[]) => void,
): Promise<void> {
  const { volume, facts } = job;
  const factor = chooseFactor(volume, job.factor);
  refuseOverlap(volume, facts);
  const profile = sliceProfile(volume, factor);
  const [depth, height, width] = volume.grid.shape;
  const thick = { hu: volume.hu, shape: [depth, height, width] as const, paddingHu: volume.paddingHu };
  const stitcher = new Stitcher(thick, facts, profile);
  const infer = await openNetwork(job.network, job.runtime);
  const report = (share: number): void => {
    send({ kind: 'progress', share });
  };
  report(0);
  for await (const patch of stitcher.patches(infer, report)) {
    const { hu, deviationSteps } = patch;
    send({ kind: 'patch', patch }, deviationSteps === null ? [hu.buffer] : [hu.buffer, deviationSteps.buffer]);
  }
  const { consistencyRmsHu, voxelsOutsideWindow, windows } = stitcher;
  send({ kind: 'done', facts: { consistencyRmsHu, voxelsOutsideWindow, windows } });
}
