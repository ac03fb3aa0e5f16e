/**
 * A plan carried out: thick slices in, patches of thin slices out (`thinslice.inference.stitch` in Python).
 *
 * Memory holds one window: what the network makes of it is clamped, finished and given on before the next one begins.
 */

import { Averages } from './consistency';
import { clampedHu, networkInput, roundHalfEven, WINDOW_WIDTH_HU, type Voxels } from './intensity';
import { ConsistencyMeter, rmsHu } from './meter';
import { describe, networkWindow, type Description, type Infer, type Made, type NetworkFacts } from './network';
import { ThickPart, type ThickVolume } from './part';
import type { SliceProfile } from './profile';
import { release } from './release';
import { nearestThick, Restorer } from './restore';
import { extent, overlapCut, type Cut, type Span } from './spans';

/** Bytes for a pass of the network. */
export const BUDGET_BYTES = 400 * 2 ** 20;

/** Finished thin voxels of a part of the plane. */
export interface Patch {
  /** Thin index, row and column of the first voxel. */
  readonly first: readonly [number, number, number];
  /** (slices, height, width). */
  readonly shape: readonly [number, number, number];
  readonly hu: Voxels;
  /** Standard deviations in steps of `DEVIATION_STEP_HU`, 0 in padding; null from a network that gives none. */
  readonly deviationSteps: Int16Array<ArrayBuffer> | null;
}

/** HU of one step of the standard deviations. */
export const DEVIATION_STEP_HU = 1 / 16;

/** A part of the plane that windows share, and what is carried from one of them to the next along depth. */
interface Tile {
  readonly rows: Span;
  readonly columns: Span;
  /** What its windows give, without their halo. */
  readonly part: ThickPart;
  readonly restorer: Restorer;
  readonly meter: ConsistencyMeter;
}

export class Stitcher {
  readonly cut: Cut;
  private readonly tiles: readonly Tile[];
  private readonly averages = new Map<number, Averages>();
  private readonly description: Description;

  constructor(
    private readonly thick: ThickVolume,
    facts: NetworkFacts,
    private readonly profile: SliceProfile,
    budgetBytes = BUDGET_BYTES,
  ) {
    this.cut = overlapCut(thick.shape, profile.factor, networkWindow(facts, profile), budgetBytes);
    this.description = describe(profile);
    this.tiles = this.cut.heights.flatMap((rows) => this.cut.widths.map((columns) => this.tile(rows, columns)));
  }

  /** Windows of the whole volume. */
  get windows(): number {
    return this.cut.depths.length * this.tiles.length;
  }

  /** Thin voxels so far to which the source's excess was added. */
  get voxelsOutsideWindow(): number {
    return this.tiles.reduce((sum, { restorer }) => sum + restorer.voxelsOutsideWindow, 0);
  }

  /** RMS difference so far between the thick slices and averages of the thin ones; null where none was compared. */
  get consistencyRmsHu(): number | null {
    return rmsHu(this.tiles.map(({ meter }) => meter));
  }

  /** The patches, those of the first slices first; `progress` gets the share of the voxels that have passed the network. */
  async *patches(infer: Infer, progress: (share: number) => void = () => undefined): AsyncGenerator<Patch> {
    const fed = ({ rows, columns }: Tile): number => extent(rows) * extent(columns);
    const total =
      this.cut.depths.reduce((sum, row) => sum + extent(row), 0) * this.tiles.reduce((s, t) => s + fed(t), 0);
    let done = 0;
    for (const row of this.cut.depths) {
      for (const tile of this.tiles) {
        const made = await infer(this.passOf(tile, row));
        const patch = this.finished(tile, row, made);
        done += extent(row) * fed(tile);
        progress(done / total);
        yield patch;
      }
    }
  }

  private tile(rows: Span, columns: Span): Tile {
    const part = new ThickPart(this.thick, [rows.outStart, rows.outStop], [columns.outStart, columns.outStop]);
    const restorer = new Restorer(part, this.profile.factor);
    return { rows, columns, part, restorer, meter: new ConsistencyMeter(this.profile, part) };
  }

  private averagesOf(depth: number): Averages {
    const found = this.averages.get(depth) ?? new Averages(depth, this.profile);
    this.averages.set(depth, found);
    return found;
  }

