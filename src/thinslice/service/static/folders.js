/** Folders that were allowed when the server was started. */

import { call } from './api.js';
import { announce, at, make, problem } from './dom.js';
import { refreshSources } from './sources.js';

/** Show the allowed folders to choose from. */
export function showRoots(roots) {
  const entries = roots.map((root) => entry(root.name, () => void open(root, '')));
  draw('Folders of the server', entries);
}

async function open(root, path) {
  try {
    const list = await call('GET', `/folders/${root.number}?path=${encodeURIComponent(path)}`);
    const inside = list.entries.map((each) =>
      entry(each.folder ? `${each.name}/` : each.name, () => {
        const below = path === '' ? each.name : `${path}/${each.name}`;
        if (each.folder) void open(root, below);
        else void take(root, below);
      }),
    );
    const up = path === '' ? [] : [entry('..', () => void open(root, path.split('/').slice(0, -1).join('/')))];
    const use = make(
      'button',
      { type: 'button', className: 'main', onclick: () => void take(root, path) },
      'Use this folder',
    );
    draw(path === '' ? root.name : `${root.name}/${path}`, [...up, ...inside], use);
    use.focus();
  } catch (error) {
    problem(error);
  }
}

function entry(text, run) {
  return make('li', {}, make('button', { type: 'button', onclick: run }, text));
}

function draw(title, entries, ...buttons) {
  const close = make('button', { type: 'button', onclick: () => (at('folders').hidden = true) }, 'Close');
  at('folders').hidden = false;
  at('folders').replaceChildren(
    make('h3', {}, title),
    make('div', { className: 'row' }, ...buttons, close),
    make('ul', { className: 'entries' }, ...entries),
  );
}

async function take(root, path) {
  try {
    problem(null);
    await call('POST', '/sources', { json: { folder: root.number, path } });
    at('folders').hidden = true;
    announce('The folder is read.');
    await refreshSources();
    at('browse').focus();
  } catch (error) {
    problem(error);
  }
}
