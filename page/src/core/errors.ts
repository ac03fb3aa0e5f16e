/** An input or a browser that cannot be used: its message is for the reader of the page. */
export class PageError extends Error {
  override readonly name = 'PageError';
}
