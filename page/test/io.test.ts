import { zipSync } from 'fflate';
import { describe, expect, it } from 'vitest';
import { gzipSync } from 'node:zlib';
import { chooseFactor, profileWarning, relativeThickness, sliceProfile, usualFactor } from '../src/core/eligibility';
import { isZip, zipMembers } from '../src/io/zip';
import { PageError } from '../src/core/errors';
import { rowsReversed, thinGrid, type Volume } from '../src/core/volume';
import { candidates } from '../src/io/dicom';
import { sliceFacts } from '../src/io/dicom_header';
import { toHu } from '../src/io/hu_reader';
import { chooseAxes, niftiParts, readNifti } from '../src/io/nifti';
import { networkFacts } from '../src/io/onnx_metadata';
import { positionOf } from '../../viewer/src/core/geometry';
import fixture, { largestDifference } from './fixture';

const bytesOf = (base64: string): Uint8Array<ArrayBuffer> => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

describe('NIfTI', () => {
  fixture.files.forEach((expected, number) => {
    it(`file ${number} is read as by the package, plain and gzip`, async () => {
      const bytes = bytesOf(expected.file);
      for (const stored of [bytes, Uint8Array.from(gzipSync(bytes))]) {
        const volume = await readNifti(new Blob([stored]));
        expect([...volume.hu]).toEqual(expected.hu);
        expect(volume.axes).toEqual(expected.axes);
        expect(volume.grid.shape).toEqual(expected.shape);
        expect(largestDifference(volume.grid.spacingMm.map(Number), expected.spacingMm)).toBeLessThan(1e-6);
        expect(largestDifference(volume.grid.originMm, expected.originMm)).toBeLessThan(1e-5);
        expect(largestDifference(volume.grid.direction.flat(), expected.direction.flat())).toBeLessThan(1e-6);
        expect(volume.warnings).toEqual(expected.warnings);
      }
    });

    it(`file ${number} leads to the header that the package writes`, async () => {
      const { grid, axes, orientations } = await readNifti(new Blob([bytesOf(expected.file)]));
      const thin = thinGrid(grid, 3);
      const hu = new Int16Array(thin.shape[0] * thin.shape[1] * thin.shape[2]);
      const [head] = niftiParts(hu, { grid: thin, axes, orientations, description: '' });
      const [found, wanted] = [new DataView(head.buffer), new DataView(bytesOf(expected.thinHeader).buffer)];
      const isFloat = (at: number): boolean => (at >= 76 && at < 120) || (at >= 256 && at < 328);
      for (let at = 0; at < 352; at += 4) {
        if (isFloat(at)) {
          // The format takes NaN and 0 for no scaling; the last digit of a quaternion is the arithmetic's.
          expect(found.getFloat32(at, true), `byte ${at}`).toBeCloseTo(wanted.getFloat32(at, true), 5);
        } else expect(found.getUint32(at, true), `byte ${at}`).toBe(wanted.getUint32(at, true));
      }
    });
  });

  it('is written in the order in which it came', async () => {
    for (const { file } of fixture.files) {
      const bytes = bytesOf(file);
      const { hu, grid, axes, orientations } = await readNifti(new Blob([bytes]));
      const again = await readNifti(new Blob(niftiParts(hu, { grid, axes, orientations, description: '' })));
      expect([...again.hu]).toEqual([...hu]);
      expect(largestDifference(again.grid.originMm, grid.originMm)).toBeLessThan(1e-4);
    }
  });

  it('that is cut short, hostile or no NIfTI is refused', async () => {
    const bytes = bytesOf(fixture.files[0].file);
    await expect(readNifti(new Blob([bytes.subarray(0, 400)]))).rejects.toThrow('cannot hold');
    await expect(readNifti(new Blob(['no volume at all']))).rejects.toThrow(PageError);
    const huge = bytes.slice();
    new DataView(huge.buffer).setInt16(42, 32767, true);
    new DataView(huge.buffer).setInt16(44, 32767, true);
    await expect(readNifti(new Blob([huge]))).rejects.toThrow('cannot hold');
    const packed = gzipSync(bytes);
    await expect(readNifti(new Blob([Uint8Array.from(packed.subarray(0, packed.length - 60))]))).rejects.toThrow(
      PageError,
    );
    const colour = bytes.slice();
    new DataView(colour.buffer).setInt16(70, 128, true);
    await expect(readNifti(new Blob([colour]))).rejects.toThrow('colour');
  });

  it('names the depth axis by the largest spacing', () => {
    expect(chooseAxes([0.7, 0.7, 5], null)).toEqual({ axes: [2, 1, 0], isAmbiguous: false });
    expect(chooseAxes([5, 0.7, 0.7], null)).toEqual({ axes: [0, 2, 1], isAmbiguous: false });
    expect(chooseAxes([1, 1, 1], null)).toEqual({ axes: [2, 1, 0], isAmbiguous: true });
  });
});

