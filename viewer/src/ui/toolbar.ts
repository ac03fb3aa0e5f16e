/** The toolbar: every choice as a labelled control, kept in step with the state. */

import { PLANE_NAMES } from '../core/planes';
import { PRESETS, presetName } from '../core/windowing';
import type { Controller } from './controller';
import { button, make, setAttributes } from './dom';
import { MODE_NAMES, type Compare, type Overlay, type Slab, type Tool, type ViewState } from './state';

/** A row of controls, and how they follow the state. */
export interface Toolbar {
  readonly element: HTMLElement;
  update(state: ViewState): void;
}

type Update = (state: ViewState) => void;

const COMPARE: readonly (readonly [Compare, string, string])[] = [
  ['one', 'One', 'One picture (O)'],
  ['side', 'Side by side', 'A and B side by side (V)'],
  ['swipe', 'Swipe', 'Swipe between A and B (S)'],
  ['blink', 'Blink', 'Blink between A and B (N)'],
];

const TOOLS: readonly (readonly [Tool, string, string])[] = [
  ['crosshair', 'Crosshair', 'Drag moves the crosshair (C)'],
  ['window', 'Window', 'Drag changes the window (W); the right button always does'],
  ['pan', 'Move', 'Drag moves the picture (T); the middle button always does'],
  ['measure', 'Measure', 'Drag measures a distance (D)'],
];

const SLABS: readonly (readonly [Slab, string])[] = [
  ['none', 'No slab'],
  ['mean', 'Mean'],
  ['maximum', 'MIP'],
];

/** What the toolbar runs that is no change of the state. */
export interface ToolbarActions {
  readonly toggleFullScreen: () => void;
  readonly showHelp: () => void;
  readonly showFacts: () => void;
}

