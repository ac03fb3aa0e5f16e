/** The viewer on a job's raw volumes: slices are fetched in parts, and shown while a run still makes them. */

import { call } from './api.js';
import { at, problem } from './dom.js';

/** Bytes of a part. */
const PART_BYTES = 4 << 20;

/** Time between two looks for new slices of a run, milliseconds. */
const LOOK_MS = 1000;

let viewer = null;
let current = 0;

/** The script of the viewer, which makes the global ThinsliceViewer. */
function load() {
  if (globalThis.ThinsliceViewer) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const script = document.createElement('script');
    script.src = '/viewer.js';
    script.addEventListener('load', resolve);
    script.addEventListener('error', () =>
      reject(new Error('This installation has no viewer; download the result and open it in another one.')),
    );
    document.head.append(script);
  });
}

const gridOf = (view) => ({
  shape: view.shape,
  spacingMm: view.spacing_mm,
  originMm: view.origin_mm,
  direction: view.direction,
});

/** Show the volumes of a job. */
export async function showJob(job) {
  const mine = ++current;
  try {
    await load();
    const views = Object.fromEntries((await call('GET', `/jobs/${job.id}/volumes`)).map((view) => [view.name, view]));
    if (!views.thick || !views.thin) throw new Error('The volumes of this job are not there yet.');
    viewer?.destroy();
    at('viewer-section').hidden = false;
    at('viewer-title').textContent = `Viewer: job ${job.id}`;
    viewer = globalThis.ThinsliceViewer.createViewer(at('viewer'), {
      thick: gridOf(views.thick),
      thin: gridOf(views.thin),
      hasThin: true,
      hasDeviation: views.uncertainty !== undefined,
      deviationStepHu: views.uncertainty?.scale ?? 1,
      paddingHu: views.thick.padding_hu,
      facts: [
        ['Series', job.series],
        ['Network', job.settings.model],
      ],
    });
    at('viewer-title').focus();
    at('viewer-section').scrollIntoView();
    await Promise.all(Object.values(views).map((view) => fetchSlices(job.id, view, () => mine === current)));
  } catch (error) {
    problem(error);
  }
}

async function fetchSlices(id, view, isCurrent) {
  const plane = 2 * view.shape[1] * view.shape[2];
  const step = Math.max(1, Math.floor(PART_BYTES / plane));
  const volume = view.name === 'uncertainty' ? 'deviation' : view.name;
  let next = 0;
  let ready = view.ready_slices;
  while (isCurrent() && next < view.shape[0]) {
    if (next >= ready) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      const state = (await call('GET', `/jobs/${id}`)).state;
      ready = (await call('GET', `/jobs/${id}/volumes`)).find((each) => each.name === view.name)?.ready_slices ?? ready;
      if (state !== 'running' && state !== 'done') return;
      continue;
    }
    const stop = Math.min(next + step, ready);
    const answer = await fetch(`/api/jobs/${id}/volumes/${view.name}?start=${next}&stop=${stop}`);
    if (!answer.ok) throw new Error('The slices could not be fetched; open the viewer again.');
    const voxels = new Int16Array(await answer.arrayBuffer());
    if (isCurrent()) viewer.addSlab(volume, next, voxels);
    next = stop;
  }
}

/** Close the viewer and free its memory. */
export function closeViewer() {
  current += 1;
  viewer?.destroy();
  viewer = null;
  at('viewer-section').hidden = true;
}
