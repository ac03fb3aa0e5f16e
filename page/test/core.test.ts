import { describe, expect, it } from 'vitest';
import { Averages } from '../src/core/consistency';
import { continuityWarnings } from '../src/core/continuity';
import { roundHalfEven, clampedHu, networkInput } from '../src/core/intensity';
import { extremeEigenvalues, Matrix, solveSymmetric } from '../src/core/matrix';
import { ConsistencyMeter, rmsHu } from '../src/core/meter';
import { conditionFeatures, thinPositions } from '../src/core/network';
import { ThickPart } from '../src/core/part';
import { examine } from '../src/core/plausibility';
import { SliceProfile } from '../src/core/profile';
import { nearestThick, Restorer } from '../src/core/restore';
import { depthSpans, equalSpans, overlapCut, planeCuts, takenBytes, windowSize, type Span } from '../src/core/spans';
import fixture, { largestDifference } from './fixture';

const rows = (spans: readonly Span[]): number[][] =>
  spans.map((span) => [span.start, span.stop, span.outStart, span.outStop, span.trim]);

describe('small matrices', () => {
  it('solve and decompose', () => {
    const matrix = new Matrix(2, 2, Float64Array.of(2, 1, 1, 3));
    const inverse = solveSymmetric(matrix, new Matrix(2, 2, Float64Array.of(1, 0, 0, 1)));
    expect(largestDifference(matrix.times(inverse).values, [1, 0, 0, 1])).toBeLessThan(1e-12);
    const [low, high] = extremeEigenvalues(matrix);
    expect(low).toBeCloseTo((5 - Math.sqrt(5)) / 2, 9);
    expect(high).toBeCloseTo((5 + Math.sqrt(5)) / 2, 9);
  });
});

describe('slice profiles are those of the package', () => {
  for (const expected of fixture.profiles) {
    it(`factor ${expected.factor}, width ${expected.width}`, () => {
      const profile = SliceProfile.mean(expected.factor, expected.width);
      expect(largestDifference(profile.weights, expected.weights)).toBeLessThan(1e-12);
      expect(profile.width).toBeCloseTo(expected.extent, 9);
      expect(profile.supported(9)).toEqual(expected.supported);
      expect(profile.isExact(9)).toBe(expected.exact);
      expect(largestDifference(profile.correction(9).values, expected.correction.flat())).toBeLessThan(1e-8);
      expect(profile.damping).toBeCloseTo(expected.damping, 7);
      expect(largestDifference(conditionFeatures(profile), expected.condition)).toBeLessThan(1e-5);
      expect(largestDifference(thinPositions(expected.factor), expected.positions)).toBeLessThan(1e-5);
      // The page neglects less than the package.
      expect(profile.correctionReach).toBeGreaterThanOrEqual(expected.reach);
    });
  }
});

describe('clamping keeps averages, as in the package', () => {
  for (const expected of fixture.clamping) {
    it(`factor ${expected.factor}, width ${expected.width}`, () => {
      const averages = new Averages(expected.depth, SliceProfile.mean(expected.factor, expected.width));
      const thin = Float32Array.from(expected.thin);
      averages.clampConsistently(Float32Array.from(expected.thick), thin);
      expect(largestDifference(thin, expected.clamped)).toBeLessThan(2e-6);
      expect(Math.min(...thin)).toBeGreaterThanOrEqual(0);
    });
  }
});

describe('values outside the window', () => {
  for (const expected of fixture.restoring) {
    it(`are restored at factor ${expected.factor}`, () => {
      const thick = Int16Array.from(expected.thick);
      const input = Array.from(thick, (hu) => networkInput(hu, expected.paddingHu));
      expect(largestDifference(input, expected.input)).toBe(0);
      const part = new ThickPart({ hu: thick, shape: [4, 2, 5], paddingHu: expected.paddingHu });
      const restorer = new Restorer(part, expected.factor);
      const finished = new Int16Array(expected.estimate.length);
      for (let slice = 0; slice < finished.length / 10; slice++) {
        const hu = Float32Array.from(expected.estimate.slice(slice * 10, slice * 10 + 10), clampedHu);
        restorer.finish(slice, hu, finished.subarray(slice * 10, slice * 10 + 10));
      }
      expect([...finished]).toEqual(expected.finished);
      expect(restorer.voxelsOutsideWindow).toBe(expected.outside);
      const meter = new ConsistencyMeter(SliceProfile.mean(expected.factor), part);
      meter.add(finished.subarray(0, 30));
      meter.add(finished.subarray(30));
      expect(rmsHu([meter])).toBeCloseTo(expected.rmsHu, 3);
    });
  }

  it('belong to the nearest thick slice', () => {
    expect([0, 1, 2, 3, 4, 5, 6].map((thin) => nearestThick(thin, 4))).toEqual([0, 0, 1, 1, 1, 1, 2]);
  });

  it('are rounded as by NumPy', () => {
    expect([0.5, 1.5, -0.5, -1.5, 2.4, -2.6].map(roundHalfEven).map((value) => value + 0)).toEqual([
      0, 2, 0, -2, 2, -3,
    ]);
  });
});

describe('windows', () => {
  it('are those of the package in the plane', () => {
    for (const { pixels, size, count, spans } of fixture.cuts.planes) {
      if (count > 1) expect(windowSize(pixels, count, 13)).toBe(size);
      expect(rows(equalSpans(pixels, size, count))).toEqual(spans);
    }
  });

  it('are those of the package along depth', () => {
    for (const { depth, count, spans } of fixture.cuts.depths)
      expect(rows(depthSpans(depth, 5, 7, count))).toEqual(spans);
  });

  it('give every thin voxel once, within the budget', () => {
    const window = { halo: [7, 13, 13] as const, workingBytes: 96 };
    for (const shape of [
      [64, 344, 466],
      [120, 512, 512],
      [2, 33, 700],
    ] as const) {
      const budget = 512 * 2 ** 20;
      const cut = overlapCut(shape, 5, window, budget);
      expect(takenBytes(cut, 5, window)).toBeLessThanOrEqual(budget);
      for (const [spans, extent] of [
        [cut.depths, (shape[0] - 1) * 5 + 1],
        [cut.heights, shape[1]],
        [cut.widths, shape[2]],
      ] as const) {
        expect(spans.map((span) => span.outStart)).toEqual([0, ...spans.slice(0, -1).map((span) => span.outStop)]);
        expect(spans.at(-1)?.outStop).toBe(extent);
      }
    }
  });

  it('of a plane reach beyond what they give by the halo', () => {
    for (const spans of planeCuts(777, 13)) {
      spans.slice(1).forEach((span, i) => {
        expect(span.trim).toBeGreaterThanOrEqual(13);
        expect(spans[i].stop - spans[i].outStop).toBeGreaterThanOrEqual(13);
      });
    }
  });
});

describe('what voxels look like', () => {
  for (const expected of fixture.plausible) {
    it(expected.name, () => {
      const found = examine(Float32Array.from(expected.values), null);
      expect(found.kind).toBe(expected.kind);
      expect(found.isRefused).toBe(expected.refused);
      if (expected.kind !== 'unit') expect(found.sentence).toBe(expected.sentence);
    });
  }

  it('slices that do not fit are named', () => {
    for (const { shape, hu, warnings } of fixture.continuity) {
      const [depth, height, width] = shape;
      expect(continuityWarnings(Int16Array.from(hu), [depth, height, width])).toEqual(warnings);
    }
  });
});
