/** The profile across the slices at the crosshair: thick, cubic and thin over the depth. */

import { stepsMm, type Grid } from '../core/geometry';
import { niceTicks, profileDepthsMm, written } from '../core/measure';
import type { Mode } from '../core/sampling';
import { make, makeSvg, setAttributes } from './dom';
import { MODE_NAMES } from './state';

/** Values of a mode at every thin slice; NaN where there is none. */
export interface ProfileLine {
  readonly mode: Mode;
  readonly values: Float32Array;
}

const MARGIN = { left: 52, right: 12, top: 8, bottom: 30 } as const;

/** A panel with the plot and, for readers of the page, the values at the crosshair in words. */
export class ProfilePanel {
  readonly element: HTMLElement;
  private readonly plot = makeSvg('svg', { class: 'ts-plot', role: 'img' });
  private readonly key = make('div', { class: 'ts-plot-key' });

  constructor(private readonly grid: Grid) {
    this.element = make(
      'section',
      { class: 'ts-profile', 'aria-label': 'Profile across the slices' },
      this.key,
      this.plot,
    );
  }

  /** Draw the lines; `slice` is that of the crosshair. */
  update(lines: readonly ProfileLine[], slice: number): void {
    const [width, height] = [this.plot.clientWidth || 600, this.plot.clientHeight || 130];
    const depths = profileDepthsMm(this.grid);
    const known = lines.flatMap((line) => [...line.values]).filter((value) => !Number.isNaN(value));
    const least = known.reduce((a, b) => Math.min(a, b), Infinity);
    const most = known.reduce((a, b) => Math.max(a, b), -Infinity);
    const [low, high] = known.length === 0 ? [0, 1] : [least, Math.max(most, least + 1)];
    const span = Math.max(depths[depths.length - 1], stepsMm(this.grid)[0]);
    const x = (mm: number): number => MARGIN.left + (mm / span) * (width - MARGIN.left - MARGIN.right);
    const y = (hu: number): number =>
      height - MARGIN.bottom - ((hu - low) / (high - low)) * (height - MARGIN.top - MARGIN.bottom);
    const shapes: SVGElement[] = [];
    const label = (text: string, attributes: Record<string, string>): SVGElement => {
      const element = makeSvg('text', attributes);
      element.textContent = text;
      return element;
    };
    for (const tick of niceTicks(low, high)) {
      shapes.push(
        makeSvg('path', { class: 'ts-grid', d: `M${MARGIN.left} ${y(tick)}H${width - MARGIN.right}` }),
        label(written(tick), {
          class: 'ts-tick',
          x: String(MARGIN.left - 6),
          y: String(y(tick) + 4),
          'text-anchor': 'end',
        }),
      );
    }
    for (const tick of niceTicks(0, span, 8)) {
      shapes.push(
        label(written(tick, tick % 1 === 0 ? 0 : 1), {
          class: 'ts-tick',
          x: String(x(tick)),
          y: String(height - MARGIN.bottom + 14),
          'text-anchor': 'middle',
        }),
      );
    }
    shapes.push(
      label('HU', { class: 'ts-tick', x: '4', y: '14' }),
      label('mm from the first slice', {
        class: 'ts-tick',
        x: String((MARGIN.left + width) / 2),
        y: String(height - 3),
        'text-anchor': 'middle',
      }),
      makeSvg('path', { class: 'ts-here', d: `M${x(depths[slice])} ${MARGIN.top}V${height - MARGIN.bottom}` }),
    );
    for (const line of lines) {
      shapes.push(makeSvg('path', { class: `ts-curve ts-curve-${line.mode}`, d: curve(line, depths, x, y) }));
    }
    setAttributes(this.plot, { viewBox: `0 0 ${width} ${height}` });
    const values = lines
      .filter((line) => !Number.isNaN(line.values[slice]))
      .map((line) => `${MODE_NAMES[line.mode]} ${written(line.values[slice])} HU`);
    setAttributes(this.plot, { 'aria-label': `Profile across the slices. At the crosshair: ${values.join(', ')}.` });
    this.plot.replaceChildren(...shapes);
    this.key.replaceChildren(
      ...lines.map((line) => make('span', { class: `ts-key ts-key-${line.mode}` }, MODE_NAMES[line.mode])),
    );
  }
}

/** A path through the values; the thick one in steps, each slice as thick as its distance. */
function curve(
  line: ProfileLine,
  depths: readonly number[],
  x: (mm: number) => number,
  y: (hu: number) => number,
): string {
  const half = depths.length > 1 ? (depths[1] - depths[0]) / 2 : 0.5;
  let path = '';
  let pen = 'M';
  line.values.forEach((value, slice) => {
    if (Number.isNaN(value)) {
      pen = 'M';
      return;
    }
    if (line.mode === 'thick') {
      const [from, to] = [Math.max(depths[slice] - half, 0), Math.min(depths[slice] + half, depths[depths.length - 1])];
      path += `${pen}${x(from).toFixed(1)} ${y(value).toFixed(1)}L${x(to).toFixed(1)} ${y(value).toFixed(1)}`;
    } else {
      path += `${pen}${x(depths[slice]).toFixed(1)} ${y(value).toFixed(1)}`;
    }
    pen = 'L';
  });
  return path;
}
