/** The queue and what it made. */

import { call } from './api.js';
import { announce, at, durationText, make, problem } from './dom.js';
import { refreshSources } from './sources.js';
import { showJob } from './view.js';

const FILE_NAMES = {
  'dicom.zip': 'DICOM series (zip)',
  'thin.nii.gz': 'NIfTI',
  'uncertainty.nii.gz': 'Uncertainty (NIfTI)',
  'report.html': 'Report',
  'report.json': 'Report (JSON)',
  'preview.png': 'Picture',
  'view.html': 'Share: the viewer in one HTML file',
};

const jobs = new Map();
let stream = null;
let repeated = 0;

/** List the jobs, then follow their changes. */
export async function followJobs() {
  const list = await call('GET', '/jobs');
  jobs.clear();
  for (const job of list.jobs) jobs.set(job.id, job);
  draw();
  stream?.close();
  stream = new EventSource(`/api/events?since=${list.revision}`);
  stream.addEventListener('job', (event) => {
    const job = JSON.parse(event.data);
    const before = jobs.get(job.id);
    jobs.set(job.id, job);
    if (before !== undefined && before.state !== job.state) announce(sentenceOf(job));
    draw();
  });
  stream.addEventListener('source', () => void refreshSources().catch(problem));
  stream.addEventListener('removed', () => void relist());
  stream.addEventListener('open', () => {
    if (repeated > 0) {
      problem(null);
      void relist();
      void refreshSources().catch(problem);
    }
    repeated = 0;
  });
  stream.addEventListener('error', () => {
    repeated += 1;
    problem(
      'The connection to the server is lost. It is tried again; queued work goes on when the server is started again.',
    );
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => void followJobs().catch(problem), 2000);
  });
}

async function relist() {
  try {
    const list = await call('GET', '/jobs');
    jobs.clear();
    for (const job of list.jobs) jobs.set(job.id, job);
    draw();
  } catch (error) {
    problem(error);
  }
}

function sentenceOf(job) {
  if (job.state === 'queued') return `Job ${job.id} waits${job.ahead ? ` for ${job.ahead} before it` : ''}.`;
  if (job.state === 'running') return `Job ${job.id} runs.`;
  if (job.state === 'done') return `Job ${job.id} is done.`;
  if (job.state === 'cancelled') return `Job ${job.id} was cancelled.`;
  return `Job ${job.id} failed: ${job.reason}`;
}

/** Elements by the number of the job. They stay while a job runs, so that a click is not lost to a redrawing. */
const drawn = new Map();

function draw() {
  const all = [...jobs.values()].sort((a, b) => b.id - a.id);
  for (const id of drawn.keys()) if (!jobs.has(id)) drawn.delete(id);
  const focused = document.activeElement?.id;
  for (const job of all) {
    const { share, left_s, phase, revision, ...rest } = job;
    const facts = JSON.stringify(rest);
    const known = drawn.get(job.id);
    if (known?.facts === facts) known.progress?.(job);
    else drawn.set(job.id, { facts, ...jobElement(job) });
  }
  const elements = all.map((job) => drawn.get(job.id).article);
  const place = at('jobs');
  if (elements.length === 0) place.replaceChildren(make('p', { className: 'quiet' }, 'No job yet.'));
  else if (elements.length !== place.children.length || elements.some((each, k) => each !== place.children[k])) {
    place.replaceChildren(...elements);
    if (focused) document.getElementById(focused)?.focus();
  }
}

function jobElement(job) {
  const title = make('h3', { id: `job-${job.id}` }, `Job ${job.id}: ${job.series}`);
  const { model, factor, spacing_mm: spacing, uncertainty, texture } = job.settings;
  const settings = [
    model,
    factor && `factor ${factor}`,
    spacing && `${spacing} mm`,
    uncertainty && `uncertainty: ${uncertainty}`,
    texture && 'with texture',
  ];
  const article = make(
    'article',
    { 'aria-labelledby': `job-${job.id}` },
    title,
    make('p', { className: 'quiet' }, settings.filter(Boolean).join(', ')),
  );
  let progress = null;
  if (job.state === 'running') {
    const text = make('p', {});
    const bar = make('progress', { max: 1, 'aria-label': `Progress of job ${job.id}` });
    progress = ({ phase, share, left_s: left }) => {
      const isMeasured = phase === 'network';
      text.textContent = `${phase || 'starting'}${isMeasured ? ` ${Math.round(100 * share)} %` : ''}${left === null ? '' : `, about ${durationText(left)} left`}`;
      if (isMeasured) bar.value = share;
      else bar.removeAttribute('value');
    };
    progress(job);
    article.append(text, bar);
  } else {
    const kind = { done: 'good', failed: 'bad', cancelled: 'quiet', queued: 'quiet' }[job.state];
    article.append(make('p', { className: kind }, sentenceOf(job)));
  }
  if (job.state === 'done' && job.consistency_rms_hu !== null) {
    article.append(
      make(
        'p',
        { className: 'quiet' },
        `Averaged back, the thin slices differ from the thick ones by ${job.consistency_rms_hu.toFixed(2)} HU RMS.`,
      ),
    );
  }
  for (const sentence of job.warnings) article.append(make('p', { className: 'quiet' }, sentence));
  article.append(actions(job));
  return { article, progress };
}

function actions(job) {
  const row = make('div', { className: 'row' });
  if (job.volumes)
    row.append(make('button', { type: 'button', id: `show-${job.id}`, onclick: () => void showJob(job) }, 'View'));
  for (const name of job.files) {
    const link = make(
      'a',
      { href: `/api/jobs/${job.id}/files/${name}`, id: `file-${job.id}-${name}` },
      FILE_NAMES[name] ?? name,
    );
    if (name === 'report.html' || name === 'preview.png') link.target = '_blank';
    else link.download = '';
    row.append(link);
  }
  const ends = job.state === 'queued' || job.state === 'running';
  const button = make(
    'button',
    { type: 'button', id: `end-${job.id}`, onclick: () => void end(job, ends) },
    ends ? 'Cancel' : 'Remove',
  );
  button.setAttribute('aria-label', `${ends ? 'Cancel' : 'Remove'} job ${job.id}`);
  row.append(button);
  return row;
}

async function end(job, cancels) {
  try {
    if (cancels) await call('POST', `/jobs/${job.id}/cancel`);
    else {
      await call('DELETE', `/jobs/${job.id}`);
      announce(`Job ${job.id} was removed.`);
      await relist();
    }
  } catch (error) {
    problem(error);
  }
}
