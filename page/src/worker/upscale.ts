/** The line of `thinslice upscale` in a worker: windows, network, stitching, values restored, consistency measured. */

import { chooseFactor, refuseOverlap, sliceProfile } from '../core/eligibility';
import { ConsistencyMeter } from '../core/meter';
import { Stitcher } from '../core/stitch';
import type { Report, UpscaleJob } from './messages';
import { openNetwork } from './runtime';

/** Run a job; slabs and progress go to `send` as they come. */
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
  const meter = new ConsistencyMeter(profile, volume.hu, depth, volume.paddingHu);
  const infer = await openNetwork(job.network, job.runtime);
  const report = (share: number): void => {
    send({ kind: 'progress', share });
  };
  report(0);
  for await (const slab of stitcher.slabs(infer, report)) {
    meter.add(slab.hu);
    send({ kind: 'slab', slab }, [slab.hu.buffer]);
  }
  let windows = 0;
  stitcher.eachWindow(() => windows++);
  send({
    kind: 'done',
    facts: { consistencyRmsHu: meter.rmsHu, voxelsOutsideWindow: stitcher.voxelsOutsideWindow, windows },
  });
}