describe('stored values', () => {
  it('become 16-bit integers where these are exact', () => {
    expect(toHu(Uint8Array.of(0, 100), 'u8', true, 2, -1000)).toEqual({ hu: Int16Array.of(-1000, -800), warnings: [] });
    expect(toHu(Uint8Array.of(0x01, 0x02), 'i16', false, 1, 0).hu).toEqual(Int16Array.of(0x0102));
    const unsigned = new Uint8Array(Uint16Array.of(10, 64512).buffer);
    expect(toHu(unsigned, 'u16', true, 1, 0).hu).toEqual(Int16Array.of(10, -1024));
  });

  it('stay 32-bit floats elsewhere, and what is not finite becomes air', () => {
    const real = new Uint8Array(Float32Array.of(0.5, NaN, Infinity).buffer);
    const found = toHu(real, 'f32', true, 1, 0);
    expect(found.hu).toEqual(Float32Array.of(0.5, -1024, -1024));
    expect(found.warnings[0]).toContain('2 voxels were not finite');
  });
});

const volume = (spacing: number, slices = 5, thicknessMm: number | null = null): Volume => ({
  hu: new Int16Array(slices * 6).map((_, i) => i),
  grid: {
    shape: [slices, 2, 3],
    spacingMm: [spacing, 0.7, 0.7],
    originMm: [-10, -20, 30],
    direction: [
      [0, 0, 1],
      [0, -1, 0],
      [1, 0, 0],
    ],
  },
  thicknessMm,
  paddingHu: null,
  axes: [2, 1, 0],
  isAxisAmbiguous: false,
  orientations: { sformCode: 1, qformCode: 1, otherWorld: null },
  warnings: [],
});

describe('which scans are upscaled', () => {
  it('by the factor nearest to 1 mm, halves up', () => {
    expect([5, 2.5, 2.49999, 1.4, 8].map(usualFactor)).toEqual([5, 3, 3, 1, 8]);
    expect(chooseFactor(volume(5), null)).toBe(5);
    expect(chooseFactor(volume(1.25), 2)).toBe(2);
  });

  it('and which are refused, with what works', () => {
    expect(() => chooseFactor(volume(1.25), null)).toThrow(
      'already thin for a target of 1 mm (factor 1); choose factor 2',
    );
    expect(() => chooseFactor(volume(10), null)).toThrow('choose factor 8 for 1.25 mm');
    expect(() => chooseFactor(volume(5, 1), null)).toThrow('one slice only');
    expect(() => chooseFactor({ ...volume(5), isAxisAmbiguous: true }, 5)).toThrow('Several axes');
  });

  it('with the profile that the thickness states', () => {
    expect(relativeThickness(volume(2.5, 5, 5))).toBe(2);
    expect(relativeThickness(volume(5, 5, 5.01))).toBe(1);
    expect(relativeThickness(volume(5, 5, 500))).toBe(1);
    expect(sliceProfile(volume(2.5, 5, 5), 3).weights.map((weight) => Math.round(weight * 12))).toEqual([
      1, 2, 2, 2, 2, 2, 1,
    ]);
    expect(profileWarning(volume(2.5, 5, 5))).toBe(
      'Slices 5 mm thick lie 2.5 mm apart, so they overlap; their true profile is used.',
    );
    expect(profileWarning(volume(5))).toBeNull();
  });
});

