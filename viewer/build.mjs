/**
 * Bundles the viewer into one script that the Python package carries, and states from which sources.
 *
 *     node build.mjs           writes ../src/thinslice/pictures/viewer/viewer.js and viewer.json
 *     node build.mjs --check   fails where they are not what the sources give
 */

import { createHash } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { build } from 'esbuild';

const here = new URL('./', import.meta.url);
const target = new URL('../src/thinslice/pictures/viewer/', here);

/** SHA-256 over the names and contents of the files that the bundle depends on; the Python test computes it too. */
async function digestOfSources() {
  const inSource = await readdir(new URL('src/', here), { recursive: true, withFileTypes: true });
  const names = inSource
    .filter((entry) => entry.isFile())
    .map((entry) => `${entry.parentPath}/${entry.name}`.slice(here.pathname.length).replaceAll('//', '/'));
  const hash = createHash('sha256');
  for (const name of [...names, 'build.mjs', 'package-lock.json', 'tsconfig.json'].sort()) {
    const content = createHash('sha256').update(await readFile(new URL(name, here)));
    hash.update(`${name} ${content.digest('hex')}\n`);
  }
  return hash.digest('hex');
}

const { outputFiles } = await build({
  absWorkingDir: here.pathname,
  entryPoints: ['src/index.ts'],
  bundle: true,
  minify: true,
  format: 'iife',
  globalName: 'ThinsliceViewer',
  target: ['es2022'],
  charset: 'ascii',
  legalComments: 'none',
  loader: { '.css': 'text' },
  write: false,
  banner: { js: '/* thinslice viewer, made from viewer/ by `make viewer`. Apache-2.0. */' },
});
const script = outputFiles[0].text;
const facts = {
  sources_sha256: await digestOfSources(),
  script_sha256: createHash('sha256').update(script).digest('hex'),
};
const json = `${JSON.stringify(facts, null, 2)}\n`;
const [scriptFile, factsFile] = [new URL('viewer.js', target), new URL('viewer.json', target)];

if (process.argv.includes('--check')) {
  const current =
    (await readFile(scriptFile, 'utf8').catch(() => '')) === script &&
    (await readFile(factsFile, 'utf8').catch(() => '')) === json;
  if (!current) {
    console.error('The committed bundle is not what viewer/ gives: run `make viewer` and commit the result.');
    process.exit(1);
  }
  console.log('The committed bundle is current.');
} else {
  await writeFile(scriptFile, script);
  await writeFile(factsFile, json);
  console.log(`viewer.js: ${(script.length / 1024).toFixed(0)} KiB`);
}
