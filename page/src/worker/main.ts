/** The script of the workers: one job comes in a message, its reports go out. */

import { PageError } from '../core/errors';
import { convert } from './convert';
import type { Job, Report } from './messages';
import { read } from './read';
import { upscale } from './upscale';

/** What the scope of a worker has; the types of the page do not know it. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<Job>) => void) | null;
  postMessage(report: Report, transfer: Transferable[]): void;
}

const scope = globalThis as unknown as WorkerScope;

function send(report: Report, transfer: Transferable[] = []): void {
  scope.postMessage(report, transfer);
}

async function run(job: Job): Promise<void> {
  switch (job.kind) {
    case 'read':
      await read(job, send);
      return;
    case 'convert':
      await convert(job, send);
      return;
    case 'upscale':
      await upscale(job, send);
  }
}

scope.onmessage = ({ data }) => {
  run(data).catch((error: unknown) => {
    const isExpected = error instanceof PageError;
    send({ kind: 'fault', message: error instanceof Error ? error.message : String(error), isExpected });
  });
};
