/** Elements from values: text is always text, so that nothing in a scan becomes part of the page. */

/**
 * @param {string} tag
 * @param {Record<string, unknown>} [properties] of the element; names with a hyphen, and role, are attributes
 * @param {...(Node|string)} children
 * @returns {any} the element
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes('-') || name === 'role' || name === 'scope') element.setAttribute(name, String(value));
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/**
 * @param {string} id
 * @returns {any} the element of the page
 */
export const at = (id) => document.getElementById(id);

/** Put a sentence where screen readers read it out. */
export function announce(sentence) {
  at('status').textContent = sentence;
}

/** Show what went wrong; null removes it. */
export function problem(error) {
  const place = at('problem');
  place.hidden = error === null;
  place.textContent = error === null ? '' : error instanceof Error ? error.message : String(error);
}

/** A duration in words: durationText(130) is '2 min 10 s'. */
export function durationText(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** Bytes in words: bytesText(2_500_000) is '2.5 MB'. */
export function bytesText(count) {
  return count < 1e6
    ? `${Math.ceil(count / 1e3)} kB`
    : count < 1e9
      ? `${(count / 1e6).toFixed(1)} MB`
      : `${(count / 1e9).toFixed(2)} GB`;
}
