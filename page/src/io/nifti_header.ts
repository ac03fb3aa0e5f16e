/**
 * The header of NIfTI-1 and NIfTI-2, checked (`thinslice.io.nifti_header` in Python, in the same words).
 *
 * Source: https://nifti.nimh.nih.gov/pub/dist/src/niftilib/nifti1.h (the format's definition, in its comments).
 */

import { columnLength, diagonal, inverse, isInvertible, largestShiftMm, times, type Affine } from '../core/affine';
import { PageError } from '../core/errors';
import type { Orientations } from '../core/volume';

/** How the voxels are stored. */
export type StoredType = 'u8' | 'i8' | 'u16' | 'i16' | 'u32' | 'i32' | 'f32' | 'f64' | 'i64' | 'u64';

const STORED: ReadonlyMap<number, StoredType> = new Map([
  [2, 'u8'],
  [4, 'i16'],
  [8, 'i32'],
  [16, 'f32'],
  [64, 'f64'],
  [256, 'i8'],
  [512, 'u16'],
  [768, 'u32'],
  [1024, 'i64'],
  [1280, 'u64'],
]);

/** Bytes of the longest header. */
export const LONGEST_HEADER_BYTES = 540;

const LARGEST_OFFSET_BYTES = 64 << 20;

/** Spatial units other than mm (metre, micrometre). */
const MM_PER_UNIT: ReadonlyMap<number, number> = new Map([
  [1, 1000],
  [3, 1e-3],
]);

/** Intents of voxels that are no measurements. */
const LABELS = 1002;
const STATISTICS = [2, 24] as const;

const LARGEST_ORIENTATION_CODE = 5;

/** Two positions that differ by less are the same, mm. */
export const POSITION_TOLERANCE_MM = 1e-3;

export interface NiftiHeader {
  /** Voxels along the file's axes 0, 1 and 2. */
  readonly shape: readonly [number, number, number];
  readonly stored: StoredType;
  readonly isLittleEndian: boolean;
  /** Bytes before the voxels. */
  readonly offset: number;
  readonly slope: number;
  readonly intercept: number;
  /** File indices to RAS mm. */
  readonly affineRas: Affine;
  readonly orientations: Orientations;
  /** The file's own slice axis, or null. */
  readonly sliceAxis: number | null;
  readonly warnings: readonly string[];
}

/** Where the fields of a version lie. */
interface Fields {
  readonly dim: (axis: number) => number;
  readonly pixdim: (axis: number) => number;
  readonly datatype: number;
  readonly offset: number;
  readonly slope: number;
  readonly intercept: number;
  readonly intent: number;
  readonly qformCode: number;
  readonly sformCode: number;
  /** Quaternion b, c, d and offset x, y, z. */
  readonly quatern: readonly number[];
  readonly srow: readonly number[];
  readonly units: number;
  readonly dimInfo: number;
}

/** Whether a file begins as NIfTI does; null where it does not. */
export function niftiVersion(
  head: DataView,
): { readonly version: 1 | 2; readonly isLittleEndian: boolean; readonly isPaired: boolean } | null {
  for (const isLittleEndian of [true, false]) {
    const size = head.byteLength >= 348 ? head.getInt32(0, isLittleEndian) : 0;
    if (size === 348 && /^n[+i]1$/.test(text(head, 344, 3))) {
      return { version: 1, isLittleEndian, isPaired: text(head, 345, 1) === 'i' };
    }
    if (size === 540 && /^n[+i]2$/.test(text(head, 4, 3))) {
      return { version: 2, isLittleEndian, isPaired: text(head, 5, 1) === 'i' };
    }
  }
  return null;
}

/**
 * The checked content of a header.
 *
 * @throws PageError for what cannot be one CT in HU.
 */
