/** What the user can do, whether by keyboard, pointer or buttons: changes of the state. */

import { axisVector, clampIndex, stepsMm, type Grid, type Vec3 } from '../core/geometry';
import { lengthMm, written } from '../core/measure';
import { extentMm, planesOf, toIndices, toPicture, type Plane, type PlaneName } from '../core/planes';
import type { Mode } from '../core/sampling';
import { roundedWindow, type WindowHu } from '../core/windowing';
import { RESET_VIEW, ZOOM_RANGE, type ViewState } from './state';

/** World direction of the next slice: towards the feet, the back and the left, as slices are read. */
const ONWARD: Readonly<Record<PlaneName, Vec3>> = { axial: [0, 0, -1], coronal: [0, 1, 0], sagittal: [1, 0, 0] };

/** The state, and every way in which it changes. */
export class Controller {
  readonly planes: Readonly<Record<PlaneName, Plane>>;
  private current: ViewState;

  /**
   * @param grid the thin grid.
   * @param modes that the volumes allow.
   * @param changed called after each change.
   * @param announce called with a sentence for the live region.
   */
  constructor(
    readonly grid: Grid,
    readonly modes: readonly Mode[],
    initial: ViewState,
    private readonly changed: (before: ViewState) => void,
    readonly announce: (sentence: string) => void,
  ) {
    this.planes = planesOf(grid);
    this.current = initial;
  }

  get state(): ViewState {
    return this.current;
  }

  /** Replace parts of the state; a mode that the volumes do not allow is left as it was. */
  set(part: Partial<ViewState>): void {
    const before = this.current;
    const next = { ...before, ...part };
    const allowed = (mode: Mode, old: Mode): Mode => (this.modes.includes(mode) ? mode : old);
    const [low, high] = ZOOM_RANGE;
    this.current = {
      ...next,
      a: allowed(next.a, before.a),
      b: allowed(next.b, before.b),
      overlay: next.overlay === 'none' || this.modes.includes(next.overlay) ? next.overlay : before.overlay,
      zoom: Math.min(Math.max(next.zoom, low), high),
      divider: Math.min(Math.max(next.divider, 0), 1),
      window: roundedWindow(next.window),
      slabMm: Math.min(Math.max(next.slabMm, 0.1), 200),
      mostDeviationHu: Math.min(Math.max(next.mostDeviationHu, 1), 4000),
      mostDifferenceHu: Math.min(Math.max(next.mostDifferenceHu, 1), 4000),
      index: rounded(clampIndex(this.grid, next.index)),
    };
    this.changed(before);
  }

  setWindow(window: WindowHu): void {
    this.set({ window });
  }

  /** Move on by slices of a plane: towards the feet, the back or the left for positive numbers. */
  scroll(plane: PlaneName, slices: number): void {
    const { normal } = this.planes[plane];
    const vector = axisVector(this.grid, normal);
    const onward = ONWARD[plane];
    const sign = vector[0] * onward[0] + vector[1] * onward[1] + vector[2] * onward[2] < 0 ? -1 : 1;
    this.set({ index: withComponent(this.state.index, normal, this.state.index[normal] + sign * slices) });
  }

  /** Go to the first or the last slice of a plane. */
  scrollToEnd(plane: PlaneName, last: boolean): void {
    this.scroll(plane, (last ? 1 : -1) * this.grid.shape[this.planes[plane].normal]);
  }

  /** Move the crosshair within a plane by voxels to the right and down the picture. */
  moveCrosshair(plane: PlaneName, right: number, down: number): void {
    const { across, down: downAxis, flipAcross, flipDown } = this.planes[plane];
    let { index } = this.state;
    index = withComponent(index, across, index[across] + (flipAcross ? -right : right));
    index = withComponent(index, downAxis, index[downAxis] + (flipDown ? -down : down));
    this.set({ index });
  }

