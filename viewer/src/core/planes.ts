/** Planes of a volume as radiologists view them, and the letters at their sides. */

import { axisVector, dot, stepsMm, type Axis, type Grid, type Vec3 } from './geometry';

export type PlaneName = 'axial' | 'coronal' | 'sagittal';

export const PLANE_NAMES: readonly PlaneName[] = ['axial', 'coronal', 'sagittal'];

/** Orientation of one plane of the array on the screen. */
export interface Plane {
  readonly name: PlaneName;
  /** Array axis across the plane. */
  readonly normal: Axis;
  /** Array axis that runs to the right of the picture. */
  readonly across: Axis;
  /** Array axis that runs down the picture. */
  readonly down: Axis;
  /** Whether the array runs to the left instead. */
  readonly flipAcross: boolean;
  /** Whether the array runs up instead. */
  readonly flipDown: boolean;
  /** Angle between the plane and the anatomical plane of its name, degrees. */
  readonly obliqueDegrees: number;
}

/** World vectors to the right and down the picture, and across it: patient's left on the right, head up. */
const SCREEN: Readonly<Record<PlaneName, { across: Vec3; down: Vec3; normal: Vec3 }>> = {
  axial: { across: [1, 0, 0], down: [0, 1, 0], normal: [0, 0, 1] },
  coronal: { across: [1, 0, 0], down: [0, 0, -1], normal: [0, 1, 0] },
  sagittal: { across: [0, 1, 0], down: [0, 0, -1], normal: [1, 0, 0] },
};

/**
 * The array axis nearest to each world axis x, y, z; each array axis is taken once.
 *
 * A plain axial scan (depth to superior, height to posterior, width to the left) gives [2, 1, 0].
 */
export function worldAxes(grid: Grid): readonly [Axis, Axis, Axis] {
  const axes: readonly Axis[] = [0, 1, 2];
  let best: readonly [Axis, Axis, Axis] = [2, 1, 0];
  let most = -1;
  for (const x of axes) {
    for (const y of axes) {
      for (const z of axes) {
        if (x === y || y === z || x === z) continue;
        const total = Math.abs(grid.direction[0][x]) + Math.abs(grid.direction[1][y]) + Math.abs(grid.direction[2][z]);
        if (total > most + 1e-9) [most, best] = [total, [x, y, z]];
      }
    }
  }
  return best;
}

/** The three planes across the array axes, named after the anatomical plane nearest to each. */
export function planesOf(grid: Grid): Readonly<Record<PlaneName, Plane>> {
  const axes = worldAxes(grid);
  const along = (wanted: Vec3): Axis => axes[wanted.findIndex((component) => component !== 0)];
  const make = (name: PlaneName): Plane => {
    const screen = SCREEN[name];
    const [normal, across, down] = [along(screen.normal), along(screen.across), along(screen.down)];
    const cosine = Math.min(1, Math.abs(dot(axisVector(grid, normal), screen.normal)));
    return {
      name,
      normal,
      across,
      down,
      flipAcross: dot(axisVector(grid, across), screen.across) < 0,
      flipDown: dot(axisVector(grid, down), screen.down) < 0,
      obliqueDegrees: (Math.acos(cosine) * 180) / Math.PI,
    };
  };
  return { axial: make('axial'), coronal: make('coronal'), sagittal: make('sagittal') };
}

/** Share of a direction from which on its letter stands beside that of the largest one: 12 degrees. */
const SECOND_LETTER = Math.sin((12 * Math.PI) / 180);

const LETTERS = [
  ['L', 'R'],
  ['P', 'A'],
  ['H', 'F'],
] as const;

/** Letters of the patient's side to which an LPS vector points, the largest part first: [1, 0, 0] is 'L'. */
export function sideLetters(vector: Vec3): string {
  return [0, 1, 2]
    .filter((axis) => Math.abs(vector[axis]) >= SECOND_LETTER)
    .sort((a, b) => Math.abs(vector[b]) - Math.abs(vector[a]))
    .map((axis) => LETTERS[axis][vector[axis] > 0 ? 0 : 1])
    .join('');
}

