/** Scans and their series: what `thinslice inspect` lists, to choose from. */

import { call } from './api.js';
import { announce, at, bytesText, make, problem } from './dom.js';

/** The chosen series: {source, series}, or null. */
export let chosen = null;

const listeners = [];

/** @param {() => void} listener called when another series is chosen */
export function onChoice(listener) {
  listeners.push(listener);
}

function choose(source, series) {
  chosen = source === null ? null : { source, series };
  for (const listener of listeners) listener();
}

let known = [];

/** Ask for all sources, and draw them. */
export async function refreshSources() {
  const before = new Map(known.map((source) => [source.id, source.state]));
  known = await call('GET', '/sources');
  for (const source of known) {
    if (before.get(source.id) === 'inspecting' && source.state !== 'inspecting') {
      announce(
        source.state === 'ready'
          ? `The scan holds ${source.series.length} series.`
          : `The scan was refused: ${source.reason}`,
      );
    }
  }
  if (chosen !== null && !known.some((source) => source.id === chosen.source.id)) choose(null, null);
  const newest = known.at(-1);
  if (chosen === null && newest?.state === 'ready') {
    const fit = newest.series.filter((series) => series.eligible && !series.derived);
    if (fit.length > 0) choose(newest, fit[0]);
  }
  draw();
}

function draw() {
  const focused = document.activeElement?.id;
  at('sources').replaceChildren(
    ...(known.length === 0
      ? [make('p', { className: 'quiet' }, 'No scan yet.')]
      : [...known].reverse().map(sourceElement)),
  );
  if (focused) document.getElementById(focused)?.focus();
}

function sourceElement(source) {
  const when = new Date(source.made_at_s * 1000).toLocaleTimeString();
  const size =
    source.kind === 'upload'
      ? `${source.files} file${source.files === 1 ? '' : 's'}, ${bytesText(source.bytes)}`
      : 'folder of the server';
  const title = `Scan of ${when}: ${size}`;
  const remove = make(
    'button',
    { type: 'button', id: `remove-${source.id}`, onclick: () => removeSource(source) },
    'Remove',
  );
  remove.setAttribute('aria-label', `Remove the scan of ${when}`);
  const article = make('article', {}, make('div', { className: 'row' }, make('h3', {}, title), remove));
  if (source.state === 'inspecting') article.append(make('p', { className: 'quiet' }, 'Reading the headers ...'));
  else if (source.state === 'refused')
    article.append(make('p', { className: 'bad' }, source.reason ?? 'It cannot be read.'));
  else article.append(make('div', { className: 'scroll' }, seriesTable(source)));
  return article;
}

const COLUMNS = [
  '',
  'Series',
  'Kind',
  'Slices',
  'Matrix',
  'Plane',
  'Spacing (mm)',
  'Thickness (mm)',
  'Kernel',
  'Thin slices',
];

function seriesTable(source) {
  const head = make('tr', {}, ...COLUMNS.map((text) => make('th', { scope: 'col' }, text || 'Choose')));
  return make(
    'table',
    {},
    make('caption', {}, `Series of this scan: ${source.series.length}`),
    make('thead', {}, head),
    make('tbody', {}, ...source.series.map((series) => seriesRow(source, series))),
  );
}

function seriesRow(source, series) {
  const id = `series-${source.id}-${series.number}`;
  const name = [series.description, series.part, series.file].filter(Boolean).join(' ') || series.kind;
  const radio = make('input', {
    type: 'radio',
    name: 'series',
    id,
    checked: chosen?.source.id === source.id && chosen.series.number === series.number,
    disabled: series.kind === 'unreadable',
    onchange: () => choose(source, series),
  });
  radio.setAttribute('aria-label', `Series ${series.number}: ${name}, ${series.slices} slices`);
  const spacing = series.spacing_mm?.map((mm) => (mm === null ? '?' : Number(mm.toPrecision(4)))).join(' × ') ?? '';
  const verdict = make('td', {});
  if (series.eligible)
    verdict.append(
      make('span', { className: 'good' }, `factor ${series.factor}${series.derived ? ', made by thinslice' : ''}`),
    );
  else verdict.append(make('span', { className: 'bad' }, `no: ${series.reasons.join(' ')}`));
  for (const sentence of series.warnings) verdict.append(make('p', { className: 'quiet' }, sentence));
  const cells = [
    series.kind,
    series.slices,
    series.matrix?.join(' × ') ?? '',
    series.orientation ?? '',
    spacing,
    series.thickness_mm ?? '',
    series.kernel,
  ];
  return make(
    'tr',
    {},
    make('td', {}, radio),
    make('td', {}, make('label', { htmlFor: id }, `${series.number}. ${name}`)),
    ...cells.map((cell) => make('td', { className: typeof cell === 'number' ? 'number' : '' }, String(cell))),
    verdict,
  );
}

async function removeSource(source) {
  try {
    await call('DELETE', `/sources/${source.id}`);
    announce('The scan was removed.');
    await refreshSources();
    at('choose').focus();
  } catch (error) {
    problem(error);
  }
}
