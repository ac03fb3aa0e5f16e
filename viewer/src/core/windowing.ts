/** Display windows: which HU are black and which are white. */

/** A display window. */
export interface WindowHu {
  readonly centreHu: number;
  readonly widthHu: number;
}

/** Presets that radiologists use; the digit keys choose them in this order. */
export const PRESETS: readonly { readonly name: string; readonly window: WindowHu }[] = [
  { name: 'Lung', window: { centreHu: -600, widthHu: 1500 } },
  { name: 'Soft tissue', window: { centreHu: 40, widthHu: 400 } },
  { name: 'Bone', window: { centreHu: 400, widthHu: 1800 } },
  { name: 'Brain', window: { centreHu: 40, widthHu: 80 } },
];

/** A window with a width of at least 1 HU and whole numbers. */
export function roundedWindow(window: WindowHu): WindowHu {
  const bound = (value: number, low: number, high: number): number => Math.min(Math.max(Math.round(value), low), high);
  return { centreHu: bound(window.centreHu, -32768, 32767), widthHu: bound(window.widthHu, 1, 65535) };
}

/** Brightness of HU in [0, 1]: 0 at the lower border of the window, 1 at the upper. */
export function brightness(hu: number, window: WindowHu): number {
  return Math.min(Math.max((hu - window.centreHu) / window.widthHu + 0.5, 0), 1);
}

/**
 * Window after a drag: to the right is wider (less contrast), down is brighter (a lower centre is brighter).
 *
 * The step grows with the width, so that a narrow window can be set finely: 100 pixels change the width by half.
 */
export function draggedWindow(start: WindowHu, pixelsRight: number, pixelsDown: number): WindowHu {
  const step = Math.max(start.widthHu, 20) / 200;
  return roundedWindow({
    centreHu: start.centreHu - pixelsDown * step,
    widthHu: start.widthHu + pixelsRight * step,
  });
}

/** Name of the preset that a window is, or 'Free'. */
export function presetName(window: WindowHu): string {
  const found = PRESETS.find(
    (preset) => preset.window.centreHu === window.centreHu && preset.window.widthHu === window.widthHu,
  );
  return found?.name ?? 'Free';
}