/** Build the toolbar. */
export function makeToolbar(controller: Controller, actions: ToolbarActions): Toolbar {
  const updates: Update[] = [];

  const select = <T extends string>(
    label: string,
    choices: readonly (readonly [T, string])[],
    value: (state: ViewState) => T | null,
    choose: (value: T) => void,
  ): HTMLElement => {
    const element = make('select', { 'aria-label': label });
    for (const [name, text] of choices) element.append(make('option', { value: name }, text));
    element.addEventListener('change', () => {
      choose(element.value as T);
    });
    updates.push((state) => {
      element.value = value(state) ?? '';
    });
    return element;
  };

  const toggles = <T extends string>(
    label: string,
    choices: readonly (readonly [T, string, string])[],
    value: (state: ViewState) => T,
    choose: (value: T) => void,
  ): HTMLElement => {
    const buttons = choices.map(([name, text, title]) => {
      const element = button(text, { title, 'aria-pressed': 'false' }, () => {
        choose(name);
      });
      updates.push((state) => {
        setAttributes(element, { 'aria-pressed': String(value(state) === name) });
      });
      return element;
    });
    return make('div', { class: 'ts-group ts-toggles', role: 'group', 'aria-label': label }, ...buttons);
  };

  const number = (
    label: string,
    text: string,
    value: (state: ViewState) => number,
    choose: (value: number) => void,
    attributes: Record<string, string> = {},
  ): HTMLElement => {
    const element = make('input', { type: 'number', 'aria-label': label, title: label, ...attributes });
    element.addEventListener('change', () => {
      if (element.value !== '' && Number.isFinite(element.valueAsNumber)) choose(element.valueAsNumber);
    });
    updates.push((state) => {
      if (document.activeElement !== element || element.valueAsNumber !== value(state)) {
        element.value = String(Number(value(state).toFixed(2)));
      }
    });
    return make('label', { class: 'ts-number' }, text, element);
  };

  const group = (label: string, ...children: Node[]): HTMLElement =>
    make('div', { class: 'ts-group', role: 'group', 'aria-label': label }, ...children);

  const modes = controller.modes.map((mode) => [mode, MODE_NAMES[mode]] as const);
  const overlays: readonly (readonly [Overlay, string])[] = [
    ['none', 'No overlay'],
    ...(controller.modes.includes('difference') ? [['difference', 'Overlay: difference'] as const] : []),
    ...(controller.modes.includes('deviation') ? [['deviation', 'Overlay: uncertainty'] as const] : []),
  ];
  const profile = button('Profile', { title: 'Profile across the slices at the crosshair (P)' }, () => {
    controller.set({ showsProfile: !controller.state.showsProfile });
  });
  updates.push((state) => {
    setAttributes(profile, { 'aria-pressed': String(state.showsProfile) });
  });
  const slabMm = number(
    'Thickness of the slab, mm',
    'mm',
    (s) => s.slabMm,
    (slab) => {
      controller.set({ slabMm: slab });
    },
    { min: '0.1', max: '200', step: 'any' },
  );
  updates.push((state) => {
    slabMm.hidden = state.slab === 'none';
  });

  const element = make(
    'div',
    { class: 'ts-toolbar', role: 'toolbar', 'aria-label': 'Viewer' },
    group(
      'Pictures',
      make('span', { class: 'ts-tag', 'aria-hidden': 'true' }, 'A'),
      select(
        'Picture A',
        modes,
        (s) => s.a,
        (a) => {
          controller.set({ a });
        },
      ),
      button('\u21c4', { title: 'Exchange A and B (X)', 'aria-label': 'Exchange A and B' }, () => {
        controller.exchange();
      }),
      make('span', { class: 'ts-tag', 'aria-hidden': 'true' }, 'B'),
      select(
        'Picture B',
        modes,
        (s) => s.b,
        (b) => {
          controller.set({ b });
        },
      ),
    ),
    toggles(
      'Comparison',
      COMPARE,
      (s) => s.compare,
      (compare) => {
        controller.set({ compare });
      },
    ),
    group(
      'Window',
      select(
        'Window preset',
        [...PRESETS.map(({ name }) => [name, name] as const), ['Free', 'Free'] as const],
        (s) => presetName(s.window),
        (name) => {
          const preset = PRESETS.find((known) => known.name === name);
          if (preset !== undefined) controller.setWindow(preset.window);
        },
      ),
      number(
        'Centre of the window, HU',
        'C',
        (s) => s.window.centreHu,
        (centreHu) => {
          controller.setWindow({ ...controller.state.window, centreHu });
        },
      ),
      number(
        'Width of the window, HU',
        'W',
        (s) => s.window.widthHu,
        (widthHu) => {
          controller.setWindow({ ...controller.state.window, widthHu });
        },
        { min: '1' },
      ),
    ),
    toggles(
      'Left button',
      TOOLS,
      (s) => s.tool,
      (tool) => {
        controller.set({ tool });
      },
    ),
    group(
      'Planes and slabs',
      select(
        'Planes',
        [
          ['all', 'All planes'] as const,
          ...PLANE_NAMES.map((name) => [name, name[0].toUpperCase() + name.slice(1)] as const),
        ],
        (s) => s.planes,
        (planes) => {
          controller.set({ planes });
        },
      ),
      select(
        'Slab',
        SLABS,
        (s) => s.slab,
        (slab) => {
          controller.set({ slab });
        },
      ),
      slabMm,
      select(
        'Overlay',
        overlays,
        (s) => s.overlay,
        (overlay) => {
          controller.set({ overlay });
        },
      ),
    ),
    group(
      'Page',
      profile,
      button('Reset', { title: 'Zoom and position as at the start (R)' }, () => {
        controller.reset();
      }),
      button('About', { title: 'About these volumes' }, actions.showFacts),
      button('Full screen', { title: 'Full screen (F)' }, actions.toggleFullScreen),
      button('?', { title: 'Keys (?)', 'aria-label': 'Keys' }, actions.showHelp),
    ),
  );
  return {
    element,
    update: (state) => {
      for (const update of updates) update(state);
    },
  };
}