export function parseHeader(head: DataView): NiftiHeader {
  const found = niftiVersion(head);
  if (found === null) throw new PageError('This file is not NIfTI; give a .nii or .nii.gz file.');
  if (found.isPaired) {
    throw new PageError('This is one file of a pair (.hdr and .img); this page takes single files, .nii or .nii.gz.');
  }
  if (head.byteLength < (found.version === 1 ? 348 : 540)) {
    throw new PageError('The file is cut short inside its header; copy or download it again.');
  }
  const fields = found.version === 1 ? fieldsOf1(head, found.isLittleEndian) : fieldsOf2(head, found.isLittleEndian);
  const warnings: string[] = [];
  const shape = shapeOf(fields);
  const stored = STORED.get(fields.datatype);
  if (stored === undefined) {
    throw new PageError(
      `The file holds colour, complex or otherwise unusual voxels (NIfTI datatype ${fields.datatype}); ` +
        'a CT in HU has one real number a voxel.',
    );
  }
  const least = found.version === 1 ? 348 : 540;
  if (!(fields.offset >= least && fields.offset <= LARGEST_OFFSET_BYTES && Number.isInteger(fields.offset))) {
    throw new PageError(
      `The header puts the voxels at byte ${fields.offset}, which is impossible; the file is damaged.`,
    );
  }
  const [slope, intercept] = scalingOf(fields, warnings);
  noteIntent(fields, warnings);
  const { affine, orientations } = positionsOf(fields, shape, warnings);
  const unit = MM_PER_UNIT.get(fields.units & 7);
  const sliceAxis = ((fields.dimInfo >> 4) & 3) - 1;
  const common = {
    shape,
    stored,
    isLittleEndian: found.isLittleEndian,
    offset: fields.offset,
    slope,
    intercept,
    sliceAxis: sliceAxis >= 0 ? sliceAxis : null,
  };
  if (unit === undefined) return { ...common, affineRas: affine, orientations, warnings };
  const toMm = diagonal(unit, unit, unit);
  const { otherWorld } = orientations;
  return {
    ...common,
    affineRas: times(toMm, affine),
    orientations: {
      ...orientations,
      otherWorld: otherWorld === null ? null : times(times(toMm, otherWorld), inverse(toMm)),
    },
    warnings: [...warnings, `Positions in the file are in units of ${unit} mm; they were converted to mm.`],
  };
}

function fieldsOf1(head: DataView, little: boolean): Fields {
  const [int16, float] = [(at: number) => head.getInt16(at, little), (at: number) => head.getFloat32(at, little)];
  return {
    dim: (axis) => int16(40 + 2 * axis),
    pixdim: (axis) => float(76 + 4 * axis),
    datatype: int16(70),
    offset: float(108),
    slope: float(112),
    intercept: float(116),
    intent: int16(68),
    qformCode: int16(252),
    sformCode: int16(254),
    quatern: [0, 1, 2, 3, 4, 5].map((i) => float(256 + 4 * i)),
    srow: Array.from({ length: 12 }, (_, i) => float(280 + 4 * i)),
    units: head.getUint8(123),
    dimInfo: head.getUint8(39),
  };
}

function fieldsOf2(head: DataView, little: boolean): Fields {
  const long = (at: number): number => Number(head.getBigInt64(at, little));
  const [int32, double] = [(at: number) => head.getInt32(at, little), (at: number) => head.getFloat64(at, little)];
  return {
    dim: (axis) => long(16 + 8 * axis),
    pixdim: (axis) => double(104 + 8 * axis),
    datatype: head.getInt16(12, little),
    offset: long(168),
    slope: double(176),
    intercept: double(184),
    intent: int32(504),
    qformCode: int32(344),
    sformCode: int32(348),
    quatern: [0, 1, 2, 3, 4, 5].map((i) => double(352 + 8 * i)),
    srow: Array.from({ length: 12 }, (_, i) => double(400 + 8 * i)),
    units: int32(500),
    dimInfo: head.getUint8(524),
  };
}

