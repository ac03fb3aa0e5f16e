import { describe, expect, test } from 'vitest';
import type { Grid } from '../src/core/geometry';
import { Controller } from '../src/ui/controller';
import { bindingOf, KEY_GROUPS } from '../src/ui/keys';
import { arrange, GAP } from '../src/ui/layout';
import { initialState } from '../src/ui/state';

const GRID: Grid = {
  shape: [21, 40, 50],
  spacingMm: [1, 0.5, 0.5],
  originMm: [0, 0, 0],
  direction: [
    [0, 0, 1],
    [0, 1, 0],
    [1, 0, 0],
  ],
};

function controllerOf(grid = GRID): { controller: Controller; sentences: string[] } {
  const sentences: string[] = [];
  const modes = ['thick', 'linear', 'cubic', 'thin', 'difference'] as const;
  const controller = new Controller(
    grid,
    modes,
    initialState(grid, true),
    () => undefined,
    (sentence) => sentences.push(sentence),
  );
  return { controller, sentences };
}

const key = (name: string, shiftKey = false): Parameters<typeof bindingOf>[0] => ({
  key: name,
  shiftKey,
  ctrlKey: false,
  altKey: false,
  metaKey: false,
});

describe('panes', () => {
  test.each([
    [1400, 700],
    [700, 1000],
  ])('cover the stage of %i x %i without overlap', (width, height) => {
    for (const compare of ['swipe', 'side'] as const) {
      for (const planes of ['all', 'coronal'] as const) {
        const places = arrange({ planes, compare }, width, height);
        const gaps = places.length - 1;
        const area = places.reduce((sum, place) => sum + place.width * place.height, 0);
        expect(area).toBeGreaterThan(width * height - (gaps + 1) * GAP * Math.max(width, height));
        for (const place of places) {
          expect(place.x + place.width).toBeLessThanOrEqual(width);
          expect(place.y + place.height).toBeLessThanOrEqual(height);
          for (const other of places) {
            if (other === place) continue;
            const apart =
              place.x + place.width <= other.x ||
              other.x + other.width <= place.x ||
              place.y + place.height <= other.y ||
              other.y + other.height <= place.y;
            expect(apart).toBe(true);
          }
        }
      }
    }
  });

  test('side by side is left and right on a wide screen', () => {
    const [a, b] = arrange({ planes: 'axial', compare: 'side' }, 1000, 500);
    expect([a.side, b.side, a.y === b.y, a.x < b.x]).toEqual(['a', 'b', true, true]);
  });
});

describe('what the user does', () => {
  test('on is towards the feet, the back and the left', () => {
    const { controller } = controllerOf();
    const [depth, height, width] = controller.state.index;
    controller.scroll('axial', 2);
    controller.scroll('coronal', 3);
    controller.scroll('sagittal', 4);
    expect(controller.state.index).toEqual([depth - 2, height + 3, width + 4]);
  });

  test('scrolling ends at the borders', () => {
    const { controller } = controllerOf();
    controller.scrollToEnd('axial', true);
    expect(controller.state.index[0]).toBe(0);
    controller.scrollToEnd('axial', false);
    expect(controller.state.index[0]).toBe(20);
  });

  test('the crosshair goes to the nearest voxel', () => {
    const { controller } = controllerOf();
    controller.placeCrosshair('axial', [3.3, 1.1]);
    expect(controller.state.index).toEqual([10, 2, 6]);
  });

  test('a zoom keeps the place that it is about', () => {
    const { controller } = controllerOf();
    controller.zoomBy(2, 'axial', [5, 5]);
    const [x, y] = controller.state.pan.axial;
    // The plane is 25 x 20 mm: its middle was 7.5 and 5 mm from the place, and is half of that now.
    expect([x + 12.5 - 5, y + 10 - 5]).toEqual([3.75, 2.5]);
    expect(controller.state.zoom).toBe(2);
  });

  test('a mode that the volumes lack is not taken', () => {
    const { controller } = controllerOf();
    controller.set({ a: 'deviation', overlay: 'deviation' });
    expect([controller.state.a, controller.state.overlay]).toEqual(['thick', 'none']);
  });

  test('a line by the keyboard is announced with its length', () => {
    const { controller, sentences } = controllerOf();
    controller.markLine('axial');
    controller.moveCrosshair('axial', 6, 0);
    controller.markLine('axial');
    expect(controller.state.lines).toHaveLength(1);
    expect(sentences.at(-1)).toBe('Distance 3.0 mm.');
    controller.removeLine();
    expect(controller.state.lines).toHaveLength(0);
  });

  test('no distance is stated where the pixel spacing is unknown', () => {
    const { controller } = controllerOf({ ...GRID, spacingMm: [1, null, null] });
    expect(controller.distanceText({ from: [0, 0, 0], to: [0, 3, 0] })).toContain('unknown');
  });
});

describe('the keyboard', () => {
  test('no key has two meanings', () => {
    const keys = KEY_GROUPS.flatMap((group) => group.bindings).flatMap((binding) => binding.keys);
    expect(new Set(keys).size).toBe(keys.length);
  });

  test('keys of panes are left to other controls', () => {
    expect(bindingOf(key('ArrowDown'), false)).toBeUndefined();
    expect(bindingOf(key('ArrowDown'), true)?.does).toContain('slice');
    expect(bindingOf(key(' '), false)).toBeUndefined();
  });

  test('Shift tells arrows apart, and letters and signs work with and without it', () => {
    expect(bindingOf(key('ArrowLeft', true), true)?.does).toContain('crosshair');
    expect(bindingOf(key('S', true), false)?.does).toContain('swipe');
    expect(bindingOf(key('?', true), false)?.does).toContain('panel');
    expect(bindingOf(key('+', true), false)?.does).toContain('zoom');
  });

  test('keys of the browser stay its own', () => {
    expect(bindingOf({ ...key('r'), ctrlKey: true }, true)).toBeUndefined();
  });
});
