/** The keyboard: one table, from which the help panel is made too. */

import type { PlaneName } from '../core/planes';
import { PRESETS } from '../core/windowing';
import type { Controller } from './controller';
import type { Compare, Tool } from './state';

/** What keys act on beyond the state. */
export interface KeyTarget {
  readonly controller: Controller;
  /** The plane of the pane that has the focus, or the first one. */
  readonly plane: PlaneName;
  /** Keys that act on a pane are left to other controls while these have the focus. */
  readonly inPane: boolean;
  toggleFullScreen(): void;
  showHelp(): void;
}

/** A key, what it does, and what the help panel states. */
export interface KeyBinding {
  /** Values of `KeyboardEvent.key`, with `Shift+` before it where it has to be held; letters in lower case. */
  readonly keys: readonly string[];
  readonly shown: string;
  readonly does: string;
  readonly paneOnly?: boolean;
  run(target: KeyTarget, key: string): void;
}

const compare =
  (value: Compare): KeyBinding['run'] =>
  ({ controller }) => {
    controller.set({ compare: value });
  };

const tool =
  (value: Tool): KeyBinding['run'] =>
  ({ controller }) => {
    controller.set({ tool: value });
  };

const windowBy =
  (centre: number, width: number): KeyBinding['run'] =>
  ({ controller }) => {
    const { centreHu, widthHu } = controller.state.window;
    const step = Math.max(1, Math.round(widthHu / 20));
    controller.setWindow({ centreHu: centreHu + centre * step, widthHu: widthHu + width * step });
  };

const SLABS = ['none', 'mean', 'maximum'] as const;
const OVERLAYS = ['none', 'difference', 'deviation'] as const;

/** The value after another in a list, from the end to the start. */
function after<T>(values: readonly T[], value: T): T {
  return values[(values.indexOf(value) + 1) % values.length];
}