describe('volumes of DICOM', () => {
  it('lie where they lay after their rows were turned', () => {
    const before = volume(5);
    const after = rowsReversed(before);
    expect([...after.hu.subarray(0, 6)]).toEqual([3, 4, 5, 0, 1, 2]);
    expect(positionOf(after.grid, [2, 1, 1])).toEqual(positionOf(before.grid, [2, 0, 1]));
  });

  it('have facts in their headers, in every encoding', () => {
    for (const { encoding, file } of fixture.dicom) {
      expect(sliceFacts(bytesOf(file)), encoding).toEqual({ seriesNumber: 7, thicknessMm: 2.5 });
    }
    expect(sliceFacts(new Uint8Array(300))).toBeNull();
    // A file that ends anywhere gives what it has.
    const whole = bytesOf(fixture.dicom[0].file);
    for (let end = 0; end < whole.length; end += 7) expect(() => sliceFacts(whole.subarray(0, end))).not.toThrow();
  });

  it('are refused where they had to be corrected, or are no CT', () => {
    const bytes = bytesOf(fixture.files[0].file);
    const made = (stem: string, sidecar = {}) => ({ stem, bytes, sidecar });
    const refusals = (files: ReturnType<typeof made>[], lines: string[] = []): (string | null)[] =>
      candidates(files, [], lines).map(({ refusal }) => refusal);
    expect(refusals([made('s2')])).toEqual([null]);
    expect(refusals([made('s2'), made('s2_Tilt_1'), made('s21')])).toEqual([
      expect.stringContaining('gantry tilt'),
      null,
    ]);
    expect(refusals([made('s2'), made('s2_Eq_1')])).toEqual([expect.stringContaining('equal distances')]);
    expect(refusals([made('s2')], ['Warning: Interslice distance varies'])).toEqual([expect.stringContaining('equal')]);
    expect(refusals([made('s2', { Modality: 'MR' })])).toEqual(['This is MR, not CT.']);
    expect(refusals([made('s2', { ImageType: ['ORIGINAL', 'PRIMARY', 'LOCALIZER'] })])[0]).toContain('localizer');
    const slice = (thicknessMm: number) => ({ seriesNumber: 2, thicknessMm });
    expect(candidates([made('s2')], [slice(4), slice(7)], [])[0].refusal).toContain('from 4 to 7 mm');
    expect(candidates([made('s2', { SeriesNumber: 2 })], [slice(5), slice(5)], [])[0]).toMatchObject({
      label: 'Series 2, 4 slices of 5 x 6, 5 mm apart',
      thicknessMm: 5,
    });
  });
});

describe('facts about a network', () => {
  it('are read from the metadata of its file', () => {
    const json = JSON.stringify({
      name: 'fast',
      version: '1',
      thinslice: '2',
      summary: null,
      weights_sha256: 'ab',
      factors: [2, 3],
      config: { features: 32, unshuffle: 2 },
      halo: [7, 13, 13],
      widest_slice: 2,
    });
    const text = new TextEncoder();
    const field = (number: number, bytes: Uint8Array): number[] => [number * 8 + 2, ...varint(bytes.length), ...bytes];
    const varint = (value: number): number[] => (value < 128 ? [value] : [(value & 127) | 128, ...varint(value >> 7)]);
    const entry = Uint8Array.from([...field(1, text.encode('thinslice')), ...field(2, text.encode(json))]);
    // A version, a graph and a number before it are passed over.
    const file = Uint8Array.from([8, 10, ...field(7, new Uint8Array(300)), 13, 0, 0, 0, 0, ...field(14, entry)]);
    expect(networkFacts(file)).toMatchObject({ name: 'fast', packageVersion: '2', summary: '', factors: [2, 3] });
    expect(() => networkFacts(Uint8Array.of(8, 10))).toThrow(PageError);
  });
});

describe('zip archives', () => {
  const archive = zipSync({
    'a/1.dcm': Uint8Array.of(1, 2),
    'a/': new Uint8Array(0),
    '__MACOSX/a': Uint8Array.of(9),
    'b/2': Uint8Array.of(3),
  });

  it('give their files in order, without what systems add', () => {
    expect(isZip(archive)).toBe(true);
    expect([...zipMembers(archive, 100)].map((member) => [...member])).toEqual([[1, 2], [3]]);
  });

  it('are refused where they are damaged, empty or too large', () => {
    expect(() => [...zipMembers(archive.subarray(0, 40), 100)]).toThrow('damaged');
    expect(() => [...zipMembers(zipSync({}), 100)]).toThrow('no file');
    expect(() => [...zipMembers(archive, 2)]).toThrow('too large');
  });
});
