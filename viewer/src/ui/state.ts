/** What the viewer shows at the moment: one frozen value, replaced as a whole. */

import type { Grid, Vec3 } from '../core/geometry';
import type { Line } from '../core/measure';
import type { PlaneName } from '../core/planes';
import type { Mode } from '../core/sampling';
import { PRESETS, type WindowHu } from '../core/windowing';

/** How the two choices A and B are compared. */
export type Compare = 'one' | 'side' | 'swipe' | 'blink';

/** What a drag with the left button, or with one finger, does. */
export type Tool = 'crosshair' | 'window' | 'pan' | 'measure';

export type Slab = 'none' | 'mean' | 'maximum';

export type Overlay = 'none' | 'difference' | 'deviation';

/** A measured line and the plane on which it was drawn. */
export interface PlacedLine extends Line {
  readonly plane: PlaneName;
}

export interface ViewState {
  readonly a: Mode;
  readonly b: Mode;
  readonly compare: Compare;
  /** Whether B is shown, where A and B take turns. */
  readonly showsB: boolean;
  /** Share of a pane's width at which B begins when swiping. */
  readonly divider: number;
  readonly planes: 'all' | PlaneName;
  readonly window: WindowHu;
  readonly tool: Tool;
  readonly slab: Slab;
  readonly slabMm: number;
  readonly overlay: Overlay;
  /** Ends of the colour scales, HU. */
  readonly mostDeviationHu: number;
  readonly mostDifferenceHu: number;
  /** Whole (depth, height, width) index of the crosshair on the thin grid. */
  readonly index: Vec3;
  /** 1 fits the picture into its pane. */
  readonly zoom: number;
  /** Offset of the middle of the pane from the middle of the plane, mm to the right and down. */
  readonly pan: Readonly<Record<PlaneName, readonly [number, number]>>;
  readonly showsCrosshair: boolean;
  readonly showsProfile: boolean;
  readonly lines: readonly PlacedLine[];
  /** Start of a line whose end the keyboard has not set yet. */
  readonly lineStart: PlacedLine['from'] | null;
}

const CENTRED: ViewState['pan'] = { axial: [0, 0], coronal: [0, 0], sagittal: [0, 0] };

/** Names of the modes on the page. */
export const MODE_NAMES: Readonly<Record<Mode, string>> = {
  thick: 'Thick (original)',
  linear: 'Linear',
  cubic: 'Cubic',
  thin: 'Thin (synthesised)',
  difference: 'Thin \u2212 cubic',
  deviation: 'Uncertainty',
};

/** The state in which a viewer opens: thick beside thin in the middle of the volume, soft tissue. */
export function initialState(grid: Grid, hasThin: boolean): ViewState {
  return {
    a: 'thick',
    b: hasThin ? 'thin' : 'cubic',
    compare: 'swipe',
    showsB: false,
    divider: 0.5,
    planes: 'all',
    window: PRESETS[1].window,
    tool: 'crosshair',
    slab: 'none',
    slabMm: 5,
    overlay: 'none',
    mostDeviationHu: 100,
    mostDifferenceHu: 200,
    index: [grid.shape[0] >> 1, grid.shape[1] >> 1, grid.shape[2] >> 1],
    zoom: 1,
    pan: CENTRED,
    showsCrosshair: true,
    showsProfile: false,
    lines: [],
    lineStart: null,
  };
}

/** Zoom, pan and divider as at the start. */
export const RESET_VIEW: Pick<ViewState, 'zoom' | 'pan' | 'divider'> = { zoom: 1, pan: CENTRED, divider: 0.5 };

/** Smallest and largest zoom. */
export const ZOOM_RANGE = [0.2, 40] as const;