  /** Put the crosshair at a place of a plane's picture, mm. */
  placeCrosshair(plane: PlaneName, pictureMm: readonly [number, number]): void {
    this.set({ index: toIndices(this.grid, this.planes[plane], pictureMm, this.state.index) });
  }

  /** Move a plane's picture by mm to the right and down. */
  pan(plane: PlaneName, rightMm: number, downMm: number): void {
    const limit = extentMm(this.grid, this.planes[plane]);
    const [x, y] = this.state.pan[plane];
    const bound = (value: number, most: number): number => Math.min(Math.max(value, -most), most);
    const place = [bound(x - rightMm, limit[0] / 2), bound(y - downMm, limit[1] / 2)] as const;
    this.set({ pan: { ...this.state.pan, [plane]: place } });
  }

  /** Zoom by a ratio about a place of a plane's picture, mm, which stays where it is; about the crosshair by default. */
  zoomBy(ratio: number, plane: PlaneName, pictureMm?: readonly [number, number]): void {
    const [low, high] = ZOOM_RANGE;
    const zoom = Math.min(Math.max(this.state.zoom * ratio, low), high);
    const about = pictureMm ?? toPicture(this.grid, this.planes[plane], this.state.index);
    const extent = extentMm(this.grid, this.planes[plane]);
    const kept = this.state.zoom / zoom;
    const [x, y] = this.state.pan[plane];
    const centre = [extent[0] / 2 + x, extent[1] / 2 + y] as const;
    const moved = [
      about[0] + (centre[0] - about[0]) * kept - extent[0] / 2,
      about[1] + (centre[1] - about[1]) * kept - extent[1] / 2,
    ] as const;
    this.set({ zoom, pan: { ...this.state.pan, [plane]: moved } });
  }

  reset(): void {
    this.set(RESET_VIEW);
    this.announce('Zoom and position as at the start.');
  }

  /** Exchange A and B. */
  exchange(): void {
    this.set({ a: this.state.b, b: this.state.a });
  }

  /** The next mode for A or B. */
  nextMode(side: 'a' | 'b'): void {
    const at = this.modes.indexOf(this.state[side]);
    this.set({ [side]: this.modes[(at + 1) % this.modes.length] });
  }

  /** Show one plane alone, or all again. */
  togglePlane(plane: PlaneName): void {
    this.set({ planes: this.state.planes === 'all' ? plane : 'all' });
  }

  /** Begin a line at the crosshair, or end the one that was begun. */
  markLine(plane: PlaneName): void {
    const { lineStart, index } = this.state;
    if (lineStart === null) {
      this.set({ lineStart: index });
      this.announce('The line starts at the crosshair; move it and press M again.');
    } else {
      this.addLine(plane, lineStart, index);
    }
  }

  addLine(plane: PlaneName, from: Vec3, to: Vec3): void {
    const line = { plane, from, to };
    this.set({ lines: [...this.state.lines, line], lineStart: null });
    this.announce(`Distance ${this.distanceText(line)}.`);
  }

  /** Remove the newest line. */
  removeLine(): void {
    this.set({ lines: this.state.lines.slice(0, -1), lineStart: null });
  }

  /** Length of a line in words. */
  distanceText(line: { readonly from: Vec3; readonly to: Vec3 }): string {
    if (this.grid.spacingMm[1] === null || this.grid.spacingMm[2] === null) return 'unknown (no pixel spacing)';
    return `${written(lengthMm(this.grid, line), 1)} mm`;
  }

  /** Distance of slices of a plane, mm. */
  sliceStepMm(plane: PlaneName): number {
    return stepsMm(this.grid)[this.planes[plane].normal];
  }
}

function withComponent(index: Vec3, axis: number, value: number): Vec3 {
  const found: [number, number, number] = [index[0], index[1], index[2]];
  found[axis] = value;
  return found;
}

function rounded(index: Vec3): Vec3 {
  return [Math.round(index[0]), Math.round(index[1]), Math.round(index[2])];
}
