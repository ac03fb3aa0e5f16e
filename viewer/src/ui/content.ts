/** From the state to what the renderer draws in a pane. */

import { stepsMm, type Grid, type Vec3 } from '../core/geometry';
import { slabSteps } from '../core/measure';
import { pixelToPicture, toIndices, type PaneView, type Plane } from '../core/planes';
import type { Mode } from '../core/sampling';
import type { PaneContent } from '../gl/renderer';
import type { ViewState } from './state';

/** What is left and right of the divider, and its share of the width. */
export interface Shown {
  readonly left: Mode;
  readonly right: Mode;
  readonly divider: number;
}

/**
 * Content of a pane.
 *
 * @param view of the plane in device pixels.
 */
export function paneContent(grid: Grid, plane: Plane, state: ViewState, view: PaneView, shown: Shown): PaneContent {
  const steps = stepsMm(grid);
  const unit = (axis: number, length: number): Vec3 => [
    axis === 0 ? length : 0,
    axis === 1 ? length : 0,
    axis === 2 ? length : 0,
  ];
  const perPixel = (axis: 0 | 1 | 2): number => 1 / (view.pixelsPerMm * steps[axis]);
  const lowerLeft = pixelToPicture(view, 0.5, view.height - 0.5);
  return {
    ...lookOf(state),
    left: shown.left,
    right: shown.right,
    divider: shown.divider * view.width,
    origin: toIndices(grid, plane, lowerLeft, state.index),
    across: unit(plane.across, (plane.flipAcross ? -1 : 1) * perPixel(plane.across)),
    up: unit(plane.down, (plane.flipDown ? 1 : -1) * perPixel(plane.down)),
    slabSteps: state.slab === 'none' ? 1 : slabSteps(state.slabMm, steps[plane.normal]),
    slabStep: unit(plane.normal, 1),
  };
}

/** Content that reads one mode along a row of places: `origin`, `origin + step`, ... */
export function rowContent(state: ViewState, mode: Mode, origin: Vec3, step: Vec3): PaneContent {
  return {
    ...lookOf(state),
    left: mode,
    right: mode,
    divider: 0,
    origin,
    across: step,
    up: [0, 0, 0],
    slabSteps: 1,
    slabStep: [0, 0, 0],
  };
}

function lookOf(
  state: ViewState,
): Pick<
  PaneContent,
  'slabMaximum' | 'windowLowHu' | 'windowWidthHu' | 'mostDeviationHu' | 'mostDifferenceHu' | 'overlay' | 'opacity'
> {
  return {
    slabMaximum: state.slab === 'maximum',
    windowLowHu: state.window.centreHu - state.window.widthHu / 2,
    windowWidthHu: state.window.widthHu,
    mostDeviationHu: state.mostDeviationHu,
    mostDifferenceHu: state.mostDifferenceHu,
    overlay: state.overlay === 'none' ? null : state.overlay,
    opacity: 0.85,
  };
}
