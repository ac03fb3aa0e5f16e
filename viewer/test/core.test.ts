import { describe, expect, test } from 'vitest';
import { Arrival } from '../src/core/arrival';
import { colourAt, colourTable, legendTicksHu, scaleShare, TABLE_WIDTH } from '../src/core/colours';
import { checkGrid, depthMap, GridError, positionOf, type Grid, type Vec3 } from '../src/core/geometry';
import { lengthMm, niceTicks, positionText, slabSteps, written } from '../src/core/measure';
import { unpackVoxels } from '../src/core/packing';
import {
  fitScale,
  pictureToPixel,
  pixelToPicture,
  planesOf,
  sideLetters,
  sidesOf,
  toIndices,
  toPicture,
} from '../src/core/planes';
import { chooseReduction, reducedGrid, reduceSlab, textureBytes } from '../src/core/reduction';
import { moments, splineValue } from '../src/core/spline';
import { brightness, draggedWindow, presetName, PRESETS, roundedWindow } from '../src/core/windowing';

const AXIAL: Grid = {
  shape: [4, 3, 2],
  spacingMm: [5, 0.5, 0.8],
  originMm: [10, 20, 30],
  direction: [
    [0, 0, 1],
    [0, 1, 0],
    [1, 0, 0],
  ],
};

/** An axial scan from head to feet, rows from back to front, columns to the right. */
const TURNED: Grid = {
  ...AXIAL,
  direction: [
    [0, 0, -1],
    [0, -1, 0],
    [-1, 0, 0],
  ],
};

/** Sagittal slices to the left, rows towards the feet, columns towards the back. */
const SAGITTAL: Grid = {
  ...AXIAL,
  direction: [
    [1, 0, 0],
    [0, 0, 1],
    [0, -1, 0],
  ],
};

describe('grids', () => {
  test('a position goes along width, height and depth', () => {
    expect(positionOf(AXIAL, [1, 2, 1])).toEqual([10.8, 21, 35]);
  });

  test('thin slices lie by origin and spacing', () => {
    const thin: Grid = { ...AXIAL, shape: [13, 3, 2], spacingMm: [1, 0.5, 0.8], originMm: [10, 20, 32] };
    const map = depthMap(AXIAL, thin);
    expect(map.start).toBeCloseTo(0.4);
    expect(map.step).toBeCloseTo(0.2);
  });

  test.each([
    ['other rows', { shape: [13, 4, 2] as Vec3 }],
    ['another place', { originMm: [11, 20, 30] as Vec3 }],
    ['another pixel spacing', { spacingMm: [1, 0.9, 0.8] as Vec3 }],
  ])('%s are refused', (_, part) => {
    expect(() => depthMap(AXIAL, { ...AXIAL, ...part })).toThrow(GridError);
  });

  test('axes that are not orthonormal, and empty shapes, are refused', () => {
    const sheared = { ...AXIAL, direction: [[0, 0.5, 1], AXIAL.direction[1], AXIAL.direction[2]] as const };
    expect(() => {
      checkGrid(sheared);
    }).toThrow(GridError);
    expect(() => {
      checkGrid({ ...AXIAL, shape: [0, 3, 2] });
    }).toThrow(GridError);
  });
});

