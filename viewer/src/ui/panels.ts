/** Dialogs (keys, facts) and the legend of the colour scales. */

import { gradient, legendTicksHu, type ScaleName } from '../core/colours';
import { written } from '../core/measure';
import type { Controller } from './controller';
import { button, make } from './dom';
import { KEY_GROUPS } from './keys';
import type { ViewState } from './state';

/** A modal dialog with a title and a button that closes it; Escape does too. */
export function makeDialog(title: string, ...content: Node[]): HTMLDialogElement {
  const id = `ts-${title.toLowerCase().replace(/[^a-z]+/g, '-')}-${Math.random().toString(36).slice(2, 8)}`;
  const close = button('Close', {}, () => {
    dialog.close();
  });
  const head = make('div', { class: 'ts-dialog-head' }, make('h2', { id }, title), close);
  const dialog = make('dialog', { class: 'ts-dialog', 'aria-labelledby': id }, head, ...content);
  return dialog;
}

/** A table of two columns; the first one names. */
export function makeTable(caption: string, rows: readonly (readonly [string, string])[]): HTMLTableElement {
  const lines = rows.map(([name, value]) => make('tr', {}, make('th', { scope: 'row' }, name), make('td', {}, value)));
  return make('table', {}, make('caption', {}, caption), make('tbody', {}, ...lines));
}

/** The help panel: every key, from the table that the keyboard uses. */
export function makeHelp(): HTMLDialogElement {
  const tables = KEY_GROUPS.map((group) =>
    makeTable(
      group.name,
      group.bindings.map((binding) => [binding.shown, binding.does] as const),
    ),
  );
  const pointer = makeTable('Mouse and fingers', [
    ['Wheel, one finger up or down', 'slices'],
    ['Ctrl + wheel, pinch', 'zoom'],
    ['Right button', 'window: right is wider, down is brighter'],
    ['Middle button, two fingers', 'move the picture'],
    ['Double click', 'this plane alone, or all planes'],
  ]);
  return makeDialog('Keys', make('div', { class: 'ts-columns' }, ...tables, pointer));
}

/** Legend of the scales that are visible, with a field for their ends. */
export class Legend {
  readonly element = make('div', { class: 'ts-legend' });
  private readonly parts: Readonly<
    Record<ScaleName, { box: HTMLElement; ticks: HTMLElement; field: HTMLInputElement }>
  >;

  constructor(controller: Controller) {
    const part = (scale: ScaleName): { box: HTMLElement; ticks: HTMLElement; field: HTMLInputElement } => {
      const isDeviation = scale === 'deviation';
      const name = isDeviation ? 'Uncertainty (one standard deviation), HU' : 'Thin \u2212 cubic, HU';
      const bar = make('div', { class: 'ts-scale' });
      bar.style.background = gradient(scale);
      const ticks = make('div', { class: 'ts-ticks' });
      const field = make('input', { type: 'number', min: '1', max: '4000', 'aria-label': `End of the scale: ${name}` });
      field.addEventListener('change', () => {
        if (!Number.isFinite(field.valueAsNumber)) return;
        controller.set({ [isDeviation ? 'mostDeviationHu' : 'mostDifferenceHu']: field.valueAsNumber });
      });
      const end = make('label', { class: 'ts-number' }, 'End', field);
      const shown = make('div', {}, bar, ticks);
      const box = make('div', { class: 'ts-legend-part' }, make('span', {}, name), shown, end);
      this.element.append(box);
      return { box, ticks, field };
    };
    this.parts = { difference: part('difference'), deviation: part('deviation') };
  }

  update(state: ViewState): void {
    const modes = state.compare === 'one' ? [state.showsB ? state.b : state.a] : [state.a, state.b];
    for (const scale of ['difference', 'deviation'] as const) {
      const { box, ticks, field } = this.parts[scale];
      const most = scale === 'deviation' ? state.mostDeviationHu : state.mostDifferenceHu;
      box.hidden = state.overlay !== scale && !modes.includes(scale);
      ticks.replaceChildren(
        ...legendTicksHu(scale, most).map((tick) => make('span', {}, written(tick, most < 10 ? 1 : 0))),
      );
      if (document.activeElement !== field) field.value = String(most);
    }
  }
}