/** Letters at the four sides of a picture. */
export interface Sides {
  readonly left: string;
  readonly right: string;
  readonly top: string;
  readonly bottom: string;
}

/** Sides of the patient around a plane's picture: R, L, A and P around a plain axial one. */
export function sidesOf(grid: Grid, plane: Plane): Sides {
  const towards = (axis: Axis, sign: number): string => {
    const [x, y, z] = axisVector(grid, axis);
    return sideLetters([x * sign, y * sign, z * sign]);
  };
  const [right, bottom] = [plane.flipAcross ? -1 : 1, plane.flipDown ? -1 : 1];
  return {
    left: towards(plane.across, -right),
    right: towards(plane.across, right),
    top: towards(plane.down, -bottom),
    bottom: towards(plane.down, bottom),
  };
}

/** Extent of a plane's picture, (across, down), mm. */
export function extentMm(grid: Grid, plane: Plane): readonly [number, number] {
  const steps = stepsMm(grid);
  return [grid.shape[plane.across] * steps[plane.across], grid.shape[plane.down] * steps[plane.down]];
}

/** How a plane lies in its pane. */
export interface PaneView {
  /** Extent of the pane, pixels. */
  readonly width: number;
  readonly height: number;
  readonly pixelsPerMm: number;
  /** Place of the plane that is at the middle of the pane, mm from the picture's upper left corner. */
  readonly centreMm: readonly [number, number];
}

/** Pixels per mm at which the whole plane fits into a pane, with a margin for letters. */
export function fitScale(grid: Grid, plane: Plane, width: number, height: number): number {
  const [across, down] = extentMm(grid, plane);
  return Math.max(1e-3, Math.min(width / across, height / down) * 0.96);
}

/** Coordinates (across, down) in the picture, mm, of fractional array indices; the inverse of `toIndices`. */
export function toPicture(grid: Grid, plane: Plane, index: Vec3): readonly [number, number] {
  const steps = stepsMm(grid);
  const place = (axis: Axis, flip: boolean): number =>
    ((flip ? grid.shape[axis] - 1 - index[axis] : index[axis]) + 0.5) * steps[axis];
  return [place(plane.across, plane.flipAcross), place(plane.down, plane.flipDown)];
}

/** Array index at a place of the picture, mm; along the normal that of `index`. */
export function toIndices(grid: Grid, plane: Plane, pictureMm: readonly [number, number], index: Vec3): Vec3 {
  const steps = stepsMm(grid);
  const found: [number, number, number] = [index[0], index[1], index[2]];
  const place = (axis: Axis, flip: boolean, mm: number): void => {
    const voxel = mm / steps[axis] - 0.5;
    found[axis] = flip ? grid.shape[axis] - 1 - voxel : voxel;
  };
  place(plane.across, plane.flipAcross, pictureMm[0]);
  place(plane.down, plane.flipDown, pictureMm[1]);
  return found;
}

/** Place in the picture, mm, of a pixel of the pane; y runs down. */
export function pixelToPicture(view: PaneView, x: number, y: number): readonly [number, number] {
  return [
    view.centreMm[0] + (x - view.width / 2) / view.pixelsPerMm,
    view.centreMm[1] + (y - view.height / 2) / view.pixelsPerMm,
  ];
}

/** Pixel of the pane at a place of the picture; the inverse of `pixelToPicture`. */
export function pictureToPixel(view: PaneView, pictureMm: readonly [number, number]): readonly [number, number] {
  return [
    view.width / 2 + (pictureMm[0] - view.centreMm[0]) * view.pixelsPerMm,
    view.height / 2 + (pictureMm[1] - view.centreMm[1]) * view.pixelsPerMm,
  ];
}