describe('planes', () => {
  test.each([
    ['plain', AXIAL],
    ['turned', TURNED],
    ['sagittal', SAGITTAL],
  ])('the left of an axial picture is the right of the patient, %s', (_, grid) => {
    const planes = planesOf(grid);
    expect(sidesOf(grid, planes.axial)).toEqual({ left: 'R', right: 'L', top: 'A', bottom: 'P' });
    expect(sidesOf(grid, planes.coronal)).toEqual({ left: 'R', right: 'L', top: 'H', bottom: 'F' });
    expect(sidesOf(grid, planes.sagittal)).toEqual({ left: 'A', right: 'P', top: 'H', bottom: 'F' });
  });

  test('flips follow the axes', () => {
    expect(planesOf(AXIAL).coronal).toMatchObject({
      normal: 1,
      across: 2,
      down: 0,
      flipAcross: false,
      flipDown: true,
    });
    expect(planesOf(TURNED).axial).toMatchObject({ normal: 0, across: 2, down: 1, flipAcross: true, flipDown: true });
    expect(planesOf(SAGITTAL).sagittal).toMatchObject({ normal: 0, across: 2, down: 1 });
  });

  test('an oblique axis has two letters, the nearer first', () => {
    expect(sideLetters([0.8, 0.6, 0])).toBe('LP');
    expect(sideLetters([-0.1, 0, -0.995])).toBe('F');
  });

  test('an oblique plane is named with its angle', () => {
    const [c, s] = [Math.cos(0.3), Math.sin(0.3)];
    const tilted: Grid = {
      ...AXIAL,
      direction: [
        [0, 0, 1],
        [-s, c, 0],
        [c, s, 0],
      ],
    };
    expect(planesOf(tilted).axial.obliqueDegrees).toBeCloseTo((0.3 * 180) / Math.PI);
    expect(sidesOf(tilted, planesOf(tilted).axial).bottom).toBe('PH');
  });

  test('indices, picture and pixels lead back to one another', () => {
    const index: Vec3 = [2, 0.7, 1.3];
    for (const grid of [AXIAL, TURNED, SAGITTAL]) {
      for (const plane of Object.values(planesOf(grid))) {
        const view = { width: 300, height: 200, pixelsPerMm: 7, centreMm: [1, 2] as const };
        const pixel = pictureToPixel(view, toPicture(grid, plane, index));
        const back = toIndices(grid, plane, pixelToPicture(view, ...pixel), index);
        back.forEach((at, axis) => {
          expect(at).toBeCloseTo(index[axis], 9);
        });
      }
    }
  });

  test('the first voxel of a plain axial scan is at the upper left', () => {
    expect(toPicture(AXIAL, planesOf(AXIAL).axial, [0, 0, 0])).toEqual([0.4, 0.25]);
  });

  test('a plane fits into its pane', () => {
    // The coronal plane is 1.6 mm wide and 20 mm high.
    expect(fitScale(AXIAL, planesOf(AXIAL).coronal, 1000, 100)).toBeCloseTo(4.8);
  });
});

describe('the spline', () => {
  test('a cubic is its own spline', () => {
    const knots = [0, 1, 8, 27, 64, 125];
    const found = moments(knots, 6);
    [...found].forEach((moment, k) => {
      expect(moment).toBeCloseTo(6 * k, 4);
    });
    expect(splineValue(0.5, knots[2], knots[3], found[2], found[3])).toBeCloseTo(2.5 ** 3, 4);
  });

  test.each([1, 2])('%i slices have no curvature', (depth) => {
    expect([...moments([3, -4].slice(0, depth), depth)]).toEqual(Array(depth).fill(0));
  });

  test('three slices make a parabola', () => {
    const found = moments([0, 1, 4], 3);
    expect([...found]).toEqual([2, 2, 2]);
    expect(splineValue(0.5, 1, 4, 2, 2)).toBeCloseTo(2.25);
  });

  test('columns do not mix', () => {
    const both = moments([0, 5, 1, 5, 8, 5, 27, 5, 64, 5], 5);
    expect([...both].filter((_, i) => i % 2 === 1)).toEqual([0, 0, 0, 0, 0]);
  });
});

describe('windows', () => {
  test('brightness runs from the lower to the upper border', () => {
    const soft = { centreHu: 40, widthHu: 400 };
    expect([-160, -161, 40, 240, 500].map((hu) => brightness(hu, soft))).toEqual([0, 0, 0.5, 1, 1]);
  });

  test('a drag to the right widens, a drag down brightens', () => {
    const start = { centreHu: 40, widthHu: 400 };
    expect(draggedWindow(start, 100, 0)).toEqual({ centreHu: 40, widthHu: 600 });
    const brighter = draggedWindow(start, 0, 20);
    expect(brighter).toEqual({ centreHu: 0, widthHu: 400 });
    expect(brightness(40, brighter)).toBeGreaterThan(brightness(40, start));
  });

  test('a window is never empty', () => {
    expect(draggedWindow({ centreHu: 0, widthHu: 10 }, -5000, 0).widthHu).toBe(1);
    expect(roundedWindow({ centreHu: 1e9, widthHu: -3 })).toEqual({ centreHu: 32767, widthHu: 1 });
  });

  test('presets have their names', () => {
    for (const preset of PRESETS) expect(presetName(preset.window)).toBe(preset.name);
    expect(presetName({ centreHu: 41, widthHu: 400 })).toBe('Free');
  });
});

