/** One pane: what stands over the picture (letters, crosshair, lines, divider), and its place in the order of focus. */

import type { Vec3 } from '../core/geometry';
import { written } from '../core/measure';
import {
  extentMm,
  fitScale,
  pictureToPixel,
  pixelToPicture,
  sidesOf,
  toIndices,
  toPicture,
  type PaneView,
  type Plane,
} from '../core/planes';
import type { Controller } from './controller';
import { make, makeSvg, setAttributes } from './dom';
import { GAP, type PaneKey, type PanePlace } from './layout';
import { MODE_NAMES, type ViewState } from './state';

/** Lengths that a scale bar may have, mm. */
const BARS_MM = [1, 2, 5, 10, 20, 50, 100, 200] as const;

/** Half of the gap in the crosshair, pixels: what lies at its centre stays visible. */
const CROSSHAIR_GAP = 12;

const capital = (word: string): string => word[0].toUpperCase() + word.slice(1);

/** A pane over the canvas. */
export class Pane {
  readonly element: HTMLDivElement;
  readonly divider: HTMLDivElement;
  place: PanePlace;
  private readonly plane: Plane;
  private readonly lines = makeSvg('svg', { class: 'ts-lines', 'aria-hidden': 'true' });
  private readonly title = make('div', { class: 'ts-corner ts-top' });
  private readonly window = make('div', { class: 'ts-corner ts-bottom' });
  private readonly left = make('div', { class: 'ts-mode ts-mode-left' });
  private readonly right = make('div', { class: 'ts-mode ts-mode-right' });

  constructor(
    readonly key: PaneKey,
    private readonly controller: Controller,
  ) {
    this.plane = controller.planes[key.plane];
    this.place = { ...key, x: 0, y: 0, width: 1, height: 1 };
    this.divider = make('div', {
      class: 'ts-divider',
      role: 'slider',
      tabindex: '0',
      'aria-label': `Divider of the swipe, ${key.plane}`,
      'aria-valuemin': '0',
      'aria-valuemax': '100',
      'aria-orientation': 'horizontal',
    });
    const sides = sidesOf(controller.grid, this.plane);
    const letters = (['left', 'right', 'top', 'bottom'] as const).map((side) =>
      make('div', { class: `ts-letter ts-letter-${side}` }, sides[side]),
    );
    this.element = make(
      'div',
      { class: 'ts-pane', tabindex: '0', role: 'application', 'aria-roledescription': 'picture of slices' },
      this.lines,
      ...letters,
      this.title,
      this.window,
      this.left,
      this.right,
      this.divider,
    );
  }

  /** The view of the plane for a pane of `width` x `height` pixels. */
  view(state: ViewState, width = this.place.width, height = this.place.height): PaneView {
    const extent = extentMm(this.controller.grid, this.plane);
    const [x, y] = state.pan[this.key.plane];
    return {
      width,
      height,
      pixelsPerMm: fitScale(this.controller.grid, this.plane, width, height) * state.zoom,
      centreMm: [extent[0] / 2 + x, extent[1] / 2 + y],
    };
  }

  /** Place in the picture, mm, of a point of the page. */
  pictureAt(clientX: number, clientY: number): readonly [number, number] {
    const box = this.element.getBoundingClientRect();
    return pixelToPicture(this.view(this.controller.state), clientX - box.left, clientY - box.top);
  }

  /** Index on the thin grid of a point of the page. */
  indexAt(clientX: number, clientY: number): Vec3 {
    const picture = this.pictureAt(clientX, clientY);
    return toIndices(this.controller.grid, this.plane, picture, this.controller.state.index);
  }

  /** The pane's share of the state: what is left and right of the divider. */
  shown(state: ViewState): { left: ViewState['a']; right: ViewState['a']; divider: number } {
    if (this.key.side !== 'both') return { left: state[this.key.side], right: state[this.key.side], divider: 1 };
    if (state.compare === 'swipe') return { left: state.a, right: state.b, divider: state.divider };
    const one = state.showsB ? state.b : state.a;
    return { left: one, right: one, divider: 1 };
  }

