/** Where panes stand on the stage. */

import { PLANE_NAMES, type PlaneName } from '../core/planes';
import type { ViewState } from './state';

/** A pane: which plane it shows, and which of the two choices, or both in one picture. */
export interface PaneKey {
  readonly plane: PlaneName;
  readonly side: 'a' | 'b' | 'both';
}

/** A pane and its rectangle on the stage, CSS pixels; y runs down. */
export interface PanePlace extends PaneKey {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** Pixels between panes. */
export const GAP = 4;

/**
 * Panes for a state, in reading order.
 *
 * Three planes with A and B in one picture: the axial one large, the others beside it (below it on an upright screen).
 * Side by side: A above B, a column a plane (A left of B, a row a plane, on an upright screen).
 */
export function arrange(
  state: Pick<ViewState, 'planes' | 'compare'>,
  width: number,
  height: number,
): readonly PanePlace[] {
  const isWide = width >= height;
  const planes = state.planes === 'all' ? PLANE_NAMES : [state.planes];
  const stage = { x: 0, y: 0, width, height };
  if (state.compare === 'side') {
    const sides = ['a', 'b'] as const;
    // One plane: A left of B on a wide screen. Three planes: one column or row for each.
    const acrossPlanes = planes.length > 1 ? isWide : !isWide;
    const places: PanePlace[] = [];
    planes.forEach((plane, i) => {
      sides.forEach((side, j) => {
        const cell = acrossPlanes
          ? gridCell(stage, planes.length, sides.length, i, j)
          : gridCell(stage, sides.length, planes.length, j, i);
        places.push({ plane, side, ...cell });
      });
    });
    return places;
  }
  if (planes.length === 1) return [{ plane: planes[0], side: 'both', ...stage }];
  const share = 0.58;
  const first = isWide
    ? { ...stage, width: Math.round(width * share) - GAP / 2 }
    : { ...stage, height: Math.round(height * share) - GAP / 2 };
  const rest = isWide
    ? { ...stage, x: first.width + GAP, width: width - first.width - GAP }
    : { ...stage, y: first.height + GAP, height: height - first.height - GAP };
  return planes.map((plane, i) => {
    if (i === 0) return { plane, side: 'both', ...first };
    const cell = isWide ? gridCell(rest, 1, 2, 0, i - 1) : gridCell(rest, 2, 1, i - 1, 0);
    return { plane, side: 'both', ...cell };
  });
}

interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** One cell of a grid that fills a box, with gaps between cells. */
function gridCell(box: Box, columns: number, rows: number, column: number, row: number): Box {
  const [left, right] = [column, column + 1].map((c) => Math.round((c * (box.width + GAP)) / columns));
  const [top, bottom] = [row, row + 1].map((r) => Math.round((r * (box.height + GAP)) / rows));
  return { x: box.x + left, y: box.y + top, width: right - left - GAP, height: bottom - top - GAP };
}