describe('colour scales', () => {
  test('no difference is dark and grey, both signs are bright and differ', () => {
    const [low, none, high] = [0, 0.5, 1].map((share) => colourAt('difference', share));
    expect(Math.max(...none)).toBeLessThan(40);
    expect(low[2]).toBeGreaterThan(low[0]);
    expect(high[0]).toBeGreaterThan(high[2]);
  });

  test('the legend names the values at the ends of the scale', () => {
    for (const scale of ['deviation', 'difference'] as const) {
      const ticks = legendTicksHu(scale, 80);
      expect(ticks.map((tick) => scaleShare(scale, tick, 80))).toEqual([0, 0.5, 1]);
    }
  });

  test('the table holds both scales', () => {
    const table = colourTable();
    expect([...table.slice(0, 3)]).toEqual(colourAt('deviation', 0));
    expect([...table.slice(-4, -1)]).toEqual(colourAt('difference', 1));
    expect(table.length).toBe(2 * TABLE_WIDTH * 4);
  });
});

describe('measures', () => {
  test('a line of three rows and four slices', () => {
    const line = { from: [0, 0, 0] as Vec3, to: [0.6, 8, 0] as Vec3 };
    expect(lengthMm(AXIAL, line)).toBeCloseTo(5);
  });

  test('a slab has at least one slice', () => {
    expect([0.1, 5, 5.6, 1e6].map((mm) => slabSteps(mm, 1))).toEqual([1, 5, 6, 256]);
  });

  test('numbers have a true minus sign and no negative zero', () => {
    expect([written(-12.34, 1), written(-0.04, 1), written(7)]).toEqual(['\u221212.3', '0.0', '7']);
  });

  test('positions have letters, no signs', () => {
    expect(positionText([12.34, -4, -101.5])).toBe('L 12.3, A 4.0, F 101.5 mm');
  });

  test('ticks are round and cover the range', () => {
    expect(niceTicks(-1000, 1000)).toEqual([-1000, -500, 0, 500, 1000]);
    expect(niceTicks(3, 31)).toEqual([10, 20, 30]);
  });
});

describe('volumes that are too large', () => {
  const [thick, thin]: Vec3[] = [
    [120, 1024, 1024],
    [600, 1024, 1024],
  ];

  test('four pixels become one where that fits', () => {
    expect(textureBytes(thick, thin, false, 1)).toBe(1024 * 1024 * (120 * 6 + 600 * 2));
    expect(chooseReduction(thick, thin, false, 2 ** 30, 2048)).toBe(2);
    expect(chooseReduction([64, 344, 466], [316, 344, 466], false, 2 ** 30, 2048)).toBe(1);
  });

  test('the centre of the first reduced pixel lies between those that it is made of', () => {
    const reduced = reducedGrid({ ...AXIAL, shape: [4, 5, 4] }, 2);
    expect(reduced.shape).toEqual([4, 3, 2]);
    expect(reduced.spacingMm).toEqual([5, 1, 1.6]);
    expect(reduced.originMm).toEqual([10.4, 20.25, 30]);
  });

  test('pixels become their mean, at the border of those that are there', () => {
    const slab = Int16Array.from([0, 2, 10, 4, 6, 20]);
    expect([...reduceSlab(slab, 2, 3, 2)]).toEqual([3, 15]);
  });
});

describe('slices that arrive', () => {
  test('only an unbroken run from the first slice on is ready', () => {
    const arrival = new Arrival(10);
    arrival.add(4, 4);
    expect(arrival.ready).toBe(0);
    arrival.add(0, 4);
    expect(arrival.ready).toBe(8);
    arrival.add(8, 2);
    expect(arrival.isComplete).toBe(true);
  });

  test('slices beyond the volume are refused', () => {
    expect(() => {
      new Arrival(10).add(8, 3);
    }).toThrow(RangeError);
  });
});

test('packed voxels come back', () => {
  const bytes = Uint8Array.from([2, 4, 1, 3, 1, 2, 0, 255, 255, 255]);
  // The first slice is 1, 3 over 0, 0; the second adds -1, 0 over -1, -32768.
  expect([...unpackVoxels(bytes, 8, 2, 2)]).toEqual([1, 3, 0, 0, 0, 3, -1, -32768]);
});
