/** Calls of the service's API. The token is a cookie that scripts cannot read; the browser sends it along. */

/** A refusal by the server: its sentence is for the reader of the page. */
export class Refused extends Error {
  /**
   * @param {string} sentence
   * @param {number} status
   */
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

/** The server did not answer. */
export class Away extends Error {}

/**
 * @param {string} method
 * @param {string} path below /api
 * @param {{json?: unknown, body?: Blob, signal?: AbortSignal}} [rest]
 * @returns {Promise<any>} the JSON of the answer, or null
 */
export async function call(method, path, { json, body, signal } = {}) {
  let answer;
  try {
    answer = await fetch(`/api${path}`, {
      method,
      signal,
      body: json === undefined ? body : JSON.stringify(json),
      headers: json === undefined ? {} : { 'content-type': 'application/json' },
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new Away('The server does not answer. It may have been ended; start it again.');
  }
  if (answer.status === 401) {
    throw new Refused('This page has lost its key: open the address that thinslice serve printed.', 401);
  }
  const text = await answer.text();
  if (!answer.ok) {
    let detail = `The server answered ${answer.status}.`;
    try {
      detail = JSON.parse(text).detail ?? detail;
    } catch {
      // No JSON: the status has to do.
    }
    throw new Refused(detail, answer.status);
  }
  return text === '' ? null : JSON.parse(text);
}

/**
 * Try again while the server is away, for a minute; a server that is started again goes on with an upload.
 *
 * @template T
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function patiently(work) {
  for (let waited = 250; ; waited *= 2) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof Away) || waited > 30_000) throw error;
      await new Promise((resolve) => setTimeout(resolve, waited));
    }
  }
}
