/** The result: thin slices as they come, in the viewer and as a file. */

import { createViewer, GraphicsError, type Viewer, type VolumeName } from '../../../viewer/src/index';
import { roundHalfEven, type Voxels } from '../core/intensity';
import { release } from '../core/release';
import { DEVIATION_STEP_HU, type Patch } from '../core/stitch';
import { thinGrid, type Volume } from '../core/volume';
import { niftiParts } from '../io/nifti';
import { at, make } from './elements';

/** Voxels of a slab that is given to the viewer. */
const SLAB_VOXELS = 1 << 22;

const [INT16_MIN, INT16_MAX] = [-32768, 32767] as const;

export class Result {
  readonly grid;
  private readonly hu: Voxels;
  /** Standard deviations in steps of `DEVIATION_STEP_HU`; null where none are made. */
  private readonly deviationSteps: Int16Array<ArrayBuffer> | null;
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
    hasDeviation: boolean,
    notice: string,
    facts: readonly (readonly [string, string])[],
  ) {
    this.grid = thinGrid(thick.grid, factor);
    const [depth, height, width] = this.grid.shape;
    this.plane = height * width;
    this.hu =
      thick.hu instanceof Int16Array ? new Int16Array(depth * this.plane) : new Float32Array(depth * this.plane);
    this.deviationSteps = hasDeviation ? new Int16Array(depth * this.plane) : null;
    const element = at('viewer', 'div');
    element.replaceChildren();
    try {
      this.viewer = createViewer(element, {
        thick: thick.grid,
        thin: this.grid,
        hasThin: true,
        hasDeviation,
        deviationStepHu: DEVIATION_STEP_HU,
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
      this.showThin(0);
    });
    this.show('thick', 0, thick.hu);
  }

  /** Take finished voxels, which are used up; slices are shown when the last part of their plane is there. */
  add({ first, shape, hu, deviationSteps }: Patch): void {
    const [, height, width] = this.grid.shape;
    const [slices, rows, columns] = shape;
    for (let z = 0, from = 0; z < slices; z++) {
      for (let y = 0; y < rows; y++, from += columns) {
        const line = (first[0] + z) * height + first[1] + y;
        const at = line * width + first[2];
        this.hu.set(hu.subarray(from, from + columns), at);
        if (deviationSteps !== null) this.deviationSteps?.set(deviationSteps.subarray(from, from + columns), at);
      }
    }
    release(hu);
    if (deviationSteps !== null) release(deviationSteps);
    const isLastOfPlane = first[1] + rows === height && first[2] + columns === width;
    if (!isLastOfPlane) return;
    this.readySlices = first[0] + slices;
    this.showThin(first[0]);
  }

  /** The thin volume as a .nii.gz file. */
  async file(description: string): Promise<Blob> {
    const { axes, orientations } = this.thick;
    return packed(niftiParts(this.hu, { grid: this.grid, axes, orientations, description }));
  }

  close(): void {
    this.viewer?.destroy();
    this.viewer = null;
  }

  /** Standard deviations as a .nii.gz file; null where none were made. */
  async deviationFile(description: string): Promise<Blob | null> {
    if (this.deviationSteps === null) return null;
    const { axes, orientations } = this.thick;
    const written = { grid: this.grid, axes, orientations, description, slope: DEVIATION_STEP_HU };
    return packed(niftiParts(this.deviationSteps, written));
  }

  /** Show what is ready from a slice on. */
  private showThin(first: number): void {
    const [start, stop] = [first * this.plane, this.readySlices * this.plane];
    this.show('thin', first, this.hu.subarray(start, stop));
    if (this.deviationSteps !== null) this.show('deviation', first, this.deviationSteps.subarray(start, stop));
  }

  private show(volume: VolumeName, first: number, hu: Voxels): void {
    const step = Math.max(1, Math.floor(SLAB_VOXELS / this.plane)) * this.plane;
    for (let from = 0; from < hu.length; from += step) {
      this.viewer?.addSlab(volume, first + from / this.plane, wholeNumbers(hu.subarray(from, from + step)));
    }
  }
}

function packed(parts: Uint8Array<ArrayBuffer>[]): Promise<Blob> {
  return new Response(new Blob(parts).stream().pipeThrough(new CompressionStream('gzip'))).blob();
}

/** HU as the viewer takes them. */
function wholeNumbers(hu: Voxels): Int16Array {
  if (hu instanceof Int16Array) return hu;
  return Int16Array.from(hu, (value) => Math.min(Math.max(roundHalfEven(value), INT16_MIN), INT16_MAX));
}
