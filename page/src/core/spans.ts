/**
 * Windows of thick slices that go through the network, as `thinslice.planning.overlap` cuts them: the fewest voxels read
 * twice within a budget of memory.
 */

/** One axis of a window: reads [start, stop), gives [outStart, outStop), which begins at `trim` of its output. */
export interface Span {
  readonly start: number;
  readonly stop: number;
  readonly outStart: number;
  readonly outStop: number;
  readonly trim: number;
}

export interface Cut {
  readonly depths: readonly Span[];
  readonly heights: readonly Span[];
  readonly widths: readonly Span[];
}

/** What a cut has to know about the network. */
export interface NetworkWindow {
  /** Reach of the network along depth (thick slices), height and width (pixels). */
  readonly halo: readonly [number, number, number];
  /** Bytes of working memory per thick voxel of a pass. */
  readonly workingBytes: number;
}

/** Windows start at multiples of this many pixels, so that blocks of pixels are the same in all. */
const ALIGNMENT = 8;

/** Preferred extent of a window in the plane; it may be a quarter larger, and shrink to an eighth. */
const TILE = 512;
const LARGEST_TILE = TILE * 1.25;
const SMALLEST_TILE = TILE / 8;

export const extent = (span: Span): number => span.stop - span.start;
const total = (spans: readonly Span[]): number => spans.reduce((sum, span) => sum + extent(span), 0);
const largest = (spans: readonly Span[]): number => Math.max(...spans.map(extent));

/**
 * The cut that feeds the network the fewest voxels within the budget; the smallest one where none is within it.
 *
 * @param shape of the thick volume (depth, height, width).
 * @param budgetBytes for one pass.
 */
export function overlapCut(
  shape: readonly [number, number, number],
  factor: number,
  window: NetworkWindow,
  budgetBytes: number,
): Cut {
  const [depth, height, width] = shape;
  const counts = depthCounts(depth, window.halo[0]);
  let best: { excess: number; fed: number; cut: Cut } | null = null;
  for (const heights of planeCuts(height, window.halo[1])) {
    for (const widths of planeCuts(width, window.halo[2])) {
      for (const count of counts) {
        const cut = { depths: depthSpans(depth, factor, window.halo[0], count), heights, widths };
        const excess = Math.max(0, takenBytes(cut, factor, window) - budgetBytes);
        const fed = total(cut.depths) * total(heights) * total(widths);
        if (best === null || excess < best.excess || (excess === best.excess && fed < best.fed)) {
          best = { excess, fed, cut };
        }
        // More windows along depth read more voxels twice.
        if (excess === 0) break;
      }
    }
  }
  if (best === null) throw new RangeError('A volume needs at least one voxel along each axis.');
  return best.cut;
}

/** Bytes of the largest pass, and of what is made of it. */
export function takenBytes(cut: Cut, factor: number, window: NetworkWindow): number {
  const [depth, height, width] = [largest(cut.depths), largest(cut.heights), largest(cut.widths)];
  // The network's output, twice: in its own memory and as a copy.
  return depth * height * width * (window.workingBytes + 4 + 8 * factor);
}

/** Cuts of one axis of the plane, the largest windows first. */
export function planeCuts(pixels: number, halo: number): readonly (readonly Span[])[] {
  const smallest = Math.max(ALIGNMENT, halo, SMALLEST_TILE);
  const cuts: (readonly Span[])[] = [];
  let [size, count] = [pixels, 1];
  for (;;) {
    const isLast = size - 2 * halo < 2 * ALIGNMENT;
    if (cuts.length > 0 && count > 1 && (size - 2 * halo < smallest || isLast)) return cuts;
    if (size <= LARGEST_TILE || isLast) cuts.push(equalSpans(pixels, size, count));
    if (isLast) return cuts;
    count++;
    size = windowSize(pixels, count, halo);
  }
}

/** Extent of each of `count` windows that meet their neighbours with a halo; two over 512 pixels at halo 21 need 280. */
export function windowSize(pixels: number, count: number, halo: number): number {
  let size = Math.ceil((pixels + 2 * halo * (count - 1)) / count);
  size += (((pixels - size) % ALIGNMENT) + ALIGNMENT) % ALIGNMENT;
  while ((count - 1) * (Math.floor((size - 2 * halo) / ALIGNMENT) * ALIGNMENT) < pixels - size) size += ALIGNMENT;
  return Math.min(size, pixels);
}

/** Windows of one extent; each meets the next in the middle: [0, 280) and [232, 512) meet at 256. */
export function equalSpans(pixels: number, size: number, count: number): readonly Span[] {
  if (count === 1 || size >= pixels) return [{ start: 0, stop: pixels, outStart: 0, outStop: pixels, trim: 0 }];
  const starts = Array.from(
    { length: count },
    (_, i) => Math.floor(Math.floor((i * (pixels - size)) / (count - 1)) / ALIGNMENT) * ALIGNMENT,
  );
  const meets = [0, ...starts.slice(1).map((start, i) => Math.floor((start + starts[i] + size) / 2)), pixels];
  return starts.map((start, i) => ({
    start,
    stop: start + size,
    outStart: meets[i],
    outStop: meets[i + 1],
    trim: meets[i] - start,
  }));
}

/** Numbers of windows to try along depth: none reads a slice more than three times. */
function depthCounts(depth: number, halo: number): readonly number[] {
  const intervals = depth - 1;
  const core = Math.max(1, halo);
  const most = Math.max(1, intervals >= 2 * core ? 2 : 1, Math.floor((intervals - 2 * halo) / core));
  return Array.from({ length: most }, (_, i) => i + 1);
}

/**
 * Spans along depth: 12 thick slices have 11 intervals; three windows at halo 2 read [0, 5), [1, 9) and [5, 12), and give
 * thin slices [0, 15), [15, 35) and [35, 56) at factor 5.
 */
export function depthSpans(depth: number, factor: number, halo: number, count: number): readonly Span[] {
  const bounds = Array.from({ length: count + 1 }, (_, i) => Math.floor((i * (depth - 1)) / count));
  return bounds.slice(1).map((last, i) => {
    const first = bounds[i];
    let start = Math.max(0, first - halo);
    const stop = Math.min(depth, last + Math.max(halo, 1));
    if (stop - start < 2) start = Math.max(0, stop - 2);
    return {
      start,
      stop,
      outStart: first * factor,
      outStop: last === depth - 1 ? (depth - 1) * factor + 1 : last * factor,
      trim: (first - start) * factor,
    };
  });
}
