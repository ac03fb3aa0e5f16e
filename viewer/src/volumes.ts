/** The volumes of a viewer: their grids as shown, which slices have arrived, and their textures. */

import { Arrival } from './core/arrival';
import { checkGrid, depthMap, type Grid } from './core/geometry';
import { chooseReduction, reducedGrid, reduceSlab } from './core/reduction';
import { MODES, networkInput, type Mode } from './core/sampling';
import { moments } from './core/spline';
import { GraphicsError, Renderer, type Scene, type VolumeName } from './gl/renderer';

/** The volumes that a viewer opens with; voxels follow slab by slab. */
export interface VolumesOptions {
  readonly thick: Grid;
  /** The grid on which everything is shown; also where no thin volume comes. */
  readonly thin: Grid;
  /** Whether a thin volume comes. */
  readonly hasThin?: boolean;
  /** Whether standard deviations on the thin grid come. */
  readonly hasDeviation?: boolean;
  /** HU of one step of the standard deviations' integers. */
  readonly deviationStepHu?: number;
  /** HU that marks padding, or null. */
  readonly paddingHu?: number | null;
  /** Pixels along rows and columns that were made one before the volumes came here; 1 where none were. */
  readonly reducedBefore?: number;
  /** Bytes that textures may take; more than that, and planes are shown with fewer pixels. */
  readonly budgetBytes?: number;
}

/** Bytes of textures that computers, and tablets, are expected to bear. */
const BUDGET_BYTES = 1024 * 2 ** 20;
const SMALL_BUDGET_BYTES = 400 * 2 ** 20;

/** Pixels that become one along rows and columns, at most. */
const LARGEST_REDUCTION = 8;

export class Volumes {
  renderer: Renderer;
  /** Grid of the thin volume as shown. */
  readonly grid: Grid;
  /** Pixels along rows and columns of the source that are shown as one; 1 where nothing is reduced. */
  readonly reductionOfSource: number;
  private readonly reduction: number;
  readonly modes: readonly Mode[];
  private readonly scene: Scene;
  private readonly arrivals = new Map<VolumeName, Arrival>();
  private readonly thick: Int16Array;

  /**
   * @throws GridError when the grids cannot be, or do not lie on one another.
   * @throws GraphicsError without WebGL2, or when memory is short.
   */
  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly options: VolumesOptions,
  ) {
    checkGrid(options.thick);
    checkGrid(options.thin);
    const [thick, thin] = [options.thick, options.thin];
    // Before any reduction: a pair that does not fit is a fault of the caller.
    depthMap(thick, thin);
    const [hasThin, hasDeviation] = [options.hasThin ?? false, options.hasDeviation ?? false];
    const longest = Renderer.longestAxis(canvas);
    if (Math.max(thin.shape[0], thick.shape[0]) > longest) {
      throw new GraphicsError(`This device shows at most ${longest} slices; open a part of the volume.`);
    }
    const budget = options.budgetBytes ?? defaultBudget();
    let reduction = chooseReduction(thick.shape, thin.shape, hasDeviation, budget, longest);
    for (;;) {
      const [reducedThick, reducedThin] = [reducedGrid(thick, reduction), reducedGrid(thin, reduction)];
      const scene: Scene = {
        thickShape: reducedThick.shape,
        thinShape: reducedThin.shape,
        depth: depthMap(reducedThick, reducedThin),
        hasThin,
        hasDeviation,
        deviationStepHu: options.deviationStepHu ?? 1,
        paddingHu: options.paddingHu ?? null,
      };
      try {
        this.renderer = new Renderer(canvas, scene);
        [this.scene, this.grid, this.reduction] = [scene, reducedThin, reduction];
        break;
      } catch (error) {
        if (!(error instanceof GraphicsError) || reduction >= LARGEST_REDUCTION) throw error;
        reduction++;
      }
    }
    this.reductionOfSource = this.reduction * (options.reducedBefore ?? 1);
    const [depth, height, width] = this.scene.thickShape;
    this.thick = new Int16Array(depth * height * width);
    this.modes = MODES.filter(
      (mode) =>
        (mode !== 'thin' && mode !== 'difference' && mode !== 'deviation') ||
        (mode === 'deviation' ? hasDeviation : hasThin),
    );
    this.forget();
  }

  /** Slices that can be shown, and all, of a volume; null for one that does not come. */
  arrival(volume: VolumeName): { readonly ready: number; readonly slices: number } | null {
    return this.arrivals.get(volume) ?? null;
  }

  get isComplete(): boolean {
    return [...this.arrivals.values()].every((arrival) => arrival.isComplete);
  }

  /**
   * Take slices of a volume.
   *
   * @param firstSlice index of the first of them.
   * @param voxels (slices, height, width) HU of the source's grid; for deviations in steps of `deviationStepHu`.
   * @throws RangeError when they do not fit, or the volume was not announced.
   */
  add(volume: VolumeName, firstSlice: number, voxels: Int16Array): void {
    const arrival = this.arrivals.get(volume);
    if (arrival === undefined) throw new RangeError(`No ${volume} volume was announced.`);
    const [, height, width] = this.options.thin.shape;
    const slices = voxels.length / (height * width);
    if (!Number.isInteger(slices)) throw new RangeError(`A slab of ${voxels.length} voxels holds no whole slices.`);
    arrival.add(firstSlice, slices);
    const shown = reduceSlab(voxels, height, width, this.reduction);
    if (volume === 'thick') this.thick.set(shown, firstSlice * this.scene.thickShape[1] * this.scene.thickShape[2]);
    this.renderer.upload(volume, firstSlice, shown, arrival.ready);
  }

  /** Make cubic interpolation ready, as soon as the thick volume is complete; it takes a moment, so only when needed. */
  prepareCubic(): void {
    if (this.renderer.hasCubic || this.arrivals.get('thick')?.isComplete !== true) return;
    const { paddingHu, thickShape } = this.scene;
    const inside = new Float32Array(this.thick.length);
    for (let i = 0; i < inside.length; i++) inside[i] = networkInput(this.thick[i], paddingHu);
    this.renderer.uploadMoments(moments(inside, thickShape[0]));
  }

  /** Textures anew after the browser has taken the graphics memory; thick slices are here, others have to come again. */
  restore(): void {
    const thick = this.arrivals.get('thick')?.ready ?? 0;
    this.renderer = new Renderer(this.canvas, this.scene);
    this.forget();
    if (thick === 0) return;
    this.arrivals.get('thick')?.add(0, thick);
    const plane = this.scene.thickShape[1] * this.scene.thickShape[2];
    this.renderer.upload('thick', 0, this.thick.subarray(0, thick * plane), thick);
  }

  private forget(): void {
    this.arrivals.clear();
    this.arrivals.set('thick', new Arrival(this.scene.thickShape[0]));
    if (this.scene.hasThin) this.arrivals.set('thin', new Arrival(this.scene.thinShape[0]));
    if (this.scene.hasDeviation) this.arrivals.set('deviation', new Arrival(this.scene.thinShape[0]));
  }
}

function defaultBudget(): number {
  const isHandheld = navigator.maxTouchPoints > 1 && !window.matchMedia('(any-pointer: fine)').matches;
  return isHandheld ? SMALL_BUDGET_BYTES : BUDGET_BYTES;
}
