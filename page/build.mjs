/**
 * Builds the page twice into dist/: as one HTML file that works from the disk, and as a folder for a web server.
 *
 *     node build.mjs        with the networks in build/, where `make page` puts them
 */

import { Buffer } from 'node:buffer';
import { createHash } from 'node:crypto';
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { build, transform } from 'esbuild';

const here = new URL('./', import.meta.url);
const at = (path) => new URL(path, here);

/** The networks of the page, the first one as its default. */
const NETWORKS = ['fast.onnx', 'default.onnx'];

/** Those of them that also give standard deviations, in graphs of their own. */
const WITH_UNCERTAINTY = { default: 'default-uncertainty.onnx' };

const PARTS = [...NETWORKS, ...Object.values(WITH_UNCERTAINTY)];

const RUNTIME = at('node_modules/onnxruntime-web/dist/');
const CONVERTER = at('node_modules/@niivue/dcm2niix/dist/');

/** Browsers give a page threads only when its server sends the first two. */
const HEADERS = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
};

async function bundle(entry, isSingleFile, options) {
  const { outputFiles } = await build({
    absWorkingDir: here.pathname,
    entryPoints: [entry],
    bundle: true,
    minify: true,
    target: ['es2022'],
    charset: 'ascii',
    legalComments: 'none',
    loader: { '.css': 'text' },
    write: false,
    define: {
      IS_SINGLE_FILE: `${isSingleFile}`,
      NETWORKS: JSON.stringify(NETWORKS),
      WITH_UNCERTAINTY: JSON.stringify(WITH_UNCERTAINTY),
      ...options.define,
    },
    format: options.format,
    conditions: options.conditions,
    alias: { '@niivue/dcm2niix/module': new URL('dcm2niix.jpeg.js', CONVERTER).pathname },
    // The converter asks for these under Node alone.
    external: ['module', 'fs', 'path', 'url'],
  });
  return outputFiles[0].text;
}

/** A script that cannot end its own element. */
function inScript(text) {
  if (/<\/script|<!--/i.test(text)) throw new Error('A script holds markup that would end its element.');
  return text;
}

const hash = (text) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

function page(template, { policy, style, assets, script }) {
  const parts = {
    policy: `<meta http-equiv="Content-Security-Policy" content="${policy.join('; ')}">`,
    style: `<style>${style}</style>`,
    assets,
    script,
    licences: `<pre>${licences.replace(/</g, '&lt;')}</pre>`,
  };
  return template.replace(/<!-- (policy|style|assets|script|licences) -->\n/g, (_, name) =>
    parts[name] ? `${parts[name]}\n` : '',
  );
}

const licences = await readFile(at('licences.txt'), 'utf8');
const template = await readFile(at('index.html'), 'utf8');
// The page looks like that of the service.
const rules = await Promise.all(
  ['../src/thinslice/service/static/style.css', 'src/ui/style.css'].map((path) => readFile(at(path), 'utf8')),
);
const { code } = await transform(rules.join(''), { loader: 'css', minify: true });
const style = code.trim();
const common = [
  "default-src 'none'",
  `style-src ${hash(style)}`,
  "base-uri 'none'",
  "form-action 'none'",
  'img-src data:',
];

await rm(at('dist/'), { recursive: true, force: true });
await mkdir(at('dist/server/'), { recursive: true });

// One file. A classic worker from a blob, on one thread: pages from the disk may have no other.
const script = inScript(await bundle('src/ui/page.ts', true, { format: 'iife' }));
const worker = await bundle('src/worker/main.ts', true, {
  format: 'iife',
  define: { 'import.meta.url': 'self.location.href' },
});
const parts = {
  'worker.js': Buffer.from(worker),
  'ort-wasm-simd-threaded.wasm': await readFile(new URL('ort-wasm-simd-threaded.wasm', RUNTIME)),
  'dcm2niix.wasm': await readFile(new URL('dcm2niix.jpeg.wasm', CONVERTER)),
};
for (const name of PARTS) parts[name] = await readFile(at(`build/${name}`));
const assets = Object.entries(parts)
  .map(([name, bytes]) => {
    const packed = gzipSync(bytes, { level: 9 }).toString('base64');
    return `<script type="application/octet-stream" id="asset-${name}">${packed}</script>`;
  })
  .join('\n');
const single = page(template, {
  policy: [...common, `script-src ${hash(script)} 'wasm-unsafe-eval' blob:`, 'worker-src blob:'],
  style,
  assets,
  script: `<script>${script}</script>`,
});
await writeFile(at('dist/thinslice.html'), single);

// A folder. A module worker, so that the runtime may start threads.
const served = await bundle('src/ui/page.ts', false, { format: 'iife' });
const servedWorker = await bundle('src/worker/main.ts', false, {
  format: 'esm',
  conditions: ['onnxruntime-web-use-extern-wasm'],
});
await writeFile(at('dist/server/page.js'), served);
await writeFile(at('dist/server/worker.js'), servedWorker);
await writeFile(
  at('dist/server/index.html'),
  page(template, {
    policy: [...common, "script-src 'self' 'wasm-unsafe-eval'", "worker-src 'self' blob:", "connect-src 'self'"],
    style,
    assets: '',
    script: '<script src="page.js"></script>',
  }),
);
for (const name of ['ort-wasm-simd-threaded.wasm', 'ort-wasm-simd-threaded.mjs']) {
  await copyFile(new URL(name, RUNTIME), at(`dist/server/${name}`));
}
await copyFile(new URL('dcm2niix.jpeg.wasm', CONVERTER), at('dist/server/dcm2niix.wasm'));
for (const name of PARTS) await copyFile(at(`build/${name}`), at(`dist/server/${name}`));
const lines = Object.entries(HEADERS).map(([name, value]) => `  ${name}: ${value}\n`);
await writeFile(at('dist/server/_headers'), `/*\n${lines.join('')}`);

console.log(
  `page/dist/thinslice.html: ${(single.length / 2 ** 20).toFixed(1)} MiB; page/dist/server: a folder for a web server`,
);