  private passOf({ rows, columns }: Tile, row: Span): Parameters<Infer>[0] {
    const read = new ThickPart(this.thick, [rows.start, rows.stop], [columns.start, columns.stop]);
    const shape = [extent(row), extent(rows), extent(columns)] as const;
    return { thick: unitIntensity(read, row), shape, description: this.description };
  }

  /** What the network made of a window, without its halo: clamped, restored, in HU. */
  private finished(tile: Tile, row: Span, made: Made): Patch {
    const { part, rows, columns, restorer, meter } = tile;
    const averages = this.averagesOf(extent(row));
    const [, height, width] = part.shape;
    const deviationSteps = made.deviation === null ? null : this.deviationSteps(tile, row, made.deviation);
    const thin = withoutHalo(made.thin, tile, averages.thinSlices);
    averages.clampConsistently(unitIntensity(part, row), thin);
    const slices = row.outStop - row.outStart;
    const size = slices * part.pixels;
    const hu = this.thick.hu instanceof Int16Array ? new Int16Array(size) : new Float32Array(size);
    const slice = new Float32Array(part.pixels);
    for (let index = 0; index < slices; index++) {
      const from = (index + row.trim) * part.pixels;
      for (let i = 0; i < part.pixels; i++) {
        const unit = thin[from + i];
        if (!Number.isFinite(unit)) {
          throw new RangeError('The network gave values that are not finite numbers; load the page again.');
        }
        slice[i] = clampedHu(unit);
      }
      restorer.finish(row.outStart + index, slice, hu.subarray(index * part.pixels, (index + 1) * part.pixels));
    }
    release(thin);
    meter.add(hu);
    return {
      first: [row.outStart, rows.outStart, columns.outStart],
      shape: [slices, height, width],
      hu,
      deviationSteps,
    };
  }

  private deviationSteps(tile: Tile, row: Span, made: Float32Array<ArrayBuffer>): Int16Array<ArrayBuffer> {
    const { part } = tile;
    const kept = withoutHalo(made, tile, this.averagesOf(extent(row)).thinSlices);
    const steps = new Int16Array((row.outStop - row.outStart) * part.pixels);
    const stepsPerUnit = WINDOW_WIDTH_HU / DEVIATION_STEP_HU;
    for (let i = 0, from = row.trim * part.pixels; i < steps.length; i++) {
      steps[i] = Math.min(roundHalfEven(Math.fround(kept[from + i] * stepsPerUnit)), LARGEST_STEPS);
    }
    release(kept);
    if (part.paddingHu === null) return steps;
    for (let index = row.outStart, at = 0; index < row.outStop; index++) {
      for (const hu of part.slice(nearestThick(index, this.profile.factor))) {
        if (hu === part.paddingHu) steps[at] = 0;
        at++;
      }
    }
    return steps;
  }
}

/** Most that 16 bits hold. */
const LARGEST_STEPS = 32767;

/** What a tile's window gives, (thin slices, height, width); `made`, with the halo, is used up. */
function withoutHalo(
  made: Float32Array<ArrayBuffer>,
  { part, rows, columns }: Tile,
  thinSlices: number,
): Float32Array<ArrayBuffer> {
  const [, height, width] = part.shape;
  const [h, w] = [extent(rows), extent(columns)];
  if (made.length !== thinSlices * h * w) {
    throw new RangeError(`The network gave ${made.length} values, not ${thinSlices} x ${h} x ${w}.`);
  }
  const kept = new Float32Array(thinSlices * part.pixels);
  for (let z = 0; z < thinSlices; z++) {
    for (let y = 0; y < height; y++) {
      const from = (z * h + rows.trim + y) * w + columns.trim;
      kept.set(made.subarray(from, from + width), (z * height + y) * width);
    }
  }
  release(made);
  return kept;
}

/** Unit intensity of the slices that a window reads, (slices, height, width). */
function unitIntensity(part: ThickPart, row: Span): Float32Array<ArrayBuffer> {
  const unit = new Float32Array(extent(row) * part.pixels);
  for (let k = row.start, at = 0; k < row.stop; k++) {
    for (const hu of part.slice(k)) unit[at++] = networkInput(hu, part.paddingHu);
  }
  return unit;
}
