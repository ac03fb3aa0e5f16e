/** Bytes of a file in order, unpacked where it is gzip. */

import { PageError } from '../core/errors';

/** Most bytes that gzip makes of one. */
const LARGEST_RATIO = 1032;

export class ByteStream {
  private waiting: Uint8Array = new Uint8Array(0);

  private constructor(
    private readonly reader: ReadableStreamDefaultReader<Uint8Array>,
    /** Most bytes that the file can hold, unpacked. */
    readonly mostBytes: number,
  ) {}

  static async open(file: Blob): Promise<ByteStream> {
    const head = new Uint8Array(await file.slice(0, 2).arrayBuffer());
    const isGzip = head[0] === 0x1f && head[1] === 0x8b;
    const stream: ReadableStream<Uint8Array> = isGzip
      ? file.stream().pipeThrough(new DecompressionStream('gzip'))
      : file.stream();
    return new ByteStream(stream.getReader(), isGzip ? file.size * LARGEST_RATIO : file.size);
  }

  /**
   * Fill an array with the next bytes.
   *
   * @returns bytes that came, fewer than asked for at the end of the file.
   * @throws PageError where the compressed data are damaged.
   */
  async read(target: Uint8Array): Promise<number> {
    let filled = 0;
    while (filled < target.length) {
      if (this.waiting.length === 0) {
        const next = await this.next();
        if (next === null) break;
        this.waiting = next;
      }
      const part = this.waiting.subarray(0, target.length - filled);
      target.set(part, filled);
      filled += part.length;
      this.waiting = this.waiting.subarray(part.length);
    }
    return filled;
  }

  async skip(bytes: number): Promise<void> {
    const piece = new Uint8Array(Math.min(bytes, 1 << 20));
    for (let left = bytes; left > 0; left -= piece.length)
      await this.read(piece.subarray(0, Math.min(left, piece.length)));
  }

  async close(): Promise<void> {
    await this.reader.cancel().catch(() => undefined);
  }

  private async next(): Promise<Uint8Array | null> {
    try {
      const { done, value } = await this.reader.read();
      return done ? null : value;
    } catch {
      throw new PageError('The compressed file is damaged or cut short; copy or download it again.');
    }
  }
}
