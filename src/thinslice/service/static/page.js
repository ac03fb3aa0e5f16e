/** The page of the service: connects its parts. */

import { call } from './api.js';
import { announce, at, bytesText, make, problem } from './dom.js';
import { connectDrop } from './drop.js';
import { showRoots } from './folders.js';
import { followJobs } from './jobs.js';
import { chosen, onChoice, refreshSources } from './sources.js';
import { upload } from './upload.js';
import { closeViewer } from './view.js';

let stopUpload = null;

async function send(files) {
  if (stopUpload !== null) {
    problem('An upload is under way; wait for it, or stop it.');
    return;
  }
  problem(null);
  const control = new AbortController();
  stopUpload = control;
  at('upload').hidden = false;
  try {
    await upload(
      files,
      (sent, total) => {
        at('upload-bar').value = sent / total;
        at('upload-text').textContent = `Sending: ${bytesText(sent)} of ${bytesText(total)}`;
      },
      control.signal,
    );
    announce('The scan was sent; its headers are read.');
    await refreshSources();
  } catch (error) {
    problem(error instanceof DOMException && error.name === 'AbortError' ? 'The upload was stopped.' : error);
  } finally {
    stopUpload = null;
    at('upload').hidden = true;
    at('upload-bar').value = 0;
  }
}

function wanted() {
  const distance = document.querySelector('input[name="distance"]:checked').value;
  return {
    source: chosen.source.id,
    series: chosen.series.number,
    model: at('model').value,
    factor: distance === 'factor' ? Number(at('factor').value) : null,
    spacing_mm: distance === 'spacing' ? Number(at('spacing').value) : null,
    uncertainty: at('uncertainty').value || null,
    device: at('device').value,
    texture: at('texture').checked,
    deidentify: at('deidentify').checked,
    on_tilt: at('on_tilt').value,
    on_spacing: at('on_spacing').value,
    intensity: at('intensity').value,
  };
}

async function submit(event) {
  event.preventDefault();
  if (chosen === null) return;
  problem(null);
  try {
    const job = await call('POST', '/jobs', { json: wanted() });
    announce(`Job ${job.id} is queued.`);
    at('jobs-title').scrollIntoView();
  } catch (error) {
    problem(error);
  }
}

function connectSettings(about) {
  at('model').replaceChildren(...about.models.map((model) => make('option', { value: model.name }, model.name)));
  const note = () => {
    at('model-note').textContent = about.models.find((model) => model.name === at('model').value)?.summary ?? '';
  };
  at('model').addEventListener('change', note);
  note();
  at('device').replaceChildren(...about.devices.map((device) => make('option', { value: device }, device)));
  for (const name of ['factor', 'spacing']) {
    at(name).addEventListener('focus', () => {
      document.querySelector(`input[name="distance"][value="${name}"]`).checked = true;
    });
  }
  at('settings').addEventListener('submit', (event) => void submit(event));
  onChoice(() => {
    at('go').disabled = chosen === null;
    at('chosen').textContent =
      chosen === null ? 'Choose a series first.' : `Series ${chosen.series.number}, ${chosen.series.slices} slices`;
  });
}

async function start() {
  const about = await call('GET', '/about');
  at('notice').textContent = about.notice;
  at('kept').textContent =
    `Results are removed after ${about.keep_days} days, or earlier when space is short. Download what you need.`;
  connectSettings(about);
  connectDrop(send, problem);
  at('upload-stop').addEventListener('click', () => stopUpload?.abort());
  if (about.folders.length > 0) {
    at('browse').hidden = false;
    at('browse').addEventListener('click', () => showRoots(about.folders));
  }
  at('viewer-close').addEventListener('click', closeViewer);
  await refreshSources();
  await followJobs();
  document.body.dataset.ready = 'yes';
}

start().catch(problem);
