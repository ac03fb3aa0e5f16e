/** Colour scales of the uncertainty and of differences; the legend and the shader take them from here. */

export type Rgb = readonly [number, number, number];

export type ScaleName = 'deviation' | 'difference';

/**
 * Anchors at equal distances, 0 to 255. The uncertainty runs from dark to bright (inferno-like), differences from blue
 * (lower) over dark to orange (higher): pairs that people with any colour vision keep apart.
 */
const ANCHORS: Readonly<Record<ScaleName, readonly Rgb[]>> = {
  deviation: [
    [0, 0, 4],
    [40, 11, 84],
    [101, 21, 110],
    [159, 42, 99],
    [212, 72, 66],
    [245, 125, 21],
    [250, 193, 39],
    [252, 255, 164],
  ],
  difference: [
    [160, 220, 255],
    [60, 150, 240],
    [20, 70, 160],
    [24, 24, 28],
    [160, 70, 10],
    [240, 140, 30],
    [255, 220, 140],
  ],
};

/** Colour at a share of the scale, 0 to 1; 0.5 is no difference. */
export function colourAt(scale: ScaleName, share: number): Rgb {
  const anchors = ANCHORS[scale];
  const place = Math.min(Math.max(share, 0), 1) * (anchors.length - 1);
  const low = Math.min(Math.floor(place), anchors.length - 2);
  const mix = (channel: 0 | 1 | 2): number =>
    Math.round(anchors[low][channel] * (1 - place + low) + anchors[low + 1][channel] * (place - low));
  return [mix(0), mix(1), mix(2)];
}

/** Share of the scale at a value: of [0, most] for the uncertainty, of [-most, most] for differences. */
export function scaleShare(scale: ScaleName, valueHu: number, mostHu: number): number {
  const share = scale === 'deviation' ? valueHu / mostHu : 0.5 + (0.5 * valueHu) / mostHu;
  return Math.min(Math.max(share, 0), 1);
}

/** Values that the legend names: both ends and the middle. */
export function legendTicksHu(scale: ScaleName, mostHu: number): readonly number[] {
  return scale === 'deviation' ? [0, mostHu / 2, mostHu] : [-mostHu, 0, mostHu];
}

/** Width of the table below, colours. */
export const TABLE_WIDTH = 256;

/** Both scales as (2, 256, RGBA) bytes: the deviation first. */
export function colourTable(): Uint8Array {
  const table = new Uint8Array(2 * TABLE_WIDTH * 4);
  (['deviation', 'difference'] as const).forEach((scale, row) => {
    for (let i = 0; i < TABLE_WIDTH; i++) {
      table.set([...colourAt(scale, i / (TABLE_WIDTH - 1)), 255], (row * TABLE_WIDTH + i) * 4);
    }
  });
  return table;
}

/** CSS gradient of a scale from left to right. */
export function gradient(scale: ScaleName): string {
  const steps = Array.from({ length: 13 }, (_, i) => `rgb(${colourAt(scale, i / 12).join(',')})`);
  return `linear-gradient(to right, ${steps.join(', ')})`;
}
