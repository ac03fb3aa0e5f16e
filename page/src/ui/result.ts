/** The result: thin slices as they come, in the viewer and as a file. */

import { createViewer, GraphicsError, type Viewer } from '../../../viewer/src/index';
import { roundHalfEven, type Voxels } from '../core/intensity';
import { release } from '../core/release';
import type { Patch } from '../core/stitch';
import { thinGrid, type Volume } from '../core/volume';
import { niftiParts } from '../io/nifti';
import { at, make } from './elements';

/** Voxels of a slab that is given to the viewer. */
const SLAB_VOXELS = 1 << 22;

const [INT16_MIN, INT16_MAX] = [-32768, 32767] as const;

export class Result {
  readonly grid;
  private readonly hu: Voxels;
  private viewer: Viewer | null = null;
  private readonly plane: number;
  private readySlices = 0;

  /**
   * @param notice that stays visible.
   * @param facts rows of the viewer's panel.
   */
  constructor(
    private readonly thick: Volume,
    factor: number,
    notice: string,
    facts: readonly (readonly [string, string])[],
  ) {
    this.grid = thinGrid(thick.grid, factor);
    const [depth, height, width] = this.grid.shape;
    this.plane = height * width;
    this.hu =
      thick.hu instanceof Int16Array ? new Int16Array(depth * this.plane) : new Float32Array(depth * this.plane);
    const element = at('viewer', 'div');
    element.replaceChildren();
    try {
      this.viewer = createViewer(element, {
        thick: thick.grid,
        thin: this.grid,
        hasThin: true,
        paddingHu: thick.paddingHu,
        notice,
        facts,
      });
    } catch (error) {
      if (!(error instanceof GraphicsError)) throw error;
      element.append(
        make('p', { class: 'quiet' }, `${error.message} The thin slices are made all the same; save them.`),
      );
      element.classList.add('without');
      return;
    }
    this.viewer.on('restored', () => {
      this.show('thin', 0, this.hu.subarray(0, this.readySlices * this.plane));
    });
    this.show('thick', 0, thick.hu);
  }

  /** Take finished voxels, which are used up; slices are shown when the last part of their plane is there. */
  add({ first, shape, hu }: Patch): void {
    const [, height, width] = this.grid.shape;
    const [slices, rows, columns] = shape;
    for (let z = 0, from = 0; z < slices; z++) {
      for (let y = 0; y < rows; y++, from += columns) {
        const line = (first[0] + z) * height + first[1] + y;
        this.hu.set(hu.subarray(from, from + columns), line * width + first[2]);
      }
    }
    release(hu);
    const isLastOfPlane = first[1] + rows === height && first[2] + columns === width;
    if (!isLastOfPlane) return;
    this.readySlices = first[0] + slices;
    this.show('thin', first[0], this.hu.subarray(first[0] * this.plane, this.readySlices * this.plane));
  }

  /** The thin volume as a .nii.gz file. */
  async file(description: string): Promise<Blob> {
    const { axes, orientations } = this.thick;
    const parts = niftiParts(this.hu, { grid: this.grid, axes, orientations, description });
    return new Response(new Blob(parts).stream().pipeThrough(new CompressionStream('gzip'))).blob();
  }

  close(): void {
    this.viewer?.destroy();
    this.viewer = null;
  }

  private show(volume: 'thick' | 'thin', first: number, hu: Voxels): void {
    const step = Math.max(1, Math.floor(SLAB_VOXELS / this.plane)) * this.plane;
    for (let from = 0; from < hu.length; from += step) {
      this.viewer?.addSlab(volume, first + from / this.plane, wholeNumbers(hu.subarray(from, from + step)));
    }
  }
}

/** HU as the viewer takes them. */
function wholeNumbers(hu: Voxels): Int16Array {
  if (hu instanceof Int16Array) return hu;
  return Int16Array.from(hu, (value) => Math.min(Math.max(roundHalfEven(value), INT16_MIN), INT16_MAX));
}