export const KEY_GROUPS: readonly { readonly name: string; readonly bindings: readonly KeyBinding[] }[] = [
  {
    name: 'Move',
    bindings: [
      {
        keys: ['ArrowUp', 'ArrowDown'],
        shown: '↑ ↓',
        does: 'previous or next slice of the plane that has the focus',
        paneOnly: true,
        run: ({ controller, plane }, key) => {
          controller.scroll(plane, key === 'ArrowDown' ? 1 : -1);
        },
      },
      {
        keys: ['PageUp', 'PageDown'],
        shown: 'Page ↑ ↓',
        does: 'ten slices',
        paneOnly: true,
        run: ({ controller, plane }, key) => {
          controller.scroll(plane, key === 'PageDown' ? 10 : -10);
        },
      },
      {
        keys: ['Home', 'End'],
        shown: 'Home, End',
        does: 'first or last slice',
        paneOnly: true,
        run: ({ controller, plane }, key) => {
          controller.scrollToEnd(plane, key === 'End');
        },
      },
      {
        keys: ['Shift+ArrowUp', 'Shift+ArrowDown', 'Shift+ArrowLeft', 'Shift+ArrowRight'],
        shown: 'Shift + arrows',
        does: 'crosshair by one voxel in the plane',
        paneOnly: true,
        run: ({ controller, plane }, key) => {
          const right = key.endsWith('Right') ? 1 : key.endsWith('Left') ? -1 : 0;
          const down = key.endsWith('Down') ? 1 : key.endsWith('Up') ? -1 : 0;
          controller.moveCrosshair(plane, right, down);
        },
      },
      {
        keys: ['i', 'j', 'k', 'l'],
        shown: 'I J K L',
        does: 'move the picture up, left, down, right',
        run: ({ controller, plane }, key) => {
          const step = 20 / controller.state.zoom;
          const right = key === 'l' ? step : key === 'j' ? -step : 0;
          const down = key === 'k' ? step : key === 'i' ? -step : 0;
          controller.pan(plane, right, down);
        },
      },
      {
        keys: ['+', '=', '-'],
        shown: '+ \u2212',
        does: 'zoom about the crosshair',
        run: ({ controller, plane }, key) => {
          controller.zoomBy(key === '-' ? 1 / 1.25 : 1.25, plane);
        },
      },
      {
        keys: ['0', 'r'],
        shown: '0, R',
        does: 'zoom and position as at the start',
        run: ({ controller }) => {
          controller.reset();
        },
      },
      {
        keys: ['Enter'],
        shown: 'Enter',
        does: 'this plane alone, or all planes',
        paneOnly: true,
        run: ({ controller, plane }) => {
          controller.togglePlane(plane);
        },
      },
    ],
  },
  {
    name: 'Compare',
    bindings: [
      {
        keys: ['a'],
        shown: 'A',
        does: 'next picture for A',
        run: ({ controller }) => {
          controller.nextMode('a');
        },
      },
      {
        keys: ['b'],
        shown: 'B',
        does: 'next picture for B',
        run: ({ controller }) => {
          controller.nextMode('b');
        },
      },
      {
        keys: ['x'],
        shown: 'X',
        does: 'exchange A and B',
        run: ({ controller }) => {
          controller.exchange();
        },
      },
      { keys: ['o'], shown: 'O', does: 'one picture', run: compare('one') },
      { keys: ['v'], shown: 'V', does: 'A and B side by side', run: compare('side') },
      { keys: ['s'], shown: 'S', does: 'swipe between A and B', run: compare('swipe') },
      { keys: ['n'], shown: 'N', does: 'blink between A and B', run: compare('blink') },
      {
        keys: [' '],
        shown: 'Space',
        does: 'the other of A and B at once (one picture, blink)',
        paneOnly: true,
        run: ({ controller }) => {
          controller.set({ showsB: !controller.state.showsB });
        },
      },
      {
        keys: [',', '.'],
        shown: ', .',
        does: 'divider of the swipe to the left or right',
        run: ({ controller }, key) => {
          controller.set({ divider: controller.state.divider + (key === '.' ? 0.05 : -0.05) });
        },
      },
      {
        keys: ['u'],
        shown: 'U',
        does: 'overlay: none, difference, uncertainty',
        run: ({ controller }) => {
          let next = after(OVERLAYS, controller.state.overlay);
          while (next !== 'none' && !controller.modes.includes(next)) next = after(OVERLAYS, next);
          controller.set({ overlay: next });
        },
      },
    ],
  },
  {
    name: 'Window',
    bindings: [
      {
        keys: PRESETS.map((_, i) => String(i + 1)),
        shown: `1 to ${PRESETS.length}`,
        does: PRESETS.map((preset) => preset.name.toLowerCase()).join(', '),
        run: ({ controller }, key) => {
          controller.setWindow(PRESETS[Number(key) - 1].window);
        },
      },
      { keys: ['['], shown: '[', does: 'narrower window', run: windowBy(0, -1) },
      { keys: [']'], shown: ']', does: 'wider window', run: windowBy(0, 1) },
      { keys: ['{', 'Shift+{'], shown: '{', does: 'lower centre (brighter)', run: windowBy(-1, 0) },
      { keys: ['}', 'Shift+}'], shown: '}', does: 'higher centre (darker)', run: windowBy(1, 0) },
    ],
  },
  {
    name: 'Measure',
    bindings: [
      {
        keys: ['m'],
        shown: 'M',
        does: 'start a line at the crosshair; again: end it',
        run: ({ controller, plane }) => {
          controller.markLine(plane);
        },
      },
      {
        keys: ['Delete', 'Backspace'],
        shown: 'Delete',
        does: 'remove the newest line',
        run: ({ controller }) => {
          controller.removeLine();
        },
      },
      {
        keys: ['p'],
        shown: 'P',
        does: 'profile across the slices at the crosshair',
        run: ({ controller }) => {
          controller.set({ showsProfile: !controller.state.showsProfile });
        },
      },
      {
        keys: ['g'],
        shown: 'G',
        does: 'slab: off, mean, maximum (MIP)',
        run: ({ controller }) => {
          controller.set({ slab: after(SLABS, controller.state.slab) });
        },
      },
      {
        keys: ['h'],
        shown: 'H',
        does: 'show or hide the crosshair',
        run: ({ controller }) => {
          controller.set({ showsCrosshair: !controller.state.showsCrosshair });
        },
      },
    ],
  },
  {
    name: 'Drag with the left button or one finger',
    bindings: [
      { keys: ['c'], shown: 'C', does: 'crosshair (one finger: slices)', run: tool('crosshair') },
      { keys: ['w'], shown: 'W', does: 'window (or the right button)', run: tool('window') },
      { keys: ['t'], shown: 'T', does: 'move the picture (or the middle button)', run: tool('pan') },
      { keys: ['d'], shown: 'D', does: 'measure a distance', run: tool('measure') },
    ],
  },
  {
    name: 'Page',
    bindings: [
      {
        keys: ['f'],
        shown: 'F',
        does: 'full screen',
        run: (target) => {
          target.toggleFullScreen();
        },
      },
      {
        keys: ['?', 'Shift+?'],
        shown: '?',
        does: 'this panel',
        run: (target) => {
          target.showHelp();
        },
      },
    ],
  },
];

/** The binding of a key event, or undefined: keys with Ctrl, Alt or Meta belong to the browser. */
export function bindingOf(
  event: Pick<KeyboardEvent, 'key' | 'shiftKey' | 'ctrlKey' | 'altKey' | 'metaKey'>,
  inPane: boolean,
): KeyBinding | undefined {
  if (event.ctrlKey || event.altKey || event.metaKey) return undefined;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const isArrow = key.startsWith('Arrow');
  const wanted = event.shiftKey && (isArrow || key.length === 1) ? [`Shift+${key}`, ...(isArrow ? [] : [key])] : [key];
  return KEY_GROUPS.flatMap((group) => group.bindings).find(
    (binding) => (inPane || binding.paneOnly !== true) && binding.keys.some((known) => wanted.includes(known)),
  );
}
