/** One job in a worker of its own, which ends with the job and can be stopped at any moment. */

import { PageError } from '../core/errors';
import type { Job, Report } from '../worker/messages';
import { startWorker } from './assets';

type End = Extract<Report, { kind: 'volume' | 'candidates' | 'done' }>;
type Middle = Extract<Report, { kind: 'progress' | 'patch' }>;

/** A job was stopped by the reader of the page. */
export class Stopped extends Error {
  override readonly name = 'Stopped';
}

/** Run a job; the result is its last report. */
export async function runJob(job: Job, onReport: (report: Middle) => void, signal: AbortSignal): Promise<End> {
  const worker = await startWorker();
  try {
    return await new Promise<End>((resolve, reject) => {
      const stop = (): void => {
        reject(new Stopped());
      };
      if (signal.aborted) stop();
      signal.addEventListener('abort', stop);
      worker.onmessage = ({ data }: MessageEvent<Report>) => {
        if (data.kind === 'fault') reject(data.isExpected ? new PageError(data.message) : new Error(data.message));
        else if (data.kind === 'progress' || data.kind === 'patch') onReport(data);
        else resolve(data);
      };
      worker.onerror = (event) => {
        reject(new Error(event.message));
      };
      worker.postMessage(job, usedUp(job));
    });
  } finally {
    worker.terminate();
  }
}

/** Bytes that are loaded for one job, and given to its worker for good. */
function usedUp(job: Job): Transferable[] {
  if (job.kind === 'convert') return [job.binary];
  return job.kind === 'upscale' && 'binary' in job.runtime ? [job.runtime.binary] : [];
}