function shapeOf(fields: Fields): [number, number, number] {
  const count = fields.dim(0);
  if (!(count >= 1 && count <= 7)) {
    throw new PageError(`The header declares ${count} axes; the file is damaged.`);
  }
  const dims = Array.from({ length: count }, (_, axis) => fields.dim(axis + 1));
  if (Math.min(...dims) < 1) {
    throw new PageError(`The header declares an axis of ${Math.min(...dims)} voxels; the file is damaged.`);
  }
  if (dims.slice(3).some((n) => n !== 1)) {
    throw new PageError(
      `The file has ${dims.length} axes (${dims.join(' x ')}); give one volume: split the frames into files of their own first.`,
    );
  }
  const [width, height, depth] = [...dims, 1, 1];
  return [width, height, depth];
}

/** Slope and intercept; a slope of 0 or NaN means none of both, as the format says. */
function scalingOf(fields: Fields, warnings: string[]): readonly [number, number] {
  const { slope, intercept } = fields;
  if (slope === 0 || Number.isNaN(slope)) {
    if (Number.isFinite(intercept) && intercept !== 0) {
      warnings.push(
        `The header has an intercept of ${intercept} beside a slope of ${slope}, which means no scaling; it was not applied.`,
      );
    }
    return [1, 0];
  }
  if (!(Number.isFinite(slope) && Number.isFinite(intercept))) {
    throw new PageError('The file has a scaling that is not finite; repair its header.');
  }
  return [slope, intercept];
}

function noteIntent(fields: Fields, warnings: string[]): void {
  const isStatistic = fields.intent >= STATISTICS[0] && fields.intent <= STATISTICS[1];
  if (fields.intent !== LABELS && !isStatistic) return;
  const kind = fields.intent === LABELS ? 'labels of a segmentation' : 'values of a statistic';
  warnings.push(`The header declares the voxels ${kind} (intent ${fields.intent}), not HU.`);
}

/** The matrix from file indices to RAS in the file's unit, and how the file states positions. */
function positionsOf(
  fields: Fields,
  shape: readonly number[],
  warnings: string[],
): { readonly affine: Affine; readonly orientations: Orientations } {
  const sformCode = codeOf('sform', fields.sformCode, warnings);
  const qformCode = codeOf('qform', fields.qformCode, warnings);
  let sform: Affine | null = sformCode > 0 ? [...fields.srow, 0, 0, 0, 1] : null;
  const qform = qformCode > 0 ? qformOf(fields, warnings, sform === null) : null;
  if (sform !== null && qform !== null && !isInvertible(sform)) {
    warnings.push("The file's sform is zero, singular or not finite; its qform was used.");
    sform = null;
  }
  if (sform !== null) {
    const apart = qform === null ? 0 : largestShiftMm(sform, qform, shape);
    let otherWorld: number[] | null = null;
    if (qform !== null && apart > POSITION_TOLERANCE_MM) {
      warnings.push(
        `The file's two orientations (qform and sform) differ by up to ${Number(apart.toPrecision(3))} mm; the sform was used.`,
      );
      if (isInvertible(sform)) otherWorld = times(qform, inverse(sform));
    }
    return { affine: sform, orientations: { sformCode, qformCode: qform === null ? 0 : qformCode, otherWorld } };
  }
  if (qform !== null) return { affine: qform, orientations: { sformCode: 0, qformCode, otherWorld: null } };
  warnings.push('The file holds no orientation and position; its axes were taken as right, anterior, superior from 0.');
  const [x, y, z] = pixdimOf(fields, warnings);
  return { affine: diagonal(x, y, z), orientations: { sformCode: 0, qformCode: 0, otherWorld: null } };
}

/** The code of an orientation; one that does not exist counts as aligned coordinates, with a warning. */
function codeOf(form: string, code: number, warnings: string[]): number {
  if (code >= 0 && code <= LARGEST_ORIENTATION_CODE) return code;
  warnings.push(`The file's ${form} has the code ${code}, which does not exist; it was taken as 2 (aligned).`);
  return 2;
}