  /** Bring everything over the picture up to date. */
  update(place: PanePlace, provisional: { from: Vec3; to: Vec3 } | null): void {
    const { state, grid } = this.controller;
    this.place = place;
    Object.assign(this.element.style, {
      left: `${place.x}px`,
      top: `${place.y}px`,
      width: `${place.width}px`,
      height: `${place.height}px`,
    });
    const { left, right } = this.shown(state);
    const swipes = this.key.side === 'both' && state.compare === 'swipe';
    const { normal } = this.plane;
    const slice = state.index[normal] + 1;
    const oblique = this.plane.obliqueDegrees >= 1 ? ` (${this.plane.obliqueDegrees.toFixed(0)}\u00b0 oblique)` : '';
    this.title.textContent = `${capital(this.key.plane)}${oblique}  ${slice} / ${grid.shape[normal]}`;
    const slab =
      state.slab === 'none' ? '' : `  ${state.slab === 'mean' ? 'mean' : 'MIP'} ${written(state.slabMm, 1)} mm`;
    this.window.textContent = `C ${written(state.window.centreHu)}  W ${written(state.window.widthHu)}${slab}`;
    this.left.textContent = MODE_NAMES[left];
    this.right.textContent = swipes ? MODE_NAMES[right] : '';
    this.right.hidden = !swipes;
    setAttributes(this.element, {
      'aria-label':
        `${capital(this.key.plane)}, ${MODE_NAMES[left]}${swipes ? ` left, ${MODE_NAMES[right]} right of the divider` : ''}, ` +
        `slice ${slice} of ${grid.shape[normal]}. Arrow keys change the slice; ? lists all keys.`,
    });
    const at = Math.round(state.divider * place.width);
    this.divider.hidden = !swipes;
    this.divider.style.left = `${at}px`;
    setAttributes(this.divider, {
      'aria-valuenow': String(Math.round(state.divider * 100)),
      'aria-valuetext': `${MODE_NAMES[left]} over ${Math.round(state.divider * 100)} percent`,
    });
    // Each name stands in its half, and none where its half is too narrow.
    this.left.hidden = swipes && at < 60;
    this.left.style.maxWidth = swipes ? `${Math.max(at - 16, 0)}px` : '';
    this.right.hidden = !swipes || place.width - at < 60;
    this.right.style.maxWidth = `${Math.max(place.width - at - 16, 0)}px`;
    this.draw(state, provisional);
  }

  private draw(state: ViewState, provisional: { from: Vec3; to: Vec3 } | null): void {
    const { grid } = this.controller;
    const { width, height } = this.place;
    const view = this.view(state);
    const toPixel = (index: Vec3): readonly [number, number] =>
      pictureToPixel(view, toPicture(grid, this.plane, index));
    const shapes: SVGElement[] = [];
    if (state.showsCrosshair) {
      const [x, y] = toPixel(state.index);
      const gap = CROSSHAIR_GAP;
      shapes.push(
        makeSvg('path', {
          class: 'ts-crosshair',
          d: `M0 ${y}H${x - gap}M${x + gap} ${y}H${width}M${x} 0V${y - gap}M${x} ${y + gap}V${height}`,
        }),
      );
    }
    const { normal } = this.plane;
    const lines = state.lines.filter(
      (line) => line.plane === this.key.plane && Math.round(line.from[normal]) === state.index[normal],
    );
    for (const line of provisional === null ? lines : [...lines, provisional]) {
      const [x0, y0] = toPixel(line.from);
      const [x1, y1] = toPixel(line.to);
      const text = makeSvg('text', {
        class: 'ts-length',
        x: String(Math.max(x0, x1) + 8),
        y: String((y0 + y1) / 2 + 4),
      });
      text.textContent = this.controller.distanceText(line);
      shapes.push(
        makeSvg('path', { class: 'ts-line-under', d: `M${x0} ${y0}L${x1} ${y1}` }),
        makeSvg('path', { class: 'ts-line', d: `M${x0} ${y0}L${x1} ${y1}` }),
        ...[
          [x0, y0],
          [x1, y1],
        ].map(([x, y]) => makeSvg('circle', { class: 'ts-line', cx: String(x), cy: String(y), r: '3' })),
        text,
      );
    }
    shapes.push(...this.scaleBar(view));
    setAttributes(this.lines, { viewBox: `0 0 ${width} ${height}` });
    this.lines.replaceChildren(...shapes);
  }

  /** The longest round length that takes at most a third of the pane; none where distances are unknown. */
  private scaleBar(view: PaneView): readonly SVGElement[] {
    const { grid } = this.controller;
    if (grid.spacingMm[1] === null || grid.spacingMm[2] === null) return [];
    const longest = BARS_MM.filter((mm) => mm * view.pixelsPerMm <= view.width / 3).at(-1);
    if (longest === undefined || view.height < 90) return [];
    const [right, y] = [view.width - 12, view.height - 14];
    const left = right - longest * view.pixelsPerMm;
    const text = makeSvg('text', { class: 'ts-bar-text', x: String((left + right) / 2), y: String(y - 6) });
    text.textContent = longest % 10 === 0 && longest >= 10 ? `${longest / 10} cm` : `${longest} mm`;
    return [makeSvg('path', { class: 'ts-bar', d: `M${left} ${y - 4}V${y}H${right}V${y - 4}` }), text];
  }
}

/** A pane's rectangle on the canvas, device pixels; y runs up. */
export function canvasRectangle(
  place: PanePlace,
  stageHeight: number,
  ratio: number,
): { x: number; y: number; width: number; height: number } {
  const [left, top] = [place.x, place.y].map((value) => Math.round(value * ratio));
  const [right, bottom] = [place.x + place.width, place.y + place.height].map((value) => Math.round(value * ratio));
  return {
    x: left,
    y: Math.round(stageHeight * ratio) - bottom,
    width: Math.max(right - left, GAP),
    height: Math.max(bottom - top, GAP),
  };
}
