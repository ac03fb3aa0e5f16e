import { describe, expect, test } from 'vitest';
import { depthMap, indexAt, positionOf, type Grid, type Vec3 } from '../src/core/geometry';
import { between, networkInput, sample, voxelValue, type Voxels } from '../src/core/sampling';
import { moments } from '../src/core/spline';
import fixture from './fixture.json';

interface Case {
  readonly name: string;
  readonly thickGrid: Grid;
  readonly thinGrid: Grid;
  readonly thick: readonly number[];
  readonly nearest: readonly number[];
  readonly paddingHu: number | null;
  readonly linear: readonly number[];
  readonly cubic: readonly number[];
}

const CASES = fixture.cases as unknown as readonly Case[];

function voxelsOf(known: Case, thin: readonly number[] | null = null): Voxels {
  const inside = known.thick.map((hu) => networkInput(hu, known.paddingHu));
  return {
    thickShape: known.thickGrid.shape,
    thick: known.thick,
    moments: moments(inside, known.thickGrid.shape[0]),
    thinShape: known.thinGrid.shape,
    thin,
    deviation: null,
    deviationStepHu: 1,
    depth: depthMap(known.thickGrid, known.thinGrid),
    paddingHu: known.paddingHu,
  };
}

function* places(shape: Vec3): Generator<Vec3> {
  for (let d = 0; d < shape[0]; d++) {
    for (let h = 0; h < shape[1]; h++) for (let w = 0; w < shape[2]; w++) yield [d, h, w];
  }
}

describe.each(CASES)('what the package makes, $name', (known) => {
  const voxels = voxelsOf(known);

  test.each(['linear', 'cubic'] as const)('%s', (mode) => {
    const values = [...places(known.thinGrid.shape)].map((place) => voxelValue(voxels, mode, place) ?? Number.NaN);
    const worst = Math.max(...values.map((value, i) => Math.abs(value - known[mode][i])));
    // Values of the file have three decimals and come from 32-bit arithmetic.
    expect(worst).toBeLessThan(2e-3);
  });

  test('thick is the nearest thick slice', () => {
    const found = known.nearest.map((_, slice) => between(voxels.depth, known.thickGrid.shape[0], slice)?.nearest);
    expect(found).toEqual(known.nearest);
  });

  test('the difference of a thin volume that is the cubic one is nothing', () => {
    const same = voxelsOf(known, known.cubic);
    const middle: Vec3 = [known.thinGrid.shape[0] / 2 - 0.3, 1.4, 2.2];
    expect(Math.abs(sample(same, 'difference', middle) ?? Number.NaN)).toBeLessThan(2e-3);
  });
});

describe('between voxels', () => {
  const known = CASES[1];
  const voxels = voxelsOf(known, known.linear);

  test('a voxel has its own value', () => {
    expect(sample(voxels, 'thin', [7, 2, 3])).toBeCloseTo(known.linear[7 * 20 + 2 * 5 + 3], 9);
  });

  test('halfway along a row is the mean of two voxels', () => {
    const mean = (known.linear[7 * 20 + 2 * 5 + 3] + known.linear[7 * 20 + 2 * 5 + 4]) / 2;
    expect(sample(voxels, 'thin', [7, 2, 3.5])).toBeCloseTo(mean, 9);
  });

  test('thick keeps its steps along the depth', () => {
    const at = (slice: number): number | null => sample(voxels, 'thick', [slice, 2, 2]);
    expect(at(7.4)).toBe(at(5));
    expect(at(7.6)).toBe(at(10));
  });

  test('there is nothing outside the volume', () => {
    expect(sample(voxels, 'thin', [-0.6, 1, 1])).toBeNull();
    expect(sample(voxels, 'thin', [1, 1, 4.6])).toBeNull();
  });

  test('there is no thick value more than half a thick distance beyond the outermost slice', () => {
    expect(between({ start: 0, step: 0.2 }, 3, 12)?.nearest).toBe(2);
    expect(between({ start: 0, step: 0.2 }, 3, 13)).toBeNull();
  });
});

const POSITIONS = fixture.positions as unknown as readonly { grid: Grid; index: Vec3; positionMm: Vec3 }[];

describe('positions are those of the package', () => {
  test.each(POSITIONS)('$index', ({ grid, index, positionMm }) => {
    const found = positionOf(grid, index);
    found.forEach((mm, axis) => {
      expect(mm).toBeCloseTo(positionMm[axis], 9);
    });
    indexAt(grid, found).forEach((at, axis) => {
      expect(at).toBeCloseTo(index[axis], 9);
    });
  });
});
