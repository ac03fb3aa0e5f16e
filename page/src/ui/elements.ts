/** Elements of the page. Text is set as text only, so nothing in a scan can become markup. */

import { PageError } from '../core/errors';

export { make } from '../../../viewer/src/ui/dom';

/** The element of an id. */
export function at<K extends keyof HTMLElementTagNameMap>(id: string, tag: K): HTMLElementTagNameMap[K] {
  const element = document.getElementById(id);
  if (element?.localName !== tag) throw new Error(`The page has no ${tag} ${id}.`);
  return element as HTMLElementTagNameMap[K];
}

/** Put a sentence where screen readers read it out. */
export function announce(sentence: string): void {
  at('status', 'p').textContent = sentence;
}

/** Show what went wrong; null removes it. */
export function showProblem(error: unknown): void {
  const place = at('problem', 'p');
  place.hidden = error === null;
  place.textContent = error === null ? '' : problemText(error);
  if (error !== null) announce('');
}

/** The sentence for an error. */
export function problemText(error: unknown): string {
  if (error instanceof PageError) return error.message;
  const message = error instanceof Error ? error.message : String(error);
  if (/memory|allocation|array length|invalid array/i.test(message)) {
    return (
      'This browser gives the page too little memory for this scan. Close other tabs, use a computer in place of a ' +
      'phone or tablet, or crop the scan; thinslice on the command line needs less.'
    );
  }
  return `Something unexpected happened (${message}). Load the page again; if it happens again, please report it.`;
}

/** A duration in words: durationText(130) is '2 min 10 s'. */
export function durationText(seconds: number): string {
  const whole = Math.max(1, Math.round(seconds));
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