function pixdimOf(fields: Fields, warnings: string[]): [number, number, number] {
  const spacing: [number, number, number] = [fields.pixdim(1), fields.pixdim(2), fields.pixdim(3)];
  if (!spacing.every((mm) => Number.isFinite(mm) && mm !== 0)) {
    throw new PageError(`The file declares voxel spacings of ${spacing.join(', ')} mm; repair its header.`);
  }
  if (Math.min(...spacing) < 0) warnings.push('A negative voxel spacing was taken as positive.');
  return [Math.abs(spacing[0]), Math.abs(spacing[1]), Math.abs(spacing[2])];
}

/** The qform's matrix; null when it is damaged and not needed. */
function qformOf(fields: Fields, warnings: string[], isNeeded: boolean): Affine | null {
  const notes: string[] = [];
  const [b, c, d, x, y, z] = fields.quatern;
  const rest = 1 - (b * b + c * c + d * d);
  const isRotation = Number.isFinite(rest) && rest > -1e-6 && [x, y, z].every(Number.isFinite);
  try {
    const [sx, sy, sz] = pixdimOf(fields, notes);
    if (!isRotation) {
      throw new PageError('The file has an orientation (qform) that is not a rotation; repair its header.');
    }
    warnings.push(...notes);
    return quaternionAffine([b, c, d], [sx, sy, fields.pixdim(0) < 0 ? -sz : sz], [x, y, z]);
  } catch (error) {
    if (isNeeded) throw error;
    warnings.push("The file's qform is damaged; its sform was used.");
    return null;
  }
}

/** The matrix of a quaternion (b, c, d), steps and an offset. */
export function quaternionAffine(
  [b, c, d]: readonly [number, number, number],
  [sx, sy, sz]: readonly [number, number, number],
  [x, y, z]: readonly [number, number, number],
): number[] {
  const rest = 1 - (b * b + c * c + d * d);
  // A rest within rounding of single precision is half a turn.
  let a = Math.abs(rest) < 3 * 2 ** -23 ? 0 : Math.sqrt(Math.max(rest, 0));
  const length = Math.hypot(a, b, c, d);
  a /= length;
  [b, c, d] = [b / length, c / length, d / length];
  return [
    (a * a + b * b - c * c - d * d) * sx,
    2 * (b * c - a * d) * sy,
    2 * (b * d + a * c) * sz,
    x,
    2 * (b * c + a * d) * sx,
    (a * a + c * c - b * b - d * d) * sy,
    2 * (c * d - a * b) * sz,
    y,
    2 * (b * d - a * c) * sx,
    2 * (c * d + a * b) * sy,
    (a * a + d * d - b * b - c * c) * sz,
    z,
    0,
    0,
    0,
    1,
  ];
}

/** Spacings in mm along the file's axes of a regular right-angled grid. */
export function checkedSpacing(affine: Affine): [number, number, number] {
  if (!affine.every(Number.isFinite)) {
    throw new PageError('The file has an orientation matrix with numbers that are not finite; repair its header.');
  }
  const spacing: [number, number, number] = [columnLength(affine, 0), columnLength(affine, 1), columnLength(affine, 2)];
  if (spacing.some((mm) => mm < 1e-4 || mm > 1e3)) {
    throw new PageError(
      `The file has voxel spacings of ${spacing.map((mm) => Number(mm.toPrecision(6))).join(', ')} mm, of which at least one is impossible; repair its header.`,
    );
  }
  let skew = 0;
  for (const [one, other] of [
    [0, 1],
    [0, 2],
    [1, 2],
  ]) {
    const product = [0, 4, 8].reduce((sum, row) => sum + affine[row + one] * affine[row + other], 0);
    skew = Math.max(skew, Math.abs(product) / (spacing[one] * spacing[other]));
  }
  if (skew > 1e-4) {
    const degrees = (Math.asin(Math.min(skew, 1)) * 180) / Math.PI;
    throw new PageError(
      `The file has axes ${Number(degrees.toPrecision(2))} degrees away from right angles (gantry tilt or shear); ` +
        'resample it to an upright grid first.',
    );
  }
  return spacing;
}

function text(head: DataView, at: number, count: number): string {
  return String.fromCharCode(...new Uint8Array(head.buffer, head.byteOffset + at, count));
}
